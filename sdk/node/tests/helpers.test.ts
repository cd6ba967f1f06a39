/** How keys go along with requests, calls and connections. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { credentials, Client as GrpcClient, Metadata } from "@grpc/grpc-js";
import { ControlServiceService } from "../src/generated/outrigger/v1/control.js";
import {
  affinityFetch,
  affinityHeaders,
  affinityInterceptor,
  InvalidArgument,
  proxyHeader,
} from "../src/index.js";
import { FakeSidecar } from "./support/fake.js";

test("the key is a header", () => {
  assert.deepEqual(affinityHeaders("user 7"), { "x-outrigger-affinity": "user 7" });
  for (const key of ["", " a", "a ", "a\r\nb: c", "é", "a".repeat(257)]) {
    assert.throws(() => affinityHeaders(key), InvalidArgument, JSON.stringify(key));
  }
});

test("fetch sends the key beside the headers that there are", async () => {
  const server = createServer((request, response) => response.end(JSON.stringify(request.headers)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const url = `http://127.0.0.1:${port}/`;
  const fetch = affinityFetch("user-7");
  const sent = async (...request: Parameters<typeof fetch>) => {
    const headers = (await (await fetch(...request)).json()) as Record<string, string>;
    return [headers["x-outrigger-affinity"], headers["x-mine"]];
  };
  const headers = { "x-mine": "1" };
  assert.deepEqual(await sent(url), ["user-7", undefined]);
  assert.deepEqual(await sent(new URL(url), { headers }), ["user-7", "1"]);
  assert.deepEqual(await sent(new Request(url, { headers })), ["user-7", "1"]);
  server.closeAllConnections();
  server.close();
});

test("calls of grpc-js have the key in their metadata", async () => {
  const fake = await FakeSidecar.start();
  const interceptors = [affinityInterceptor("user-7")];
  const client = new GrpcClient(fake.address, credentials.createInsecure(), { interceptors });
  const { path, requestSerialize, responseDeserialize } = ControlServiceService.explain;
  const metadata = new Metadata();
  metadata.set("authorization", "kept");
  await new Promise<void>((resolve, reject) => {
    const request = { cluster: "api", key: "" };
    client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      (error) => (error ? reject(error) : resolve()),
    );
  });
  assert.equal(fake.seen[0]?.authorization, "kept");
  assert.equal(fake.seen[0]?.affinity, "user-7");
  client.close();
  fake.kill();
});

const SIGNATURE = "0d0a0d0a000d0a515549540a";

test("a PROXY header has both ends and the key", () => {
  const v4 = proxyHeader(
    "abc",
    { address: "10.1.2.3", port: 258 },
    { address: "127.0.0.1", port: 5432 },
  );
  assert.equal(
    v4.toString("hex"),
    `${SIGNATURE}21110012${"0a010203"}${"7f000001"}${"0102"}${"1538"}${"e00003616263"}`,
  );
  const v6 = proxyHeader("é", { address: "2001:db8::1%eth0", port: 1 }, { address: "::", port: 2 });
  const zero = "00".repeat(16);
  assert.equal(
    v6.toString("hex"),
    `${SIGNATURE}21210029${`20010db8${"00".repeat(11)}01`}${zero}00010002${"e00002c3a9"}`,
  );
});

test("a PROXY header for ends of two families has the older mapped", () => {
  const ends = [
    { address: "1:2:3:4:5:6:7:8", port: 1 },
    { address: "10.0.0.1", port: 2 },
  ] as const;
  const header = proxyHeader("k", ...ends)
    .subarray(16, 48)
    .toString("hex");
  assert.equal(header, `00010002000300040005000600070008${"00".repeat(10)}ffff0a000001`);
});

test("no PROXY header is made of what cannot be in one", () => {
  const end = { address: "127.0.0.1", port: 1 };
  assert.throws(() => proxyHeader("", end, end), InvalidArgument);
  assert.throws(() => proxyHeader("é".repeat(129), end, end), InvalidArgument);
  assert.throws(() => proxyHeader("k", { ...end, address: "localhost" }, end), InvalidArgument);
  assert.throws(() => proxyHeader("k", end, { ...end, port: 65_536 }), InvalidArgument);
});
