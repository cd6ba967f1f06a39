/** Times as this package has them, in milliseconds, and as the control API has them. */

import { invalid } from "./errors.js";
import type { Duration } from "./generated/google/protobuf/duration.js";

/** `field` names the argument if it cannot be a duration at all; its range is judged by the sidecar. */
export function duration(field: string, ms: number): Duration {
  if (!Number.isFinite(ms)) {
    throw invalid(field, `must be a number of milliseconds, got ${ms}`);
  }
  const seconds = Math.trunc(ms / 1e3);
  return { seconds, nanos: Math.round((ms - seconds * 1e3) * 1e6) };
}

export function milliseconds(duration: Duration | undefined): number {
  return (duration?.seconds ?? 0) * 1e3 + (duration?.nanos ?? 0) / 1e6;
}
