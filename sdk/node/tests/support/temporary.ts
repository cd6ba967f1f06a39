import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A directory that is gone when the process is. */
export async function temporaryDir(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "outrigger-node-"));
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
