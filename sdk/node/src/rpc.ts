/** Calls over the one connection to the sidecar: who calls, deadlines, retries, and typed errors. */

import {
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  Metadata,
  type MethodDefinition,
  type ServiceError,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { ended, OutriggerError } from "./errors.js";
import { type ClientOptions, deadline, type Settings, settings } from "./options.js";
import { fromStatus } from "./status.js";

export interface CallOptions {
  /** How long the call may take in all, in milliseconds, instead of what the client says. */
  deadlineMs?: number;
  /** Gives the call up; it then fails with the signal's reason. */
  signal?: AbortSignal | undefined;
}

type Method<Q, R> = Pick<
  MethodDefinition<Q, R>,
  "path" | "requestSerialize" | "responseDeserialize"
>;

const SERVICE = "outrigger.v1.ControlService";

/**
 * All calls may be given twice with the result of once, but for reports, which count. They are tried
 * again for so short a time that an app whose sidecar is absent hardly waits.
 */
const SERVICE_CONFIG = {
  loadBalancingConfig: [],
  methodConfig: [
    { name: [{ service: SERVICE, method: "ReportOutcome" }] },
    {
      name: [{ service: SERVICE }],
      retryPolicy: {
        maxAttempts: 3,
        initialBackoff: "0.05s",
        maxBackoff: "0.1s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE"],
      },
    },
  ],
};

const CHANNEL_OPTIONS = {
  "grpc.service_config": JSON.stringify(SERVICE_CONFIG),
  // Else the name of the host is looked for in DNS once more, for a configuration that nobody put there.
  "grpc.service_config_disable_resolution": 1,
  // The sidecar is beside the app: a proxy of the environment is for what is further away.
  "grpc.enable_http_proxy": 0,
  // A sidecar that is back is found within a second.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.min_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1000,
  // Streams stay open for long in silence; this is how they notice that nobody is there any more.
  "grpc.keepalive_time_ms": 30_000,
  "grpc.keepalive_timeout_ms": 10_000,
  // Many clusters with 5,000 backends each.
  "grpc.max_receive_message_length": 64 * 1024 * 1024,
};

export class Rpc {
  readonly address: string;
  readonly deadlineMs: number;
  readonly #token: Settings["token"];
  readonly #client: Client;
  #isClosed = false;

  constructor(options: ClientOptions) {
    const { address, token, credentials, serverName, deadlineMs } = settings(options);
    this.address = address;
    this.deadlineMs = deadlineMs;
    this.#token = token;
    const name = serverName ? { "grpc.ssl_target_name_override": serverName } : {};
    this.#client = new Client(address, credentials, { ...CHANNEL_OPTIONS, ...name });
  }

  /** Asks once, and answers once. */
  async unary<Q, R>(method: Method<Q, R>, request: Q, options: CallOptions = {}): Promise<R> {
    const { signal } = options;
    const grpcOptions = { deadline: Date.now() + deadline(options.deadlineMs ?? this.deadlineMs) };
    const metadata = await this.#metadata();
    signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        metadata,
        grpcOptions,
        (error, response) => {
          signal?.removeEventListener("abort", cancel);
          if (error) {
            reject(signal?.aborted ? signal.reason : this.failure(error));
          } else {
            resolve(response as R);
          }
        },
      );
      const cancel = () => call.cancel();
      signal?.addEventListener("abort", cancel);
    });
  }

  /** A stream of answers. Whoever reads it cancels it. */
  async answers<Q, R>(method: Method<Q, R>, request: Q): Promise<ClientReadableStream<R>> {
    return this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      await this.#metadata(),
    );
  }

  /** A stream in both directions. */
  async conversation<Q, R>(method: Method<Q, R>): Promise<ClientDuplexStream<Q, R>> {
    return this.#client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      await this.#metadata(),
    );
  }

  /** How a stream has failed that ended with this status. */
  failure(end: StatusObject): OutriggerError {
    return end.code === status.OK ? ended(this.address) : fromStatus(end, this.address);
  }

  /** What reading a stream threw, as one of the errors of this package. */
  error(error: unknown): unknown {
    const isStatus = error instanceof Error && "code" in error && "metadata" in error;
    return isStatus ? this.failure(error as ServiceError) : error;
  }

  close(): void {
    this.#isClosed = true;
    this.#client.close();
  }

  /** Who calls. */
  async #metadata(): Promise<Metadata> {
    const token = await this.#token();
    if (this.#isClosed) {
      throw new OutriggerError("CANCELLED", "the client is closed");
    }
    const metadata = new Metadata();
    if (token) {
      metadata.set("authorization", `Bearer ${token}`);
    }
    return metadata;
  }
}

/** What an answer must have. */
export function present<T>(value: T | undefined, what: string): T {
  if (value === undefined) {
    throw new OutriggerError("INTERNAL", `the sidecar answered without ${what}`);
  }
  return value;
}
