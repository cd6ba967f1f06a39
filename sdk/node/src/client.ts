/** What an app may ask of the sidecar beside it, and tell it. */

import { duration } from "./duration.js";
import {
  type Backend,
  type Cluster,
  type ExplainResponse,
  type GetAffinityResponse,
  type ListEventsResponse,
  type Outcome,
  ControlServiceService as Service,
  type WaitDrainedResponse,
} from "./generated/outrigger/v1/control.js";
import { type DrainOptions, Lease } from "./lease.js";
import type { ClientOptions } from "./options.js";
import * as orders from "./orders.js";
import { type CallOptions, Rpc } from "./rpc.js";
import type { View } from "./view.js";
import { watch } from "./watch.js";

/** Of an order that is not of a lease. */
export interface TtlOptions extends CallOptions {
  /** How long the order holds, in milliseconds: 1 ms ..= 24 h. */
  ttlMs: number;
  /**
   * What the app calls itself, by default `sdk`: 1..=64 printable ASCII characters without spaces, but not
   * `admin` or `fleet`.
   */
  owner?: string;
}

export interface EndingOptions extends CallOptions {
  /** Whose orders with a TTL are taken back; by default those of `sdk`. */
  owner?: string;
  /** Whoever's, those of leases too; takes the role `admin`. */
  all?: boolean;
}

export interface EventOptions extends CallOptions {
  /** Only of this one; by default of all. */
  cluster?: string;
  /** Only events after the one with this id. */
  after?: number;
  /** How long to wait for one if there is none, in milliseconds: up to 60 s; by default not at all. */
  waitMs?: number;
}

export interface ReportOptions extends CallOptions {
  /** How long the backend took to answer, in milliseconds. */
  latencyMs?: number;
  /** How many of them there were: 1..=1000; by default one. */
  count?: number;
}

/**
 * A connection to the sidecar. It is made with the first call, and again whenever it is lost.
 *
 * A call fails with an {@link OutriggerError}, or with the reason of its signal. Without a sidecar it fails
 * with {@link Unavailable}, long before its deadline if nobody listens.
 */
export class Client implements AsyncDisposable {
  readonly #rpc: Rpc;
  readonly #leases = new Set<Lease>();
  readonly #closing = new AbortController();

  /** Connects nowhere yet; throws {@link InvalidArgument} if an option is wrong. */
  constructor(options: ClientOptions = {}) {
    this.#rpc = new Rpc(options);
  }

  /**
   * Opens a lease for an owner: what the app calls itself, 1..=64 printable ASCII characters without
   * spaces, but not `admin` or `fleet`. An open lease keeps the process running.
   */
  async lease(owner: string, options: { deadlineMs?: number } = {}): Promise<Lease> {
    const deadlineMs = options.deadlineMs ?? this.#rpc.deadlineMs;
    const forget = (lease: Lease) => this.#leases.delete(lease);
    const lease = await Lease.open(this.#rpc, owner, deadlineMs, forget);
    this.#leases.add(lease);
    return lease;
  }

  /** Gives a backend a weight, 0..=65535, instead of discovery's. Answers with the backend as it then is. */
  async setWeight(
    cluster: string,
    backend: string,
    weight: number,
    options: TtlOptions,
  ): Promise<Backend> {
    return orders.weight(cluster, backend, weight).give(this.#rpc, whoseOf(options), options);
  }

  /** Multiplies the weight that a backend would have by 0..=1000, in steps of 1/256, instead of giving it one. */
  async scaleWeight(
    cluster: string,
    backend: string,
    factor: number,
    options: TtlOptions,
  ): Promise<Backend> {
    return orders.factor(cluster, backend, factor).give(this.#rpc, whoseOf(options), options);
  }

  /** Takes orders of weight back, by default those that had a TTL and no owner. */
  async clearWeight(
    cluster: string,
    backend: string,
    options: EndingOptions = {},
  ): Promise<Backend> {
    return orders.clearWeight(this.#rpc, cluster, backend, endingOf(options), options);
  }

  /**
   * Pins a key, 1..=256 bytes, to a backend: by default to the one where it lives now, or would be sent to
   * now. Answers with the name of the backend.
   */
  async setAffinity(
    cluster: string,
    key: string,
    backend: string | undefined,
    options: TtlOptions,
  ): Promise<string> {
    return orders.pin(cluster, key, backend).give(this.#rpc, whoseOf(options), options);
  }

  /** Where a key would go now, and why. */
  async affinity(
    cluster: string,
    key: string,
    options?: CallOptions,
  ): Promise<GetAffinityResponse> {
    return this.#rpc.unary(Service.getAffinity, { cluster, key }, options);
  }

  /** Takes the pin of a key back, whoever's. Answers whether there was one. */
  async clearAffinity(cluster: string, key: string, options?: CallOptions): Promise<boolean> {
    return orders.clearAffinity(this.#rpc, cluster, key, options);
  }

  /** Lets a backend finish what it has and gives it nothing new, until the TTL is over. */
  async drain(
    cluster: string,
    backend: string,
    options: TtlOptions & DrainOptions,
  ): Promise<Backend> {
    return orders
      .drain(cluster, backend, options.timeoutMs)
      .give(this.#rpc, whoseOf(options), options);
  }

  /** Takes orders to drain back, by default those that had a TTL and no owner. */
  async resume(cluster: string, backend: string, options: EndingOptions = {}): Promise<Backend> {
    return orders.resume(this.#rpc, cluster, backend, endingOf(options), options);
  }

  /** Waits until a backend that drains has no work left; by default without a deadline. */
  async waitDrained(
    cluster: string,
    backend: string,
    options: CallOptions = {},
  ): Promise<WaitDrainedResponse> {
    const patient = { deadlineMs: Number.POSITIVE_INFINITY, ...options };
    return this.#rpc.unary(Service.waitDrained, { cluster, backend }, patient);
  }

  /** Tells what the app itself has seen of a backend, where the sidecar cannot: over TCP and UDP above all. */
  async report(
    cluster: string,
    backend: string,
    outcome: Outcome,
    options: ReportOptions = {},
  ): Promise<void> {
    const { latencyMs } = options;
    const latency = latencyMs === undefined ? undefined : duration("latencyMs", latencyMs);
    const count = orders.uint32("count", options.count ?? 1, 1000);
    await this.#rpc.unary(
      Service.reportOutcome,
      { cluster, backend, outcome, latency, count },
      options,
    );
  }

  /**
   * The backends of a cluster now, and again after every change, until the loop is left or the signal is
   * aborted, for which it throws the signal's reason. When the connection is lost, it goes on where it was as soon
   * as the sidecar is back; only before the first view that is an error.
   */
  watch(cluster: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<View, void> {
    const signals = [this.#closing.signal, ...(options.signal ? [options.signal] : [])];
    return watch(this.#rpc, cluster, AbortSignal.any(signals));
  }

  /** Clusters and their backends as they are now: one, or all. */
  async clusters(cluster = "", options?: CallOptions): Promise<Cluster[]> {
    return (await this.#rpc.unary(Service.listClusters, { cluster }, options)).clusters;
  }

  /** What has happened, and why; the oldest first. Its `latest` is what to ask `after` next time. */
  async events(options: EventOptions = {}): Promise<ListEventsResponse> {
    const { cluster = "", after = 0, waitMs = 0, deadlineMs = this.#rpc.deadlineMs } = options;
    const wait = duration("waitMs", waitMs);
    const patient = { ...options, deadlineMs: deadlineMs + waitMs };
    return this.#rpc.unary(Service.listEvents, { cluster, after, wait }, patient);
  }

  /** Who would be picked now for a key, or for none, and why every other backend would not. */
  async explain(cluster: string, key = "", options?: CallOptions): Promise<ExplainResponse> {
    return this.#rpc.unary(Service.explain, { cluster, key }, options);
  }

  /** Ends its leases and watches, and the connection. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all([...this.#leases].map((lease) => lease.close()));
    this.#rpc.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function whoseOf({ ttlMs, owner = "" }: TtlOptions): orders.Whose {
  return { lifetime: { $case: "ttl", value: duration("ttlMs", ttlMs) }, owner };
}

function endingOf({ owner = "", all = false }: EndingOptions): orders.Ending {
  return { leaseId: "", owner, all };
}
