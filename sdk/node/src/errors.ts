/** What a call can fail with. */

import type { status } from "@grpc/grpc-js";

/** The name of a gRPC status: `NOT_FOUND`, `UNAVAILABLE`, … */
export type Code = keyof typeof status;

/** A call that failed: it has changed nothing, unless the sidecar went away in the middle of it. */
export class OutriggerError extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The sidecar is not there (`UNAVAILABLE`), or has not answered in time (`DEADLINE_EXCEEDED`). */
export class Unavailable extends OutriggerError {}

/** There is no such cluster, backend or lease. */
export class NotFound extends OutriggerError {
  /** `cluster`, `backend` or `lease`; empty if the sidecar did not say. */
  resourceType = "";
  /** The name that was asked for. */
  resourceName = "";
}

export interface FieldViolation {
  field: string;
  /** The value, and what is accepted. */
  description: string;
}

/** An argument is not as it must be. */
export class InvalidArgument extends OutriggerError {
  violations: FieldViolation[] = [];
}

/** A table is full, or changes come too fast. */
export class Exhausted extends OutriggerError {
  /** Which table, and how many it holds; empty if changes come too fast. */
  quota: { subject: string; description: string }[] = [];
  /** When to try again, in milliseconds from now; undefined if a table is full. */
  retryAfterMs: number | undefined;
}

/** Who calls is not known (`UNAUTHENTICATED`), or may not do this (`PERMISSION_DENIED`). */
export class Denied extends OutriggerError {}

/** An argument that need not be sent to know that it is wrong. */
export function invalid(field: string, description: string): InvalidArgument {
  const error = new InvalidArgument("INVALID_ARGUMENT", `${field}: ${description}`);
  error.violations = [{ field, description }];
  return error;
}

/** The sidecar has not answered in time. */
export function late(address: string, options?: ErrorOptions): Unavailable {
  return new Unavailable("DEADLINE_EXCEEDED", `sidecar at ${address}: no answer in time`, options);
}

/** The sidecar has ended a stream that was to stay open. */
export function ended(address: string): Unavailable {
  return new Unavailable("UNAVAILABLE", `sidecar at ${address}: it has ended the stream`);
}
