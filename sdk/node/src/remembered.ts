/** What a lease has ordered, so that it can be ordered again of a sidecar that has started anew. */

import { Exhausted } from "./errors.js";
import type { LeaseStream } from "./lease_stream.js";
import type { Order } from "./orders.js";

/** As many as the sidecar's own largest table, that of pins, holds. */
const LARGEST = 65_536;

interface Held {
  order: Order<unknown>;
  /** Under which it holds. */
  by: LeaseStream;
}

export class Remembered {
  readonly #held = new Map<string, Held>();
  readonly #turns = new Map<string, Promise<unknown>>();

  /** Fails if there is no room for it. */
  makeRoom(order: Order<unknown>): void {
    if (this.#held.size >= LARGEST && !this.#held.has(nameOf(order))) {
      throw new Exhausted("RESOURCE_EXHAUSTED", `a lease holds ${LARGEST} orders and no more`);
    }
  }

  add(order: Order<unknown>, by: LeaseStream): void {
    this.#held.set(nameOf(order), { order, by });
  }

  has(order: Order<unknown>): boolean {
    return this.#held.get(nameOf(order))?.order === order;
  }

  forget(kind: Order<unknown>["kind"], subject: string): void {
    this.#held.delete(nameOf({ kind, subject }));
  }

  /** What does not hold under this stream. */
  due(stream: LeaseStream): Order<unknown>[] {
    return [...this.#held.values()].filter(({ by }) => by !== stream).map(({ order }) => order);
  }

  /**
   * Runs `work` when all that came before about its subject is done, so that the order remembered is
   * the one that the sidecar was given last.
   */
  async inTurn<T>(subject: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(subject) ?? Promise.resolve();
    const turn = before.then(work, work);
    this.#turns.set(subject, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(subject) === turn) {
        this.#turns.delete(subject);
      }
    }
  }
}

function nameOf({ kind, subject }: Pick<Order<unknown>, "kind" | "subject">): string {
  return `${kind} ${subject}`;
}
