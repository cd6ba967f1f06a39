/** An app that orders something under a lease, says so, and stays until it is killed. */

import { Client } from "../../src/index.js";

const [address = "", a = "", b = ""] = process.argv.slice(2);
const lease = await new Client({ address }).lease("shop");
await lease.setWeight("api", a, 0);
await lease.scaleWeight("api", b, 3);
await lease.setAffinity("api", "user-1", a);
await lease.drain("api", a);
console.log("ordered");
