/** Follows a cluster, across restarts of the sidecar. */

import { Backoff } from "./backoff.js";
import { Denied, ended, InvalidArgument, late, NotFound } from "./errors.js";
import {
  ControlServiceService,
  type WatchClusterResponse,
} from "./generated/outrigger/v1/control.js";
import type { Rpc } from "./rpc.js";
import { apply, type View } from "./view.js";

/**
 * The first view has to come in time, like the answer to any call. After that whatever passes is waited
 * for: what is known stays true for all that anybody knows.
 */
export async function* watch(
  rpc: Rpc,
  cluster: string,
  signal?: AbortSignal,
): AsyncGenerator<View> {
  const backoff = new Backoff();
  let view: View | undefined;
  for (;;) {
    try {
      for await (view of follow(rpc, cluster, view, signal)) {
        yield view;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!view || !passes(error)) {
        throw error;
      }
    }
    await backoff.wait(signal);
  }
}

/** Whether another try may do better. */
function passes(error: unknown): boolean {
  return ![Denied, InvalidArgument, NotFound].some((kind) => error instanceof kind);
}

/** The views of one stream, which ends with an error, however it ends. */
async function* follow(
  rpc: Rpc,
  cluster: string,
  from: View | undefined,
  signal?: AbortSignal,
): AsyncGenerator<View, never> {
  signal?.throwIfAborted();
  const { instance = "", version = 0 } = from ?? {};
  const request = { cluster, instance, version };
  const stream = await rpc.answers(ControlServiceService.watchCluster, request);
  const cancel = () => stream.cancel();
  signal?.addEventListener("abort", cancel);
  // Nothing need come where all is known already.
  const patience = new AbortController();
  const timer = from ? undefined : setTimeout(() => patience.abort(), rpc.deadlineMs);
  patience.signal.addEventListener("abort", cancel);
  // What comes after the reading has ended is of no interest.
  stream.on("error", () => {});
  try {
    let view = from;
    let change: WatchClusterResponse[] = [];
    for await (const message of stream as AsyncIterable<WatchClusterResponse>) {
      change.push(message);
      if (!message.more) {
        clearTimeout(timer);
        view = apply(cluster, view, change);
        change = [];
        yield view;
      }
    }
    throw ended(rpc.address);
  } catch (error) {
    throw patience.signal.aborted ? late(rpc.address) : rpc.error(error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
    stream.cancel();
  }
}
