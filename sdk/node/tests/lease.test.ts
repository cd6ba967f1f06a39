/** What becomes of a lease and its orders when the sidecar goes and comes. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { ResourceInfo, RetryInfo } from "../src/generated/errors.js";
import { Backend } from "../src/generated/outrigger/v1/control.js";
import {
  Client,
  Exhausted,
  type Lease,
  NotFound,
  OutriggerError,
  Unavailable,
} from "../src/index.js";
import { eventually } from "./support/eventually.js";
import { type Failure, FakeSidecar } from "./support/fake.js";

let fake: FakeSidecar;
let client: Client;
let lease: Lease;

beforeEach(async () => {
  fake = await FakeSidecar.start();
  client = new Client({ address: fake.address });
  lease = await client.lease("shop");
});

afterEach(async () => {
  await client.close();
  fake.kill();
});

/** Cuts the lease off, and forgets what was seen before. */
async function cutOff(): Promise<void> {
  const next = fake.leases.length;
  fake.seen.length = 0;
  fake.leases[next - 1]?.emit("error", { code: status.INTERNAL });
  await fake.lease(next);
}

/** Orders as `method subject` under the lease with this number, as they have come. */
function ordered(number: number): string[] {
  const leaseId = `lease-${number}`;
  return fake.seen
    .filter(({ request }) =>
      [(request.lifetime as { value?: string })?.value, request.leaseId].includes(leaseId),
    )
    .map(({ method, request }) => `${method} ${request.key ?? ""}${request.backend}`)
    .sort();
}

function missing(resourceType: string): Failure {
  const value = ResourceInfo.encode(ResourceInfo.create({ resourceType })).finish();
  return { code: status.NOT_FOUND, details: [{ typeUrl: "a/google.rpc.ResourceInfo", value }] };
}

test("all orders name the lease", async () => {
  await lease.setWeight("api", "a", 1);
  await lease.scaleWeight("api", "a", 2);
  await lease.setAffinity("api", "k", "a");
  await lease.drain("api", "a");
  await lease.clearWeight("api", "a");
  await lease.resume("api", "a");
  assert.deepEqual(ordered(1), [
    "clearWeight a",
    "drain a",
    "resume a",
    "setAffinity ka",
    "setWeight a",
    "setWeight a",
  ]);
  assert.deepEqual(await lease.clearAffinity("api", "k"), false);
});

test("the owner is told once, and the lease ends when it is closed", async () => {
  const call = await fake.lease(0);
  const ended = new Promise((resolve) => call.once("end", resolve));
  await lease.close();
  await ended;
  const closed = {
    name: "OutriggerError",
    code: "CANCELLED",
    message: "lease of `shop`: it is closed",
  };
  await assert.rejects(lease.setWeight("api", "a", 1), closed);
  await lease.close();
});

test("what was ordered and not taken back is ordered again", async () => {
  await lease.setWeight("api", "a", 1);
  await lease.scaleWeight("api", "a", 0.5);
  await lease.setWeight("api", "a", 2);
  await lease.setWeight("api", "b", 3);
  await lease.clearWeight("api", "b");
  await lease.setAffinity("api", "k", "a");
  await lease.setAffinity("api", "gone", "a");
  await lease.clearAffinity("api", "gone");
  await lease.drain("api", "c");
  await lease.drain("api", "d");
  await lease.resume("api", "d");
  await cutOff();
  const again = ["drain c", "setAffinity ka", "setWeight a"];
  await eventually("all is ordered again", () => ordered(2).length >= again.length);
  assert.deepEqual(ordered(2), again);
  const [change] = fake.requests("setWeight").map(({ change }) => change);
  assert.deepEqual(change, { $case: "weight", value: 2 });
});

test("it is ordered again of a sidecar that has started anew", async () => {
  await lease.setWeight("api", "a", 1);
  fake.kill();
  await assert.rejects(lease.setWeight("api", "b", 1), Unavailable);
  fake.seen.length = 0;
  await fake.start();
  await eventually("it is ordered again", () => ordered(2).length > 0);
  assert.deepEqual(ordered(2), ["setWeight a"]);
});

test("a key stays where it was found to live", async () => {
  fake.answers.setAffinity = () => ({ backend: "a" });
  assert.equal(await lease.setAffinity("api", "k"), "a");
  await cutOff();
  await eventually("it is ordered again", () => ordered(2).length > 0);
  assert.deepEqual(ordered(2), ["setAffinity ka"]);
});

test("what was ordered under one name of a backend may be taken back under another", async () => {
  const named = () => ({ backend: Backend.create({ name: "10.0.0.1:80" }) });
  Object.assign(fake.answers, {
    setWeight: named,
    drain: named,
    clearWeight: named,
    resume: named,
  });
  await lease.setWeight("api", "node-a", 1);
  await lease.drain("api", "node-a");
  await lease.setAffinity("api", "k", "a");
  await lease.clearWeight("api", "10.0.0.1:80");
  await lease.resume("api", "10.0.0.1:80");
  await cutOff();
  await eventually("the pin is ordered again", () => ordered(2).length > 0);
  await lease.setWeight("api", "b", 1);
  assert.deepEqual(ordered(2), ["setAffinity ka", "setWeight b"]);
});

test("the time of a drain goes on while the sidecar is away", async () => {
  await lease.drain("api", "a", { timeoutMs: 10_000 });
  await cutOff();
  await eventually("it is ordered again", () => ordered(2).length > 0);
  const timeout = fake.requests("drain")[0]?.timeout as { seconds: number };
  assert.equal(timeout.seconds, 9);
});

test("an order that failed is not remembered, and the one before it is", async () => {
  await lease.setWeight("api", "a", 1);
  fake.fail("setWeight", missing("backend"));
  fake.fail("clearWeight", missing("backend"));
  await assert.rejects(lease.setWeight("api", "a", 2), NotFound);
  await assert.rejects(lease.clearWeight("api", "a"), NotFound);
  await cutOff();
  await eventually("it is ordered again", () => ordered(2).length > 0);
  assert.deepEqual(fake.requests("setWeight")[0]?.change, { $case: "weight", value: 1 });
});

test("what the sidecar does not know yet is ordered until it does", async () => {
  await lease.setWeight("api", "a", 1);
  fake.fail("setWeight", missing("backend"), missing("backend"));
  await cutOff();
  await eventually("it is ordered a third time", () => ordered(2).length >= 3);
});

test("too fast is answered by slower", async () => {
  await lease.setWeight("api", "a", 1);
  const value = RetryInfo.encode({ retryDelay: { seconds: 0, nanos: 3e8 } }).finish();
  const details = [{ typeUrl: "a/google.rpc.RetryInfo", value }];
  fake.fail("setWeight", { code: status.RESOURCE_EXHAUSTED, details });
  const start = performance.now();
  await cutOff();
  await eventually("it is ordered again", () => ordered(2).length >= 2);
  assert.ok(performance.now() - start >= 290);
  fake.fail("setWeight", { code: status.RESOURCE_EXHAUSTED, details });
  await assert.rejects(lease.setWeight("api", "a", 2), Exhausted);
});

test("a lease that the sidecar does not know is opened again within the call", async () => {
  fake.fail("setWeight", missing("lease"));
  await lease.setWeight("api", "a", 1);
  assert.deepEqual(ordered(2), ["setWeight a"]);
});

test("orders about one thing are given in their turn", async () => {
  const turns: number[] = [];
  fake.answers.setWeight = ({ change }: { change: { value: number } }) => {
    turns.push(change.value);
    return { backend: undefined };
  };
  fake.fail("setWeight", { code: status.UNAVAILABLE });
  const both = await Promise.allSettled([
    lease.setWeight("api", "a", 1),
    lease.setWeight("api", "a", 2),
  ]);
  assert.deepEqual(turns, [1, 2]);
  // An answer without what it must have is an error, not an undefined.
  assert.ok(both.every((one) => one.status === "rejected" && one.reason instanceof OutriggerError));
});

test("a lease is refused like a call", async () => {
  fake.fail("openLease", { code: status.INVALID_ARGUMENT });
  await assert.rejects(client.lease("admin"), { name: "InvalidArgument" });
  fake.silent.add("openLease");
  await assert.rejects(client.lease("shop", { deadlineMs: 50 }), { code: "DEADLINE_EXCEEDED" });
});

test("a client that is closed closes its leases", async () => {
  const call = await fake.lease(0);
  const ended = new Promise((resolve) => call.once("end", resolve));
  await client.close();
  await ended;
});

test("`await using` closes the lease", async () => {
  let call: Awaited<ReturnType<FakeSidecar["lease"]>>;
  {
    await using _ = await client.lease("shop");
    call = await fake.lease(1);
  }
  assert.ok(call.readableEnded);
});
