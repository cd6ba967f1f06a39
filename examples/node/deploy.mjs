// A shop keeps a shopper with one backend while a deploy moves everyone else to the new release.
//
//     node deploy.mjs URL CLUSTER OLD NEW
//
// URL is a listener of the sidecar that leads to CLUSTER, OLD and NEW are two of its backends. Where the control API
// is, OUTRIGGER_CONTROL says; without a sidecar the shop works on, and the deploy does not begin.

// @ts-check
import { affinityFetch, Client, Unavailable } from "@outrigger/sdk";

const [url = "http://127.0.0.1:8080/", cluster = "api", before = "", after = ""] = process.argv.slice(2);
const session = "session-7";
const client = new Client();

try {
  await deploy();
} catch (error) {
  if (!(error instanceof Unavailable)) {
    throw error;
  }
  console.log(`no deploy: ${error.message}`);
} finally {
  await client.close();
}

/** All that is ordered here ends with the lease: a deploy that crashes leaves nothing behind. */
async function deploy() {
  const lease = await client.lease("shop");
  await lease.setAffinity(cluster, session, before);

  for (const percent of [0, 50, 100]) {
    await lease.setWeight(cluster, before, 100 - percent);
    await lease.setWeight(cluster, after, percent);
    console.log(`at ${percent} %: ${await sample(fetch)}; ${session}: ${await sample(affinityFetch(session))}`);
  }

  // Nobody is left there but the session, which moves now.
  await lease.setAffinity(cluster, session, after);
  await lease.drain(cluster, before, { timeoutMs: 10_000 });
  const { forced } = await client.waitDrained(cluster, before);
  console.log(`drained, ${forced} by force; ${session}: ${await sample(affinityFetch(session))}`);

  const events = (await client.events({ cluster })).events.map((event) => `${event.kind} ${event.backend}`);
  console.log(`what the sidecar saw: ${[...new Set(events)].join(", ")}`);
  await lease.close();
}

/**
 * How many of 20 requests each backend answers; a backend answers with its name.
 * @param {typeof globalThis.fetch} fetch
 */
async function sample(fetch) {
  /** @type {Record<string, number>} */
  const answers = {};
  for (let i = 0; i < 20; i += 1) {
    const name = await (await fetch(url)).text();
    answers[name] = (answers[name] ?? 0) + 1;
  }
  return Object.entries(answers)
    .map(([name, count]) => `${name} ${count}`)
    .sort()
    .join(", ");
}
