import { setTimeout as delay } from "node:timers/promises";

/** Waits until there is something, and fails after `patienceMs`. */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  patienceMs = 5000,
): Promise<T> {
  const end = performance.now() + patienceMs;
  for (;;) {
    const found = await look();
    if (found) {
      return found;
    }
    if (performance.now() > end) {
      throw new Error(`not within ${patienceMs} ms: ${what}`);
    }
    await delay(5);
  }
}
