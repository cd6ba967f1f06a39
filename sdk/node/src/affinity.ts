/** How requests through the sidecar carry the key that binds them to a backend. */

import { InterceptingCall, type Interceptor } from "@grpc/grpc-js";
import { invalid } from "./errors.js";

const HEADER = "x-outrigger-affinity";

/**
 * The header for any HTTP client. The key is what pins name: 1..=256 printable ASCII characters that
 * neither begin nor end with a space.
 */
export function affinityHeaders(key: string): { [HEADER]: string } {
  if (!/^(?! )[\x20-\x7e]{1,256}(?<! )$/.test(key)) {
    const accepted = "must be 1..=256 printable ASCII characters without a space at either end";
    throw invalid("key", `${accepted}, got ${JSON.stringify(key)}`);
  }
  return { [HEADER]: key };
}

/** `fetch` with the key in each request. */
export function affinityFetch(key: string, fetch = globalThis.fetch): typeof globalThis.fetch {
  const affinity = Object.entries(affinityHeaders(key));
  return (input, init) => {
    const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : {}));
    for (const [name, value] of affinity) {
      headers.set(name, value);
    }
    return fetch(input, { ...init, headers });
  };
}

/** For the option `interceptors` of a client of grpc-js, or of one call: the key in the metadata of each call. */
export function affinityInterceptor(key: string): Interceptor {
  const affinity = Object.entries(affinityHeaders(key));
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        for (const [name, value] of affinity) {
          metadata.set(name, value);
        }
        next(metadata, listener);
      },
    });
}
