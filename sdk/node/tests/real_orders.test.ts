/** Orders and questions, with the real sidecar and real traffic. */

import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import {
  affinityFetch,
  Denied,
  InvalidArgument,
  NotFound,
  Outcome,
  type OutriggerError,
  proxyHeader,
  Reason,
  State,
} from "../src/index.js";
import { eventually } from "./support/eventually.js";
import { World } from "./support/world.js";

const TTL = { ttlMs: 60_000 };

let world: World;

before(async () => {
  world = await World.start();
});

after(async () => {
  await world[Symbol.asyncDispose]();
});

test("a weight changes who is picked, until it is taken back", async () => {
  const { client, a, b } = world;
  const ordered = await client.setWeight("api", a.name, 0, { ...TTL, owner: "shop" });
  assert.equal(ordered.effectiveWeight, 0);
  assert.deepEqual(await world.answers(10), new Set([b.name]));
  const [order] = (await world.seen(a)).orders;
  assert.deepEqual(
    [order?.owner, order?.kind, order?.leased],
    ["shop", { $case: "weight", value: 0 }, false],
  );
  const left = (order?.expiresAt?.getTime() ?? 0) - Date.now();
  assert.ok(left > 50_000 && left <= 60_000, `${left}`);
  assert.equal((await client.clearWeight("api", a.name, { owner: "shop" })).effectiveWeight, 1);
  assert.deepEqual(await world.answers(10), new Set([a.name, b.name]));
});

test("an order with a TTL is over when that is", async () => {
  const { client, a } = world;
  const start = performance.now();
  const ordered = await client.scaleWeight("api", a.name, 0.5, { ttlMs: 300 });
  assert.equal(ordered.effectiveWeight, 0.5);
  await eventually("it is over", async () => (await world.seen(a)).effectiveWeight === 1);
  const lasted = performance.now() - start;
  assert.ok(lasted >= 290 && lasted < 1000, `${lasted}`);
});

test("a key goes where it is pinned, and it is said why", async () => {
  const { client, a, b } = world;
  const home = await client.setAffinity("api", "user-1", undefined, TTL);
  assert.ok([a.name, b.name].includes(home));
  assert.deepEqual(await world.answers(10, affinityFetch("user-1")), new Set([home]));
  for (const { name } of [a, b]) {
    assert.equal(await client.setAffinity("api", "user-1", name, TTL), name);
    assert.deepEqual(await world.answers(10, affinityFetch("user-1")), new Set([name]));
    const { backend, reason, pinnedTo, pin } = await client.affinity("api", "user-1");
    assert.deepEqual([backend, reason, pinnedTo, pin?.owner], [name, Reason.PIN, name, "sdk"]);
    const { picked, reason: why, backends } = await client.explain("api", "user-1");
    assert.deepEqual([picked, why, backends.length], [name, Reason.PIN, 2]);
  }
  assert.equal(await client.clearAffinity("api", "user-1"), true);
  assert.equal(await client.clearAffinity("api", "user-1"), false);
  assert.equal((await client.affinity("api", "user-1")).pinnedTo, "");
});

test("a connection goes where its key is pinned", async () => {
  const { client, sidecar, a, b } = world;
  const [host = "", port = ""] = sidecar.listener("db").split(":");
  for (const { name } of [a, b, a, b]) {
    await client.setAffinity("api", "user-2", name, TTL);
    const socket = connect(Number(port), host);
    const ends = [
      { address: "10.0.0.1", port: 1 },
      { address: "10.0.0.2", port: 2 },
    ] as const;
    socket.write(proxyHeader("user-2", ...ends));
    socket.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = "";
    for await (const bytes of socket) {
      answer += bytes;
    }
    assert.ok(answer.includes(name), `${name}: ${answer}`);
  }
});

test("a backend that drains is waited for, and comes back", async () => {
  const { client, sidecar, a, b } = world;
  await client.setAffinity("api", "slow", a.name, TTL);
  const slow = affinityFetch("slow")(`http://${sidecar.listener("web")}/slow`);
  const asked = await eventually("it is asked", () => a.slow[0]);
  const draining = await client.drain("api", a.name, { ...TTL, timeoutMs: 30_000 });
  assert.deepEqual([draining.state, draining.drained], [State.DRAINING, false]);
  assert.deepEqual(await world.answers(10), new Set([b.name]));
  const drained = client.waitDrained("api", a.name);
  asked.end("at last");
  assert.equal(await (await slow).text(), "at last");
  assert.deepEqual(await drained, { forced: 0, resumed: false });
  await client.resume("api", a.name);
  await client.clearAffinity("api", "slow");
  assert.deepEqual(await world.answers(10), new Set([a.name, b.name]));
});

test("who waits for a drain is told that it was taken back", async () => {
  const { client, sidecar, a } = world;
  await client.setAffinity("api", "slow", a.name, TTL);
  const slow = affinityFetch("slow")(`http://${sidecar.listener("web")}/slow`);
  const asked = await eventually("it is asked", () => a.slow[1]);
  await client.drain("api", a.name, TTL);
  const drained = client.waitDrained("api", a.name);
  await client.resume("api", a.name);
  assert.equal((await drained).resumed, true);
  asked.end();
  await slow;
  await client.clearAffinity("api", "slow");
});

test("what the app reports counts", async () => {
  const { client, b } = world;
  await client.report("api", b.name, Outcome.SUCCESS, { latencyMs: 2, count: 3 });
  await client.report("api", b.name, Outcome.RESET, { count: 5 });
  await eventually("it is ejected", async () => (await world.seen(b)).state === State.EJECTED);
});

test("events are there, and can be waited for", async () => {
  const { client, a } = world;
  const { events, latest } = await client.events({ cluster: "api" });
  assert.equal(events.at(-1)?.cluster, "api");
  assert.ok(events.every((event, i) => i === 0 || event.id > (events[i - 1]?.id ?? 0)));
  const next = client.events({ cluster: "api", after: latest, waitMs: 10_000 });
  await client.setWeight("api", a.name, 3, TTL);
  const [event] = (await next).events;
  assert.deepEqual([event?.kind, event?.backend], ["weight", a.name]);
  assert.ok(Math.abs((event?.at?.getTime() ?? 0) - Date.now()) < 10_000);
  await client.clearWeight("api", a.name);
});

test("what there is not is said", async () => {
  const { client, a } = world;
  const missing = async (call: Promise<unknown>, resourceType: string, resourceName: string) => {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof NotFound, `${error}`);
      assert.deepEqual([error.resourceType, error.resourceName], [resourceType, resourceName]);
      return true;
    });
  };
  await missing(client.setWeight("nope", a.name, 1, TTL), "cluster", "nope");
  await missing(client.affinity("nope", "k"), "cluster", "nope");
  await missing(client.clearAffinity("nope", "k"), "cluster", "nope");
  await missing(client.clusters("nope"), "cluster", "nope");
  await missing(client.explain("nope"), "cluster", "nope");
  await missing(client.events({ cluster: "nope" }), "cluster", "nope");
  await missing(client.watch("nope").next(), "cluster", "nope");
  await missing(client.setWeight("api", "nope", 1, TTL), "backend", "nope");
  await missing(client.scaleWeight("api", "nope", 1, TTL), "backend", "nope");
  await missing(client.clearWeight("api", "nope"), "backend", "nope");
  await missing(client.setAffinity("api", "k", "nope", TTL), "backend", "nope");
  await missing(client.drain("api", "nope", TTL), "backend", "nope");
  await missing(client.resume("api", "nope"), "backend", "nope");
  await missing(client.waitDrained("api", "nope"), "backend", "nope");
  await missing(client.report("api", "nope", Outcome.RESET), "backend", "nope");
});

test("what is not accepted is named", async () => {
  const { client, a } = world;
  const refused = async (call: Promise<unknown>, field: string) => {
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof InvalidArgument, `${error}`);
      assert.deepEqual(
        error.violations.map((one) => one.field),
        [field],
        error.message,
      );
      return true;
    });
  };
  await refused(client.setWeight("api", a.name, 65_536, TTL), "weight");
  await refused(client.scaleWeight("api", a.name, 1001, TTL), "factor");
  await refused(client.scaleWeight("api", a.name, Number.NaN, TTL), "factor");
  await refused(client.setWeight("api", a.name, 1, { ttlMs: 0 }), "ttl");
  await refused(client.setWeight("api", a.name, 1, { ttlMs: 24 * 3_600_000 + 1 }), "ttl");
  await refused(client.setWeight("api", a.name, 1, { ...TTL, owner: "admin" }), "owner");
  await refused(client.setAffinity("api", "", a.name, TTL), "key");
  await refused(client.setAffinity("api", "k".repeat(257), a.name, TTL), "key");
  await refused(client.drain("api", a.name, { ...TTL, timeoutMs: 24 * 3_600_000 + 1 }), "timeout");
  await refused(client.report("api", a.name, Outcome.UNSPECIFIED), "outcome");
  await refused(client.report("api", a.name, Outcome.RESET, { count: 1001 }), "count");
  await refused(client.report("api", a.name, Outcome.RESET, { latencyMs: -1 }), "latency");
  await refused(client.events({ waitMs: -1 }), "wait");
  await refused(client.lease("two words"), "owner");
  await refused(client.lease("fleet"), "owner");
  assert.deepEqual((await world.seen(a)).orders, []);
});

test("an app may not take back what others have ordered", async () => {
  const { client, a } = world;
  const denied = (error: OutriggerError) =>
    error instanceof Denied && error.code === "PERMISSION_DENIED";
  await assert.rejects(client.clearWeight("api", a.name, { all: true }), denied);
  await assert.rejects(client.resume("api", a.name, { all: true }), denied);
});
