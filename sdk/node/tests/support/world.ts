/** A sidecar with two backends, and an app beside it. */

import { Client, type ClientOptions } from "../../src/index.js";
import { Backend } from "./backend.js";
import { Sidecar } from "./sidecar.js";

/** Two backends of a cluster `api`, behind a listener `web` for HTTP and one `db` for TCP. */
export class World implements AsyncDisposable {
  private constructor(
    readonly sidecar: Sidecar,
    readonly client: Client,
    readonly a: Backend,
    readonly b: Backend,
  ) {}

  /** With this table `[control]`, and more of the client's options. */
  static async start(control?: string, options: ClientOptions = {}): Promise<World> {
    const [a, b] = [await Backend.start(), await Backend.start()];
    const config = `
      [listeners.web]
      listen = "127.0.0.1:0"
      cluster = "api"
      [listeners.db]
      listen = "127.0.0.1:0"
      protocol = "tcp"
      cluster = "api"
      proxy_protocol = true
      trusted_cidrs = ["127.0.0.0/8"]
      [clusters.api.discovery]
      source = "static"
      endpoints = [{ address = "${a.name}" }, { address = "${b.name}" }]`;
    const sidecar = await Sidecar.start(config, control);
    const client = new Client({ address: sidecar.control, ...options });
    return new World(sidecar, client, a, b);
  }

  /** Which backends answer so many requests. */
  async answers(count: number, fetch = globalThis.fetch): Promise<Set<string>> {
    const names = new Set<string>();
    for (let i = 0; i < count; i += 1) {
      names.add(await (await fetch(`http://${this.sidecar.listener("web")}/`)).text());
    }
    return names;
  }

  /** A backend as the sidecar sees it. */
  async seen({ name }: Backend) {
    const [cluster] = await this.client.clusters("api");
    const backend = cluster?.backends.find((backend) => backend.name === name);
    if (!backend) {
      throw new Error(`no backend ${name}`);
    }
    return backend;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
    await this.sidecar[Symbol.asyncDispose]();
    await this.a[Symbol.asyncDispose]();
    await this.b[Symbol.asyncDispose]();
  }
}
