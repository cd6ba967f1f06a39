/** How long to wait before the next try: longer each time, and not all at once. */

import { setTimeout as delay } from "node:timers/promises";

const FIRST_MS = 50;

export class Backoff {
  #next = FIRST_MS;
  #since = performance.now();

  constructor(private readonly longestMs = 1000) {}

  /** Waits; fails with the signal's reason once that is aborted. A try that has lasted begins a new series. */
  async wait(signal?: AbortSignal): Promise<void> {
    if (performance.now() - this.#since > this.longestMs) {
      this.#next = FIRST_MS;
    }
    const ms = this.#next * (0.5 + Math.random() / 2);
    this.#next = Math.min(this.#next * 2, this.longestMs);
    await delay(ms, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
    this.#since = performance.now();
  }
}
