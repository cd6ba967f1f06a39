/** Where calls go, who makes them, how long they take, and what they fail with. */

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { status } from "@grpc/grpc-js";
import { BadRequest, QuotaFailure, ResourceInfo, RetryInfo } from "../src/generated/errors.js";
import {
  Client,
  Denied,
  Exhausted,
  InvalidArgument,
  NotFound,
  Outcome,
  OutriggerError,
  Unavailable,
} from "../src/index.js";
import { FakeSidecar } from "./support/fake.js";
import { temporaryDir } from "./support/temporary.js";

const TTL = { ttlMs: 1000 };

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

test("each call says what was asked of it", async () => {
  await client.setWeight("api", "a:1", 7, { ttlMs: 1500, owner: "shop" });
  await client.scaleWeight("api", "a:1", 0.5, TTL);
  await client.clearWeight("api", "a:1", { owner: "shop", all: true });
  await client.setAffinity("api", "k", undefined, TTL);
  await client.drain("api", "a:1", { ...TTL, timeoutMs: 0 });
  await client.resume("api", "a:1");
  await client.report("api", "a:1", Outcome.TIMEOUT, { latencyMs: 0.25, count: 3 });
  await client.events({ cluster: "api", after: 4, waitMs: 20 });
  const ttl = (seconds: number, nanos: number) => ({ $case: "ttl", value: { seconds, nanos } });
  const about = { cluster: "api", backend: "a:1" };
  const [lifetime, owner] = [ttl(1, 0), ""];
  assert.deepEqual(
    fake.seen.map(({ method, request }) => [method, request]),
    [
      [
        "setWeight",
        { ...about, change: { $case: "weight", value: 7 }, lifetime: ttl(1, 5e8), owner: "shop" },
      ],
      ["setWeight", { ...about, change: { $case: "factor", value: 0.5 }, lifetime, owner }],
      ["clearWeight", { ...about, leaseId: "", owner: "shop", all: true }],
      ["setAffinity", { cluster: "api", key: "k", backend: "", lifetime, owner }],
      ["drain", { ...about, timeout: { seconds: 0, nanos: 0 }, lifetime, owner }],
      ["resume", { ...about, leaseId: "", owner, all: false }],
      [
        "reportOutcome",
        { ...about, outcome: Outcome.TIMEOUT, latency: { seconds: 0, nanos: 25e4 }, count: 3 },
      ],
      ["listEvents", { cluster: "api", after: 4, wait: { seconds: 0, nanos: 2e7 } }],
    ],
  );
});

test("the address may be that of a unix socket", async () => {
  const path = join(await temporaryDir(), "control.sock");
  const fake = await FakeSidecar.start(`unix:${path}`);
  const client = new Client({ address: `unix:${path}` });
  assert.deepEqual(await client.clusters(), []);
  await client.close();
  fake.kill();
  await assert.rejects(new Client({ address: `unix:${path}` }).clusters(), Unavailable);
});

test("the environment says where the sidecar is and where the token is", async () => {
  const file = join(await temporaryDir(), "token");
  await writeFile(file, "first\n");
  process.env.OUTRIGGER_CONTROL = fake.address;
  process.env.OUTRIGGER_CONTROL_TOKEN_FILE = file;
  try {
    const client = new Client();
    await client.clusters();
    await writeFile(file, "second\n");
    await client.clusters();
    await writeFile(file, "two words\n");
    await assert.rejects(client.clusters(), Denied);
    await client.close();
  } finally {
    delete process.env.OUTRIGGER_CONTROL;
    delete process.env.OUTRIGGER_CONTROL_TOKEN_FILE;
  }
  const said = fake.seen.map(({ authorization }) => authorization);
  assert.deepEqual(said, ["Bearer first", "Bearer second"]);
});

test("a token file that is gone is an error of who calls", async () => {
  const client = new Client({ address: fake.address, tokenFile: "/nowhere/token" });
  await assert.rejects(client.clusters(), (error) => {
    assert.ok(error instanceof Denied);
    assert.match(error.message, /\/nowhere\/token/);
    return true;
  });
});

test("wrong options are refused at once", () => {
  for (const address of [
    "",
    "localhost",
    "127.0.0.1:0",
    "127.0.0.1:70000",
    "unix:",
    "http://a:1",
  ]) {
    assert.throws(() => new Client({ address }), InvalidArgument, address);
  }
  assert.throws(() => new Client({ deadlineMs: 0 }), /deadlineMs: must be more than 0, got 0/);
  assert.throws(() => new Client({ token: "two words" }), InvalidArgument);
  for (const address of ["10.0.0.1:9911", "127.0.0.1.example:9911", "sidecar:9911"]) {
    assert.throws(() => new Client({ address, token: "secret" }), /this machine only/, address);
    assert.throws(() => new Client({ address, tokenFile: "/token" }), /this machine only/, address);
    new Client({ address, token: "secret", tls: true });
  }
  assert.throws(() => new Client({ tls: { cert: "no PEM", key: "no PEM" } }), InvalidArgument);
});

test("what cannot be sent is refused before it is", async () => {
  await assert.rejects(client.setWeight("api", "a:1", -1, TTL), {
    name: "InvalidArgument",
    message: "weight: must be 0..=65535, got -1",
    violations: [{ field: "weight", description: "must be 0..=65535, got -1" }],
  });
  await assert.rejects(client.setWeight("api", "a:1", 0.5, TTL), InvalidArgument);
  await assert.rejects(client.setWeight("api", "a:1", 1, { ttlMs: Number.NaN }), InvalidArgument);
  await assert.rejects(client.drain("api", "a:1", { ...TTL, timeoutMs: -1 }), InvalidArgument);
  await assert.rejects(client.report("api", "a:1", Outcome.RESET, { count: -1 }), InvalidArgument);
  assert.deepEqual(fake.seen, []);
});

test("without a sidecar a call fails long before its deadline", async () => {
  fake.kill();
  const start = performance.now();
  await assert.rejects(client.clusters(), { name: "Unavailable", code: "UNAVAILABLE" });
  await assert.rejects(client.lease("shop"), Unavailable);
  await assert.rejects(client.watch("api").next(), Unavailable);
  assert.ok(performance.now() - start < 1000);
});

test("a sidecar that is back is found again", async () => {
  fake.kill();
  await assert.rejects(client.clusters(), Unavailable);
  await fake.start();
  const found = async () => client.clusters().catch(() => undefined);
  const end = performance.now() + 2000;
  while (!(await found())) {
    assert.ok(performance.now() < end);
  }
});

test("a sidecar that says nothing is given up at the deadline", async () => {
  const silence = createServer((socket) => socket.unref()).listen(0, "127.0.0.1");
  await new Promise((resolve) => silence.once("listening", resolve));
  const { port } = silence.address() as { port: number };
  const client = new Client({ address: `127.0.0.1:${port}`, deadlineMs: 150 });
  const late = { name: "Unavailable", code: "DEADLINE_EXCEEDED" };
  await assert.rejects(client.clusters(), late);
  await assert.rejects(client.lease("shop"), late);
  await assert.rejects(client.watch("api").next(), late);
  await client.close();
  silence.close();
});

test("waits last as long as they are to", async () => {
  const client = new Client({ address: fake.address, deadlineMs: 50 });
  fake.silent.add("waitDrained").add("listEvents");
  const reason = new Error("enough");
  const patience = new AbortController();
  const drained = client.waitDrained("api", "a:1", { signal: patience.signal });
  const start = performance.now();
  await assert.rejects(client.events({ waitMs: 200 }), { code: "DEADLINE_EXCEEDED" });
  assert.ok(performance.now() - start >= 240);
  patience.abort(reason);
  await assert.rejects(drained, reason);
  await assert.rejects(client.waitDrained("api", "a:1", { deadlineMs: 10 }), Unavailable);
  await client.close();
});

test("a call that may be given twice is tried again", async () => {
  fake.fail("setWeight", { code: status.UNAVAILABLE }, { code: status.UNAVAILABLE });
  await client.setWeight("api", "a:1", 1, TTL);
  assert.equal(fake.seen.length, 3);
});

test("a report is not, since it would count twice", async () => {
  fake.fail("reportOutcome", { code: status.UNAVAILABLE });
  await assert.rejects(client.report("api", "a:1", Outcome.RESET), Unavailable);
  assert.equal(fake.seen.length, 1);
});

test("errors say what is wrong", async () => {
  const detail = (name: string, bytes: Uint8Array) => [
    { typeUrl: `type.googleapis.com/google.rpc.${name}`, value: bytes },
  ];
  const fieldViolations = [{ field: "weight", description: "must be 0..=65535, got 70000" }];
  fake.fail(
    "listClusters",
    {
      code: status.INVALID_ARGUMENT,
      message: "weight is wrong",
      details: detail("BadRequest", BadRequest.encode({ fieldViolations }).finish()),
    },
    {
      code: status.NOT_FOUND,
      details: detail(
        "ResourceInfo",
        ResourceInfo.encode(
          ResourceInfo.create({ resourceType: "cluster", resourceName: "api" }),
        ).finish(),
      ),
    },
    {
      code: status.RESOURCE_EXHAUSTED,
      details: detail(
        "QuotaFailure",
        QuotaFailure.encode({
          violations: [{ subject: "pins", description: "holds 65536" }],
        }).finish(),
      ),
    },
    {
      code: status.RESOURCE_EXHAUSTED,
      details: detail(
        "RetryInfo",
        RetryInfo.encode({ retryDelay: { seconds: 1, nanos: 5e8 } }).finish(),
      ),
    },
    { code: status.NOT_FOUND, details: detail("ResourceInfo", Buffer.from([0xff])) },
    { code: status.INTERNAL, message: "lost" },
  );
  const failure = () =>
    client.clusters().then(
      () => assert.fail("it succeeds"),
      (error: unknown) => error as Record<string, unknown>,
    );
  const invalid = await failure();
  assert.ok(invalid instanceof InvalidArgument);
  assert.equal(invalid.message, "weight is wrong");
  assert.deepEqual(invalid.violations, fieldViolations);
  const missing = await failure();
  assert.ok(missing instanceof NotFound);
  assert.deepEqual([missing.resourceType, missing.resourceName], ["cluster", "api"]);
  const full = await failure();
  assert.ok(full instanceof Exhausted);
  assert.deepEqual(
    [full.quota, full.retryAfterMs],
    [[{ subject: "pins", description: "holds 65536" }], undefined],
  );
  const fast = await failure();
  assert.ok(fast instanceof Exhausted);
  assert.deepEqual([fast.quota, fast.retryAfterMs], [[], 1500]);
  const garbled = await failure();
  assert.ok(garbled instanceof NotFound);
  assert.equal(garbled.resourceName, "");
  const other = await failure();
  assert.ok(other instanceof OutriggerError);
  assert.deepEqual([other.code, other.message], ["INTERNAL", "lost"]);
});

test("who is not let in is told so", async () => {
  for (const code of [status.UNAUTHENTICATED, status.PERMISSION_DENIED]) {
    fake.fail("listClusters", { code });
    await assert.rejects(client.clusters(), Denied);
  }
});

test("a signal ends a call, also before it begins", async () => {
  fake.silent.add("explain");
  const reason = new Error("enough");
  await assert.rejects(client.explain("api", "", { signal: AbortSignal.abort(reason) }), reason);
  const patience = new AbortController();
  const calls = Array.from({ length: 20 }, () => client.explain("api", "", patience));
  patience.abort(reason);
  for (const call of calls) {
    await assert.rejects(call, reason);
  }
});

test("a closed client says so", async () => {
  await client.close();
  await assert.rejects(client.clusters(), { name: "OutriggerError", code: "CANCELLED" });
});
