/** A cluster as a watch knows it, and how messages change that. */

import type { Backend, WatchClusterResponse } from "./generated/outrigger/v1/control.js";

/** All of a cluster at one time. Nothing in it changes later. */
export interface View {
  cluster: string;
  /** Tells this life of the sidecar from others; versions of different lives say nothing of each other. */
  instance: string;
  /** Counts up with every change. */
  version: number;
  /** Whether backends in doubt are used because too few others are left. */
  panic: boolean;
  /** By name. `inFlight` and `ewma` are as they were when something else of the backend changed. */
  backends: ReadonlyMap<string, Backend>;
}

/**
 * The view after a whole change: all messages up to the one whose `more` is false. A change of which a
 * part is missing must leave no trace, since the next watch begins where this view is.
 */
export function apply(
  cluster: string,
  before: View | undefined,
  change: WatchClusterResponse[],
): View {
  const backends = new Map(before?.backends);
  let [instance, version, panic] = ["", 0, false];
  for (const message of change) {
    if (message.full) {
      backends.clear();
    }
    for (const backend of message.changed) {
      backends.set(backend.name, backend);
    }
    for (const name of message.removed) {
      backends.delete(name);
    }
    ({ instance, version, panic } = message);
  }
  return { cluster, instance, version, panic, backends };
}
