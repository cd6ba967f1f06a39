/** What can be ordered, and how it is given and taken back: what clients and leases have in common. */

import { duration } from "./duration.js";
import { invalid } from "./errors.js";
import {
  type Backend,
  ControlServiceService as Service,
  type SetWeightRequest,
} from "./generated/outrigger/v1/control.js";
import { type CallOptions, present, type Rpc } from "./rpc.js";

/** How long an order holds, and who has given it. */
export interface Whose {
  lifetime: SetWeightRequest["lifetime"];
  owner: string;
}

/** Whose orders are taken back. */
export interface Ending {
  leaseId: string;
  owner: string;
  all: boolean;
}

export interface Order<Answer> {
  /** An owner has one order of a kind for a subject: another replaces it, so a factor does a weight. */
  kind: "weight" | "drain" | "pin";
  subject: string;
  give(rpc: Rpc, whose: Whose, options?: CallOptions): Promise<Answer>;
  /** The same as it is to be given again, once it is known what it is about: a backend may have several names. */
  lasting(answer: Answer): Order<unknown>;
}

/** The subject of orders about a backend, and of pins. */
export const backendOf = (cluster: string, backend: string) => `backend ${cluster} ${backend}`;
export const keyOf = (cluster: string, key: string) => `key ${cluster} ${key}`;

export function weight(cluster: string, backend: string, value: number): Order<Backend> {
  return change(cluster, backend, { $case: "weight", value: uint32("weight", value, 65_535) });
}

export function factor(cluster: string, backend: string, value: number): Order<Backend> {
  return change(cluster, backend, { $case: "factor", value });
}

type Change = Exclude<SetWeightRequest["change"], undefined>;

function change(cluster: string, backend: string, change: Change): Order<Backend> {
  return {
    kind: "weight",
    subject: backendOf(cluster, backend),
    async give(rpc, whose, options) {
      const request = { cluster, backend, change, ...whose };
      return present((await rpc.unary(Service.setWeight, request, options)).backend, "the backend");
    },
    lasting({ name }) {
      return { ...this, subject: backendOf(cluster, name) };
    },
  };
}

/** Without a backend: to the one where the key lives now. Answers with the backend's name. */
export function pin(cluster: string, key: string, backend = ""): Order<string> {
  return {
    kind: "pin",
    subject: keyOf(cluster, key),
    async give(rpc, whose, options) {
      const request = { cluster, key, backend, ...whose };
      return (await rpc.unary(Service.setAffinity, request, options)).backend;
    },
    // Once it has been found where the key lives, that is where it stays.
    lasting(found) {
      return pin(cluster, key, found);
    },
  };
}

/** The time until what is left is ended runs from now, also when the order is given again later. */
export function drain(cluster: string, backend: string, timeoutMs?: number): Order<Backend> {
  if (timeoutMs !== undefined && !(timeoutMs >= 0)) {
    throw invalid("timeoutMs", `must be 0 ms ..= 24 h, got ${timeoutMs}`);
  }
  const end = timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  return {
    kind: "drain",
    subject: backendOf(cluster, backend),
    async give(rpc, whose, options) {
      const left = end && Math.max(0, end - performance.now());
      const timeout = left === undefined ? undefined : duration("timeoutMs", left);
      const request = { cluster, backend, timeout, ...whose };
      return present((await rpc.unary(Service.drain, request, options)).backend, "the backend");
    },
    lasting({ name }) {
      return { ...this, subject: backendOf(cluster, name) };
    },
  };
}

export async function clearWeight(
  rpc: Rpc,
  cluster: string,
  backend: string,
  ending: Ending,
  options?: CallOptions,
): Promise<Backend> {
  const request = { cluster, backend, ...ending };
  return present((await rpc.unary(Service.clearWeight, request, options)).backend, "the backend");
}

export async function resume(
  rpc: Rpc,
  cluster: string,
  backend: string,
  ending: Ending,
  options?: CallOptions,
): Promise<Backend> {
  const request = { cluster, backend, ...ending };
  return present((await rpc.unary(Service.resume, request, options)).backend, "the backend");
}

/** Answers whether there was a pin. */
export async function clearAffinity(
  rpc: Rpc,
  cluster: string,
  key: string,
  options?: CallOptions,
): Promise<boolean> {
  return (await rpc.unary(Service.clearAffinity, { cluster, key }, options)).cleared;
}

/** What is no number of 32 bits cannot be sent, so that the sidecar could judge it. */
export function uint32(field: string, value: number, largest: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    throw invalid(field, `must be 0..=${largest}, got ${value}`);
  }
  return value;
}
