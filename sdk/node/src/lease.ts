/** Orders that hold as long as the app does. */

import { setTimeout as delay } from "node:timers/promises";
import { Backoff } from "./backoff.js";
import { Exhausted, ended, late, NotFound, OutriggerError } from "./errors.js";
import type { Backend } from "./generated/outrigger/v1/control.js";
import { LeaseStream } from "./lease_stream.js";
import { deadline } from "./options.js";
import * as orders from "./orders.js";
import { Remembered } from "./remembered.js";
import type { CallOptions, Rpc } from "./rpc.js";

export interface DrainOptions extends CallOptions {
  /** When what is left is ended by force, in milliseconds from now; by default as the cluster's configuration says. */
  timeoutMs?: number;
}

/** A call under a lease, with what is left of its deadline. */
type Call<T> = (stream: LeaseStream, rest: CallOptions) => Promise<T>;

/** So many orders are given at a time when a sidecar has started anew. */
const AT_A_TIME = 16;

/**
 * Its orders end when it is closed, and when the process ends, however it does.
 *
 * When the connection is lost, the lease is opened again, as soon as the sidecar is back, and the orders
 * given through it are given again, until they are taken back through it. Meanwhile orders fail like any
 * call. An order that failed is not given later.
 */
export class Lease implements AsyncDisposable {
  /** What the app calls itself. */
  readonly owner: string;
  readonly #rpc: Rpc;
  readonly #remembered = new Remembered();
  readonly #closing = new AbortController();
  readonly #onClose: (lease: Lease) => void;
  #stream: Promise<LeaseStream>;

  private constructor(
    rpc: Rpc,
    owner: string,
    stream: LeaseStream,
    onClose: (lease: Lease) => void,
  ) {
    this.owner = owner;
    this.#onClose = onClose;
    this.#rpc = rpc;
    this.#stream = Promise.resolve(stream);
    this.#keep(stream);
  }

  /** @internal */
  static async open(
    rpc: Rpc,
    owner: string,
    deadlineMs: number,
    onClose: (lease: Lease) => void,
  ): Promise<Lease> {
    return new Lease(rpc, owner, await LeaseStream.open(rpc, owner, deadlineMs), onClose);
  }

  /** Gives a backend a weight, 0..=65535, instead of discovery's. Answers with the backend as it then is. */
  async setWeight(
    cluster: string,
    backend: string,
    weight: number,
    options?: CallOptions,
  ): Promise<Backend> {
    return this.#give(orders.weight(cluster, backend, weight), options);
  }

  /** Multiplies the weight that a backend would have by 0..=1000, in steps of 1/256, instead of giving it one. */
  async scaleWeight(
    cluster: string,
    backend: string,
    factor: number,
    options?: CallOptions,
  ): Promise<Backend> {
    return this.#give(orders.factor(cluster, backend, factor), options);
  }

  /** Takes back what this lease has ordered of the weight of a backend. */
  async clearWeight(cluster: string, backend: string, options?: CallOptions): Promise<Backend> {
    return this.#inTurn(orders.backendOf(cluster, backend), options, async (stream, rest) => {
      const ending = endingOf(stream);
      const cleared = await orders.clearWeight(this.#rpc, cluster, backend, ending, rest);
      this.#remembered.forget("weight", orders.backendOf(cluster, cleared.name));
      return cleared;
    });
  }

  /**
   * Pins a key, 1..=256 bytes, to a backend: by default to the one where it lives now. Answers with the
   * name of the backend.
   */
  async setAffinity(
    cluster: string,
    key: string,
    backend?: string,
    options?: CallOptions,
  ): Promise<string> {
    return this.#give(orders.pin(cluster, key, backend), options);
  }

  /** Takes the pin of a key back. Answers whether there was one. */
  async clearAffinity(cluster: string, key: string, options?: CallOptions): Promise<boolean> {
    const subject = orders.keyOf(cluster, key);
    return this.#inTurn(subject, options, async (_, rest) => {
      const cleared = await orders.clearAffinity(this.#rpc, cluster, key, rest);
      this.#remembered.forget("pin", subject);
      return cleared;
    });
  }

  /** Lets a backend finish what it has and gives it nothing new. */
  async drain(cluster: string, backend: string, options: DrainOptions = {}): Promise<Backend> {
    return this.#give(orders.drain(cluster, backend, options.timeoutMs), options);
  }

  /** Takes back this lease's order to drain. */
  async resume(cluster: string, backend: string, options?: CallOptions): Promise<Backend> {
    return this.#inTurn(orders.backendOf(cluster, backend), options, async (stream, rest) => {
      const ending = endingOf(stream);
      const resumed = await orders.resume(this.#rpc, cluster, backend, ending, rest);
      this.#remembered.forget("drain", orders.backendOf(cluster, resumed.name));
      return resumed;
    });
  }

  /** Ends all its orders; when this returns they are over, or the sidecar is not there. */
  async close(): Promise<void> {
    this.#closing.abort(
      new OutriggerError("CANCELLED", `lease of \`${this.owner}\`: it is closed`),
    );
    const stream = await this.#stream.catch(() => undefined);
    await stream?.close(this.#rpc.deadlineMs);
    this.#onClose(this);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #give<A>(order: orders.Order<A>, options?: CallOptions): Promise<A> {
    return this.#inTurn(order.subject, options, async (stream, rest) => {
      this.#remembered.makeRoom(order);
      const answer = await order.give(this.#rpc, whoseOf(stream), rest);
      if (stream.isOver) {
        throw ended(this.#rpc.address);
      }
      this.#remembered.add(order.lasting(answer), stream);
      return answer;
    });
  }

  async #inTurn<T>(subject: string, options: CallOptions | undefined, call: Call<T>): Promise<T> {
    return this.#remembered.inTurn(subject, () => this.#under(options, call));
  }

  /** Does it under the lease as it is, or as it will be if the sidecar no longer knows that. */
  async #under<T>(options: CallOptions = {}, call: Call<T>): Promise<T> {
    const end = performance.now() + deadline(options.deadlineMs ?? this.#rpc.deadlineMs);
    for (;;) {
      this.#closing.signal.throwIfAborted();
      const stream = await this.#inTime(this.#stream, end - performance.now());
      try {
        return await call(stream, { ...options, deadlineMs: Math.max(1, end - performance.now()) });
      } catch (error) {
        if (!(error instanceof NotFound && error.resourceType === "lease")) {
          throw error;
        }
        stream.cancel();
        await stream.over;
      }
    }
  }

  async #inTime(stream: Promise<LeaseStream>, ms: number): Promise<LeaseStream> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(late(this.#rpc.address)), ms);
    });
    try {
      return await Promise.race([stream, timeout]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Opens the lease again whenever its stream has ended, until it is closed. */
  async #keep(first: LeaseStream): Promise<void> {
    const backoff = new Backoff(500);
    let stream: LeaseStream | undefined = first;
    for (;;) {
      await stream?.over;
      if (this.#closing.signal.aborted) {
        return;
      }
      this.#stream = this.#reopen(backoff);
      stream = await this.#stream.catch(() => undefined);
      if (stream) {
        this.#repeat(stream).catch(() => {});
      }
    }
  }

  async #reopen(backoff: Backoff): Promise<LeaseStream> {
    await backoff.wait(this.#closing.signal);
    return LeaseStream.open(this.#rpc, this.owner, this.#rpc.deadlineMs);
  }

  /** Gives again what was ordered before this stream, until all of it holds or the stream is over. */
  async #repeat(stream: LeaseStream): Promise<void> {
    const backoff = new Backoff(30_000);
    for (;;) {
      const due = this.#remembered.due(stream);
      if (due.length === 0 || stream.isOver) {
        return;
      }
      const queue = due.values();
      const worker = async () => {
        for (const order of queue) {
          await this.#repeatOne(order, stream);
        }
      };
      await Promise.all(Array.from({ length: AT_A_TIME }, worker));
      await backoff.wait(this.#closing.signal);
    }
  }

  /** Leaves for later what cannot be yet: discovery, too, has started anew, and may not know the backend. */
  async #repeatOne(order: orders.Order<unknown>, stream: LeaseStream): Promise<void> {
    const given = this.#remembered.inTurn(order.subject, async () => {
      if (!stream.isOver && this.#remembered.has(order)) {
        await order.give(this.#rpc, whoseOf(stream));
        this.#remembered.add(order, stream);
      }
    });
    await given.catch(async (error) => {
      if (error instanceof Exhausted) {
        await delay(error.retryAfterMs ?? 0);
      }
    });
  }
}

function whoseOf(stream: LeaseStream): orders.Whose {
  return { lifetime: { $case: "leaseId", value: stream.id }, owner: "" };
}

function endingOf(stream: LeaseStream): orders.Ending {
  return { leaseId: stream.id, owner: "", all: false };
}
