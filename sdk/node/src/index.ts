/** The SDK of Outrigger: an app says where its work should go, and nothing that it says outlives it. */

export { affinityFetch, affinityHeaders, affinityInterceptor } from "./affinity.js";
export type { EndingOptions, EventOptions, ReportOptions, TtlOptions } from "./client.js";
export { Client } from "./client.js";
export type { Code, FieldViolation } from "./errors.js";
export {
  Denied,
  Exhausted,
  InvalidArgument,
  NotFound,
  OutriggerError,
  Unavailable,
} from "./errors.js";
export type { Duration } from "./generated/google/protobuf/duration.js";
export type {
  Backend,
  Cluster,
  Event,
  ExplainResponse,
  Explanation,
  GetAffinityResponse,
  ListEventsResponse,
  Order,
  WaitDrainedResponse,
} from "./generated/outrigger/v1/control.js";
export { Outcome, Reason, State } from "./generated/outrigger/v1/control.js";
export type { DrainOptions, Lease } from "./lease.js";
export type { ClientOptions, TlsOptions } from "./options.js";
export type { Endpoint } from "./proxy_header.js";
export { proxyHeader } from "./proxy_header.js";
export type { CallOptions } from "./rpc.js";
export type { View } from "./view.js";
