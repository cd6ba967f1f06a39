import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A tiny HTTP server that answers with its name; and with nothing yet to `/slow`. */
export class Backend implements AsyncDisposable {
  /** What is asked of `/slow`, to be answered by the test. */
  readonly slow: ServerResponse[] = [];

  private constructor(
    readonly name: string,
    private readonly server: Server,
  ) {}

  static async start(): Promise<Backend> {
    const server = createServer().listen(0, "127.0.0.1");
    // A test that fails to begin ends nevertheless.
    server.unref();
    await once(server, "listening");
    const backend = new Backend(`127.0.0.1:${(server.address() as AddressInfo).port}`, server);
    server.on("request", ({ url }, response) => {
      if (url === "/slow") {
        backend.slow.push(response);
      } else {
        response.end(backend.name);
      }
    });
    return backend;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
  }
}
