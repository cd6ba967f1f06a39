/** A sidecar for what the real one will not do on request: to be absent, to be slow, to break off. */

import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { Status } from "../../src/generated/errors.js";
import {
  Backend,
  ControlServiceService,
  type OpenLeaseRequest,
  type OpenLeaseResponse,
  type WatchClusterRequest,
  type WatchClusterResponse,
} from "../../src/generated/outrigger/v1/control.js";
import { eventually } from "./eventually.js";

/** A call as it came. */
export interface Seen {
  method: string;
  request: Record<string, unknown>;
  authorization: string | undefined;
  affinity: string | undefined;
}

export interface Failure {
  code: status;
  message?: string;
  details?: { typeUrl: string; value: Uint8Array }[];
}

type Method = keyof typeof ControlServiceService;
type Watch = ServerWritableStream<WatchClusterRequest, WatchClusterResponse>;
type LeaseCall = ServerDuplexStream<OpenLeaseRequest, OpenLeaseResponse>;

export class FakeSidecar {
  /** All calls but those of streams, in their order, also those that failed. */
  readonly seen: Seen[] = [];
  /** Answers other than the usual ones, by method. */
  readonly answers: Record<string, (request: never) => object> = {};
  /** Calls of these methods have no answer. */
  readonly silent = new Set<string>();
  readonly watches: Watch[] = [];
  readonly leases: LeaseCall[] = [];
  readonly #failures = new Map<Method, Failure[]>();
  #server = new Server();
  #opened = 0;

  private constructor(public address: string) {}

  static async start(address = "127.0.0.1:0"): Promise<FakeSidecar> {
    const fake = new FakeSidecar(address);
    await fake.start();
    return fake;
  }

  /** Listens again where it has listened before. */
  async start(): Promise<void> {
    this.#server = new Server();
    this.#server.addService(ControlServiceService, this.#service());
    const port = await new Promise<number>((resolve, reject) => {
      const done = (error: Error | null, port: number) => (error ? reject(error) : resolve(port));
      this.#server.bindAsync(this.address, ServerCredentials.createInsecure(), done);
    });
    this.address = this.address.replace(/:0$/, `:${port}`);
  }

  /** Breaks everything off, as SIGKILL would. */
  kill(): void {
    this.#server.forceShutdown();
  }

  /** The next calls of a method fail, in turn. */
  fail(method: Method, ...failures: Failure[]): void {
    this.#failures.set(method, failures);
  }

  /** The requests of a method so far. */
  requests(method: string): Record<string, unknown>[] {
    return this.seen.filter((call) => call.method === method).map((call) => call.request);
  }

  /** The watch with this number, from 0, once it is there. */
  async watch(number: number): Promise<Watch> {
    return eventually(`watch ${number} is there`, () => this.watches[number]);
  }

  async lease(number: number): Promise<LeaseCall> {
    return eventually(`lease ${number} is there`, () => this.leases[number]);
  }

  #service(): UntypedServiceImplementation {
    const methods = Object.keys(ControlServiceService) as Method[];
    const unary = methods
      .filter((method) => !ControlServiceService[method].responseStream)
      .map((method) => [method, this.#unary(method)]);
    return {
      ...Object.fromEntries(unary),
      watchCluster: (call: Watch) => {
        const failure = this.#failures.get("watchCluster")?.shift();
        if (failure) {
          call.emit("error", failed(failure));
          return;
        }
        this.watches.push(call);
      },
      openLease: (call: LeaseCall) => this.#openLease(call),
    };
  }

  #unary(method: Method) {
    return (
      call: ServerUnaryCall<Record<string, unknown>, object>,
      callback: (error: object | null, answer?: object) => void,
    ) => {
      const said = (name: string) => call.metadata.get(name)[0]?.toString();
      this.seen.push({
        method,
        request: call.request,
        authorization: said("authorization"),
        affinity: said("x-outrigger-affinity"),
      });
      const failure = this.#failures.get(method)?.shift();
      if (failure) {
        callback(failed(failure));
      } else if (!this.silent.has(method)) {
        callback(
          null,
          this.answers[method]?.(call.request as never) ?? usual(method, call.request),
        );
      }
    };
  }

  #openLease(call: LeaseCall): void {
    const failure = this.#failures.get("openLease")?.shift();
    if (failure) {
      call.emit("error", failed(failure));
      return;
    }
    this.leases.push(call);
    call.once("data", () => {
      if (!this.silent.has("openLease")) {
        this.#opened += 1;
        call.write({ leaseId: `lease-${this.#opened}` });
      }
    });
    call.once("end", () => call.end());
  }
}

/** An empty answer, but for the backend that was asked for. */
function usual(method: Method, request: Record<string, unknown>): object {
  const empty = ControlServiceService[method].responseDeserialize(Buffer.alloc(0));
  const name = String(request.backend ?? "");
  if (!("backend" in empty)) {
    return empty;
  }
  return { ...empty, backend: empty.backend === undefined ? Backend.create({ name }) : name };
}

function failed({ code, message = "as ordered", details }: Failure): object {
  const metadata = new Metadata();
  if (details) {
    const bytes = Status.encode(
      Status.create({
        code,
        message,
        details: details.map((d) => ({ ...d, value: Buffer.from(d.value) })),
      }),
    ).finish();
    metadata.set("grpc-status-details-bin", Buffer.from(bytes));
  }
  return { code, details: message, metadata };
}
