/** How TCP connections through the sidecar carry the key that binds them to a backend. */

import { isIP, isIPv4 } from "node:net";
import { invalid } from "./errors.js";

/** An end of a TCP connection, as `net.Socket` has it. */
export interface Endpoint {
  address: string;
  port: number;
}

const SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const PROXY = 0x21;
const TCP4 = 0x11;
const TCP6 = 0x21;
const AFFINITY = 0xe0;

/**
 * A PROXY header, version 2, with the key: 1..=256 bytes of UTF-8. It is to be written once, before
 * anything else, to a listener with `proxy_protocol = true`. `src` and `dst` are what the backend and the log
 * are told of the connection's ends; an IPv4 address beside an IPv6 one is mapped.
 */
export function proxyHeader(key: string, src: Endpoint, dst: Endpoint): Buffer {
  const addresses = [bytesOf("src", src), bytesOf("dst", dst)];
  const isV4 = isIPv4(src.address) && isIPv4(dst.address);
  const body = Buffer.concat([
    ...addresses.map((address) => (isV4 ? address.subarray(12) : address)),
    portOf("src", src),
    portOf("dst", dst),
    affinityTlv(key),
  ]);
  const head = Buffer.concat([
    SIGNATURE,
    Buffer.from([PROXY, isV4 ? TCP4 : TCP6]),
    uint16(body.length),
  ]);
  return Buffer.concat([head, body]);
}

function affinityTlv(key: string): Buffer {
  const value = Buffer.from(key);
  if (value.length < 1 || value.length > 256) {
    throw invalid("key", `must have 1..=256 bytes, got ${value.length}`);
  }
  return Buffer.concat([Buffer.from([AFFINITY]), uint16(value.length), value]);
}

/** As IPv6, mapped if need be. */
function bytesOf(field: string, { address }: Endpoint): Buffer {
  if (!isIP(address)) {
    throw invalid(field, `must have an IP address, got \`${address}\``);
  }
  const v6 = isIPv4(address) ? `::ffff:${address}` : address.replace(/%.*/, "");
  // The parser of URLs gives all of them the form of groups of hexadecimal digits.
  const canonical = new URL(`http://[${v6}]`).hostname.slice(1, -1);
  const [head = [], tail = []] = canonical
    .split("::")
    .map((half) => half.split(":").filter(Boolean));
  const zeros = new Array(8 - head.length - tail.length).fill("0");
  return Buffer.concat(
    [...head, ...zeros, ...tail].map((group) => uint16(Number.parseInt(group, 16))),
  );
}

function portOf(field: string, { port }: Endpoint): Buffer {
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw invalid(field, `must have a port 0..=65535, got ${port}`);
  }
  return uint16(port);
}

function uint16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}
