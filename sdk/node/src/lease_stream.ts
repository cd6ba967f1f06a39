/** One `OpenLease` stream: the lease that it gives lives as long as it does. */

import type { ClientDuplexStream, StatusObject } from "@grpc/grpc-js";
import { late } from "./errors.js";
import {
  ControlServiceService,
  type OpenLeaseRequest,
  type OpenLeaseResponse,
} from "./generated/outrigger/v1/control.js";
import type { Rpc } from "./rpc.js";

export class LeaseStream {
  isOver = false;
  /** Settled when it is over, however it ended. */
  readonly over: Promise<void>;

  private constructor(
    /** What orders name. */
    readonly id: string,
    private readonly stream: ClientDuplexStream<OpenLeaseRequest, OpenLeaseResponse>,
    ended: Promise<StatusObject>,
  ) {
    this.over = ended.then(() => {
      this.isOver = true;
    });
  }

  /** Fails unless the lease is there within `deadlineMs`. */
  static async open(rpc: Rpc, owner: string, deadlineMs: number): Promise<LeaseStream> {
    const stream = await rpc.conversation(ControlServiceService.openLease);
    // The status says the same, and comes in any case.
    stream.on("error", () => {});
    const ended = new Promise<StatusObject>((resolve) => stream.once("status", resolve));
    const id = new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(late(rpc.address));
        stream.cancel();
      }, deadlineMs);
      ended.then((status) => reject(rpc.failure(status)));
      ended.finally(() => clearTimeout(timer));
      stream.once("data", ({ leaseId }: OpenLeaseResponse) => {
        clearTimeout(timer);
        resolve(leaseId);
      });
    });
    stream.write({ owner });
    return new LeaseStream(await id, stream, ended);
  }

  /** Ends the lease; when this returns, what was ordered under it is over, or nobody has answered. */
  async close(deadlineMs: number): Promise<void> {
    const timer = setTimeout(() => this.stream.cancel(), deadlineMs);
    this.stream.end();
    await this.over;
    clearTimeout(timer);
  }

  cancel(): void {
    this.stream.cancel();
  }
}
