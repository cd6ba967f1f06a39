/** The examples work as they stand. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { World } from "./support/world.js";

/** From build/tests. */
const PACKAGE = fileURLToPath(new URL("../..", import.meta.url));
const EXAMPLE = join(PACKAGE, "../../examples/node/deploy.mjs");

/** What it prints, with the backends called OLD and NEW. */
async function run({ sidecar, a, b }: World, script: string, ...more: string[]): Promise<string[]> {
  const env = { ...process.env, OUTRIGGER_CONTROL: sidecar.control };
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...more], { env });
  return stdout.replaceAll(a.name, "OLD").replaceAll(b.name, "NEW").trim().split("\n");
}

test("the deploy of examples/node keeps its session in place", async () => {
  await using world = await World.start();
  const url = `http://${world.sidecar.listener("web")}/`;
  const said = await run(world, EXAMPLE, url, "api", world.a.name, world.b.name);
  assert.equal(said[0], "at 0 %: OLD 20; session-7: OLD 20");
  assert.match(said[1] ?? "", /^at 50 %: (NEW|OLD) \d+, (NEW|OLD) \d+; session-7: OLD 20$/);
  assert.equal(said[2], "at 100 %: NEW 20; session-7: OLD 20");
  assert.equal(said[3], "drained, 0 by force; session-7: NEW 20");
  assert.match(said[4] ?? "", /^what the sidecar saw: .*weight NEW.*draining OLD.*drained OLD/);
  assert.deepEqual((await world.seen(world.a)).orders, []);
});

test("the deploy of examples/node does nothing without a sidecar", async () => {
  await using world = await World.start();
  await world.sidecar.kill();
  const [said] = await run(world, EXAMPLE);
  assert.match(said ?? "", /^no deploy: sidecar at .*control.sock: /);
});

test("the example of the README runs", async () => {
  await using world = await World.start();
  const readme = await readFile(join(PACKAGE, "README.md"), "utf8");
  const [, code = ""] = /```js\n(.*?)```/s.exec(readme) ?? [];
  const here = code
    .replace("10.0.0.1:8080", world.a.name)
    .replace("127.0.0.1:8080", world.sidecar.listener("web"));
  assert.ok(here.includes(world.a.name) && here.includes(world.sidecar.listener("web")));
  // Beside the package's own code, where its name means itself.
  const script = join(PACKAGE, "build/readme.mjs");
  await writeFile(script, here);
  await run(world, script);
});
