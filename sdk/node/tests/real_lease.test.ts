/** Leases and watches of the real sidecar, when either side dies. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Denied, Reason, State, type View } from "../src/index.js";
import { eventually } from "./support/eventually.js";
import { World } from "./support/world.js";

let world: World;

before(async () => {
  world = await World.start('listen = "127.0.0.1:0"');
});

after(async () => {
  await world[Symbol.asyncDispose]();
});

test("when the app is killed its orders are over within a second", async () => {
  const { client, sidecar, a, b } = world;
  const script = fileURLToPath(new URL("support/app.js", import.meta.url));
  const app = spawn(process.execPath, [script, sidecar.control, a.name, b.name], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(app.stdout, "data");
  assert.deepEqual(
    (await world.seen(a)).orders.map((order) => [order.owner, order.leased]),
    [
      ["shop", true],
      ["shop", true],
    ],
  );
  assert.equal((await world.seen(a)).state, State.DRAINING);
  assert.equal((await world.seen(b)).effectiveWeight, 3);
  assert.equal((await client.affinity("api", "user-1")).pinnedTo, a.name);
  app.kill("SIGKILL");
  const killed = performance.now();
  await eventually("all of it is over", async () => {
    const [one, other] = [await world.seen(a), await world.seen(b)];
    const { pinnedTo } = await client.affinity("api", "user-1");
    return one.orders.length + other.orders.length === 0 && !pinnedTo && one.state === State.READY;
  });
  assert.ok(performance.now() - killed < 1000);
  assert.equal((await world.seen(b)).effectiveWeight, 1);
});

test("when a lease is closed its orders are over", async () => {
  const { client, a } = world;
  const lease = await client.lease("shop");
  await lease.setWeight("api", a.name, 0);
  await lease.drain("api", a.name);
  await lease.resume("api", a.name);
  const home = await lease.setAffinity("api", "user-2");
  assert.equal((await client.affinity("api", "user-2")).backend, home);
  assert.equal((await world.seen(a)).orders.length, 1);
  await lease.close();
  assert.deepEqual((await world.seen(a)).orders, []);
  assert.notEqual((await client.affinity("api", "user-2")).reason, Reason.PIN);
});

test("an order ends with its own lease only", async () => {
  const { client, a } = world;
  await using one = await client.lease("one");
  await using other = await client.lease("other");
  await one.scaleWeight("api", a.name, 2);
  await other.scaleWeight("api", a.name, 3);
  assert.equal((await world.seen(a)).effectiveWeight, 6);
  assert.equal((await other.setWeight("api", a.name, 10)).effectiveWeight, 20);
  assert.equal((await other.clearWeight("api", a.name)).effectiveWeight, 2);
  await assert.rejects(client.clearWeight("api", a.name, { all: true }), Denied);
  assert.equal((await one.clearWeight("api", a.name)).effectiveWeight, 1);
});

test("leases and watches live on when the sidecar is killed", async () => {
  const { client, sidecar, a, b } = world;
  await using lease = await client.lease("shop");
  await lease.setWeight("api", a.name, 7);
  await lease.setWeight("api", b.name, 9);
  await lease.clearWeight("api", b.name);
  await lease.setAffinity("api", "user-3", b.name);
  await lease.drain("api", b.name);
  const patience = new AbortController();
  const views = client.watch("api", patience);
  const next = async () => (await views.next()).value as View;
  const first = await next();
  assert.equal(first.backends.get(a.name)?.effectiveWeight, 7);

  await sidecar.restart();

  const restored = (view: View) => {
    const [one, other] = [view.backends.get(a.name), view.backends.get(b.name)];
    return one?.effectiveWeight === 7 && other?.state === State.DRAINING && other.pins === 1;
  };
  let view = await next();
  while (!restored(view)) {
    view = await next();
  }
  assert.notEqual(view.instance, first.instance);
  assert.equal(view.backends.get(b.name)?.orders.length, 1);
  assert.equal((await client.affinity("api", "user-3")).pinnedTo, b.name);
  patience.abort();
  await assert.rejects(views.next(), { name: "AbortError" });
});

test("a watch sees every change", async () => {
  const { client, a } = world;
  await using lease = await client.lease("shop");
  let weight = 1;
  for await (const view of client.watch("api")) {
    if (view.backends.get(a.name)?.effectiveWeight !== weight) {
      continue;
    }
    if (weight === 5) {
      break;
    }
    weight += 1;
    await lease.setWeight("api", a.name, weight);
  }
});
