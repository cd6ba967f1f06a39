/** What watches make of what they are told, and of being cut off. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { Backend, WatchClusterResponse } from "../src/generated/outrigger/v1/control.js";
import { Client, NotFound, type View } from "../src/index.js";
import { eventually } from "./support/eventually.js";
import { FakeSidecar } from "./support/fake.js";

let fake: FakeSidecar;
let client: Client;

beforeEach(async () => {
  fake = await FakeSidecar.start();
  client = new Client({ address: fake.address });
});

afterEach(async () => {
  await client.close();
  fake.kill();
});

/** Backends are given as `name` or `name=weight`. */
function message(version: number, changed: string[], rest: Partial<WatchClusterResponse> = {}) {
  const backends = changed.map((text) => {
    const [name = "", weight = "1"] = text.split("=");
    return Backend.create({ name, effectiveWeight: Number(weight) });
  });
  return WatchClusterResponse.create({ instance: "one", version, changed: backends, ...rest });
}

function told(view: View | undefined): [number, string[]] {
  const backends = [...(view?.backends.values() ?? [])];
  return [view?.version ?? 0, backends.map((b) => `${b.name}=${b.effectiveWeight}`).sort()];
}

async function next(views: AsyncGenerator<View, void>): Promise<[number, string[]]> {
  return told((await views.next()).value ?? undefined);
}

test("each view is whole", async () => {
  const views = client.watch("api");
  const first = views.next();
  const watch = await fake.watch(0);
  assert.deepEqual(watch.request, { cluster: "api", instance: "", version: 0 });
  watch.write(message(1, ["a"], { full: true, more: true }));
  watch.write(message(1, ["b"]));
  assert.deepEqual(told((await first).value ?? undefined), [1, ["a=1", "b=1"]]);
  watch.write(message(2, ["a=5", "c"], { more: true }));
  watch.write(message(3, [], { removed: ["b"], panic: true }));
  const second = (await views.next()).value;
  assert.deepEqual(told(second ?? undefined), [3, ["a=5", "c=1"]]);
  assert.equal(second?.panic, true);
  watch.write(message(4, ["d"], { full: true }));
  assert.deepEqual(await next(views), [4, ["d=1"]]);
  assert.deepEqual(told(second ?? undefined), [3, ["a=5", "c=1"]]);
});

test("a watch goes on where it was, and of half a change nothing is left", async () => {
  const views = client.watch("api");
  const first = views.next();
  const watch = await fake.watch(0);
  watch.write(message(1, ["a"], { full: true }));
  await first;
  const second = next(views);
  watch.write(message(2, ["ghost"], { full: true, more: true }));
  watch.emit("error", { code: status.INTERNAL });
  const again = await fake.watch(1);
  assert.deepEqual(again.request, { cluster: "api", instance: "one", version: 1 });
  again.write(message(3, ["b"]));
  assert.deepEqual(await second, [3, ["a=1", "b=1"]]);
});

test("a watch lives on through a restart of the sidecar", async () => {
  const views = client.watch("api");
  const first = views.next();
  (await fake.watch(0)).write(message(9, ["a"], { full: true }));
  await first;
  const second = next(views);
  fake.kill();
  await fake.start();
  (await fake.watch(1)).write(message(1, ["b"], { instance: "two", full: true }));
  assert.deepEqual(await second, [1, ["b=1"]]);
});

test("a watch that the sidecar ends in peace is begun again", async () => {
  const views = client.watch("api");
  const first = views.next();
  const watch = await fake.watch(0);
  watch.write(message(1, ["a"], { full: true }));
  await first;
  const second = next(views);
  watch.end();
  (await fake.watch(1)).write(message(2, ["b"]));
  assert.deepEqual(await second, [2, ["a=1", "b=1"]]);
});

test("a watch that has known nothing fails like a call", async () => {
  fake.fail("watchCluster", { code: status.NOT_FOUND });
  await assert.rejects(client.watch("api").next(), NotFound);
  const views = client.watch("api");
  const first = views.next();
  (await fake.watch(0)).end();
  await assert.rejects(first, { name: "Unavailable" });
});

test("a watch ends with an error when its cluster is gone", async () => {
  const views = client.watch("api");
  const first = views.next();
  const watch = await fake.watch(0);
  watch.write(message(1, ["a"], { full: true }));
  await first;
  watch.emit("error", { code: status.NOT_FOUND });
  await assert.rejects(views.next(), NotFound);
});

test("a signal ends a watch with its reason", async () => {
  const reason = new Error("enough");
  for (const whenCutOff of [false, true]) {
    const patience = new AbortController();
    const views = client.watch("api", patience);
    const first = views.next();
    const watch = await fake.watch(whenCutOff ? 1 : 0);
    watch.write(message(1, ["a"], { full: true }));
    await first;
    const second = views.next();
    if (whenCutOff) {
      fake.kill();
    }
    patience.abort(reason);
    await assert.rejects(second, reason);
  }
});

test("leaving the loop ends the watch at the sidecar", async () => {
  const write = fake.watch(0).then((watch) => watch.write(message(1, ["a"], { full: true })));
  for await (const view of client.watch("api")) {
    assert.equal(view.version, 1);
    break;
  }
  await write;
  await eventually("the sidecar is told", () => fake.watches[0]?.cancelled);
});
