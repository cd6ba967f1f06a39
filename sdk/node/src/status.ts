/** What the sidecar says of a failure: a gRPC status, with details of google.rpc. */

import { type StatusObject, status } from "@grpc/grpc-js";
import { milliseconds } from "./duration.js";
import {
  type Code,
  Denied,
  Exhausted,
  InvalidArgument,
  late,
  NotFound,
  OutriggerError,
  Unavailable,
} from "./errors.js";
import { BadRequest, QuotaFailure, ResourceInfo, RetryInfo, Status } from "./generated/errors.js";
import type { Any } from "./generated/google/protobuf/any.js";

/** A status, as one of the errors of this package. */
export function fromStatus(error: StatusObject, address: string): OutriggerError {
  const code = status[error.code] as Code;
  const cause = { cause: error };
  switch (error.code) {
    case status.UNAVAILABLE:
      return new Unavailable(code, `sidecar at ${address}: ${tidy(error.details)}`, cause);
    case status.DEADLINE_EXCEEDED:
      return late(address, cause);
    case status.UNAUTHENTICATED:
    case status.PERMISSION_DENIED:
      return new Denied(code, error.details, cause);
    case status.NOT_FOUND:
      return detailed(new NotFound(code, error.details, cause), error);
    case status.INVALID_ARGUMENT:
      return detailed(new InvalidArgument(code, error.details, cause), error);
    case status.RESOURCE_EXHAUSTED:
      return detailed(new Exhausted(code, error.details, cause), error);
    default:
      return new OutriggerError(code, error.details, cause);
  }
}

/** Without what gRPC would have said of names, of which it had nothing to say. */
function tidy(details: string): string {
  return details.replace(/\.?\s*Resolution note:\s*$/, "");
}

/** Adds what `grpc-status-details-bin` says; what cannot be read says nothing. */
function detailed<E extends NotFound | InvalidArgument | Exhausted>(
  error: E,
  cause: StatusObject,
): E {
  try {
    for (const detail of details(cause)) {
      add(error, detail);
    }
  } catch {}
  return error;
}

function add(error: NotFound | InvalidArgument | Exhausted, { typeUrl, value }: Any): void {
  const is = (message: string) => typeUrl.endsWith(`/google.rpc.${message}`);
  if (error instanceof NotFound && is("ResourceInfo")) {
    const { resourceType, resourceName } = ResourceInfo.decode(value);
    Object.assign(error, { resourceType, resourceName });
  } else if (error instanceof InvalidArgument && is("BadRequest")) {
    error.violations = BadRequest.decode(value).fieldViolations;
  } else if (error instanceof Exhausted && is("QuotaFailure")) {
    error.quota = QuotaFailure.decode(value).violations;
  } else if (error instanceof Exhausted && is("RetryInfo")) {
    error.retryAfterMs = milliseconds(RetryInfo.decode(value).retryDelay);
  }
}

function details(error: StatusObject): Any[] {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  return bytes instanceof Buffer ? Status.decode(bytes).details : [];
}
