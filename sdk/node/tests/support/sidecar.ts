/** The real sidecar. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { eventually } from "./eventually.js";
import { temporaryDir } from "./temporary.js";

const BINARY = process.env.OUTRIGGER_BIN ?? "../../target/debug/outrigger";

export class Sidecar implements AsyncDisposable {
  /** Where the control API is. */
  control = "";
  readonly #listeners = new Map<string, string>();
  #process: ChildProcess | undefined;

  private constructor(
    readonly dir: string,
    private readonly config: string,
  ) {}

  /**
   * Starts with this configuration and the table `[control]`, in which `{dir}` is a directory of its own,
   * and waits until it is ready. Give it port 0 everywhere.
   */
  static async start(
    config: string,
    control = 'listen = "unix:{dir}/control.sock"',
  ): Promise<Sidecar> {
    const dir = await temporaryDir();
    const whole = `${config}\n[control]\n${control}`;
    const sidecar = new Sidecar(dir, whole.replaceAll("{dir}", dir));
    try {
      await sidecar.#run(sidecar.config);
    } catch (error) {
      await sidecar.kill();
      throw error;
    }
    return sidecar;
  }

  /** The address of a listener. */
  listener(name: string): string {
    return this.#listeners.get(name) ?? `no listener ${name}`;
  }

  /** As a crash would. */
  async kill(): Promise<void> {
    const process = this.#process;
    if (process && process.exitCode === null && process.signalCode === null) {
      process.kill("SIGKILL");
      await once(process, "exit");
    }
  }

  /** Starts it again, with the control API where it was. */
  async restart(): Promise<void> {
    await this.kill();
    await this.#run(this.config.replace(/(\[control\]\nlisten = )".*"/, `$1"${this.control}"`));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async #run(config: string): Promise<void> {
    const file = join(this.dir, "outrigger.toml");
    await writeFile(file, config);
    const child = spawn(BINARY, ["run", "-c", file], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        OUTRIGGER_ADMIN__LISTEN: "127.0.0.1:0",
        OUTRIGGER_LOG__FORMAT: "json",
      },
    });
    await once(child, "spawn");
    this.#process = child;
    const said: string[] = [];
    let admin = "";
    createInterface(child.stderr).on("line", (line) => {
      said.push(line);
      const event = JSON.parse(line) as Record<string, string>;
      if (event.message === "listening") {
        this.#listeners.set(event.listener ?? "", event.address ?? "");
      } else if (event.message === "started") {
        this.control = event.control ?? "";
        admin = event.admin ?? "";
      }
    });
    await eventually(
      "the sidecar is ready",
      async () => {
        if (child.exitCode !== null) {
          throw new Error(`the sidecar has ended: ${said.join("\n")}`);
        }
        return admin && (await fetch(`http://${admin}/readyz`).catch(() => undefined))?.ok;
      },
      15_000,
    );
  }
}
