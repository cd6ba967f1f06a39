/** Who may call the real sidecar. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Client, Unavailable } from "../src/index.js";
import { eventually } from "./support/eventually.js";
import { temporaryDir } from "./support/temporary.js";
import { World } from "./support/world.js";

const LOOPBACK = 'listen = "127.0.0.1:0"\n';
const TTL = { ttlMs: 60_000 };
const [READER, STEERER, ADMIN] = ["r", "s", "a"].map((letter) => letter.repeat(32)) as [
  string,
  string,
  string,
];

const unknown = { name: "Denied", code: "UNAUTHENTICATED" };
const notAllowed = { name: "Denied", code: "PERMISSION_DENIED" };

async function temporary(name: string, text: string): Promise<string> {
  const file = join(await temporaryDir(), name);
  await writeFile(file, text, { mode: 0o600 });
  return file;
}

test("a token says what its bearer may do", async () => {
  const accepted = await temporary("tokens", `read ${READER}\nsteer ${STEERER}\nadmin ${ADMIN}\n`);
  await using world = await World.start(`${LOOPBACK}token_file = "${accepted}"`, { token: READER });
  const { client: reader, sidecar, a } = world;
  const address = sidecar.control;
  await assert.rejects(reader.setWeight("api", a.name, 2, TTL), notAllowed);
  await assert.rejects(reader.lease("shop"), notAllowed);
  assert.equal((await world.seen(a)).effectiveWeight, 1);

  await using steerer = new Client({ address, token: STEERER });
  await steerer.setWeight("api", a.name, 2, { ...TTL, owner: "shop" });
  await assert.rejects(steerer.clearWeight("api", a.name, { all: true }), notAllowed);
  await using admin = new Client({ address, token: ADMIN });
  assert.equal((await admin.clearWeight("api", a.name, { all: true })).effectiveWeight, 1);

  await using nobody = new Client({ address });
  await assert.rejects(nobody.clusters(), unknown);
  await assert.rejects(nobody.lease("shop"), unknown);
  await assert.rejects(nobody.watch("api").next(), unknown);
  await using wrong = new Client({ address, token: "w".repeat(32) });
  await assert.rejects(wrong.clusters(), unknown);
});

test("a token may be replaced while the app runs", async () => {
  const accepted = await temporary("tokens", `steer ${STEERER}\n`);
  const tokenFile = await temporary("token", `${STEERER}\n`);
  await using world = await World.start(`${LOOPBACK}token_file = "${accepted}"`, { tokenFile });
  await world.client.clusters();
  await writeFile(accepted, `steer ${ADMIN}\n`);
  await eventually("the old one is refused", () =>
    world.client.clusters().then(
      () => false,
      () => true,
    ),
  );
  await writeFile(tokenFile, `${ADMIN}\n`);
  assert.equal((await world.client.clusters()).length, 1);
});

/** An authority, and a certificate of it for both sides: paths. */
async function certificates(): Promise<{ ca: string; cert: string; key: string }> {
  const dir = await temporaryDir();
  const made = (name: string, ...more: string[]) => {
    const [cert, key] = [join(dir, `${name}.pem`), join(dir, `${name}.key`)];
    const fresh = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(
      " ",
    );
    const files = ["-subj", `/CN=${name}`, "-keyout", key, "-out", cert];
    execFileSync("openssl", [...fresh, ...files, ...more], { stdio: "ignore" });
    return { cert, key };
  };
  const ca = made("ca.test");
  const by = ["-CA", ca.cert, "-CAkey", ca.key];
  const names = ["basicConstraints=CA:FALSE", "subjectAltName=DNS:sidecar.test"];
  const own = made("sidecar.test", ...by, ...names.flatMap((name) => ["-addext", name]));
  await chmod(own.key, 0o600);
  return { ca: ca.cert, ...own };
}

test("with TLS both sides show who they are", async () => {
  const { ca, cert, key } = await certificates();
  const config = `cert_file = "${cert}"\nkey_file = "${key}"\nclient_ca_file = "${ca}"`;
  const known = { ca: await readFile(ca), serverName: "sidecar.test" };
  const pem = { cert: await readFile(cert), key: await readFile(key) };
  await using world = await World.start(LOOPBACK + config, { tls: { ...known, ...pem } });
  assert.equal((await world.client.setWeight("api", world.a.name, 2, TTL)).effectiveWeight, 2);
  const address = world.sidecar.control;
  const wrong = [undefined, true, known, pem, { ...pem, ca: known.ca }] as const;
  for (const tls of wrong) {
    await using other = new Client(tls ? { address, tls } : { address });
    await assert.rejects(other.clusters(), Unavailable);
  }
});
