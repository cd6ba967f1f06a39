/** Where the sidecar is, and who calls: what is given, what the environment says, and the defaults. */

import { readFile } from "node:fs/promises";
import { ChannelCredentials } from "@grpc/grpc-js";
import { Denied, invalid } from "./errors.js";

export interface ClientOptions {
  /**
   * `HOST:PORT` or `unix:PATH`; by default that of the environment variable `OUTRIGGER_CONTROL`, or
   * 127.0.0.1:9911.
   */
  address?: string;
  /** A token of the sidecar's `token_file`. Without TLS it is sent to this machine only. */
  token?: string;
  /**
   * A file with the token, read anew for each call, so that it may be replaced; by default that of the
   * environment variable `OUTRIGGER_CONTROL_TOKEN_FILE`.
   */
  tokenFile?: string;
  /** By default none; `true`: with the certificate authorities of Node. */
  tls?: boolean | TlsOptions;
  /** How long a call may take in all, in milliseconds; 2,000 by default. */
  deadlineMs?: number;
}

/** PEM, not paths. */
export interface TlsOptions {
  /** Who has signed the sidecar's certificate; by default the authorities of Node. */
  ca?: string | Buffer;
  /** The app's own certificate with those that lead to an authority, and its key. */
  cert?: string | Buffer;
  key?: string | Buffer;
  /** What the sidecar's certificate is for, if that is not its host. */
  serverName?: string;
}

export interface Settings {
  address: string;
  /** The token as it is now; empty: none. */
  token: () => Promise<string>;
  credentials: ChannelCredentials;
  serverName: string | undefined;
  deadlineMs: number;
}

const TOKEN = "1..=4096 printable ASCII characters without spaces";

export function settings(options: ClientOptions): Settings {
  const tls = options.tls === true ? {} : options.tls || undefined;
  const { token, tokenFile = process.env.OUTRIGGER_CONTROL_TOKEN_FILE } = options;
  const where = address(options.address ?? (process.env.OUTRIGGER_CONTROL || "127.0.0.1:9911"));
  if ((token || tokenFile) && !tls && !isHere(where)) {
    throw invalid("address", `a token is sent without TLS to this machine only, not to ${where}`);
  }
  return {
    address: where,
    token: token === undefined && tokenFile ? () => tokenIn(tokenFile) : given(token ?? ""),
    credentials: tls ? tlsCredentials(tls) : ChannelCredentials.createInsecure(),
    serverName: tls?.serverName,
    deadlineMs: deadline(options.deadlineMs ?? 2000),
  };
}

function address(value: string): string {
  const port = Number(/^(?:\[[^\]]+\]|[^:/]+):(\d{1,5})$/.exec(value)?.[1]);
  if (/^unix:.+/.test(value) || (port >= 1 && port <= 65535)) {
    return value;
  }
  throw invalid("address", `must be HOST:PORT or unix:PATH, got \`${value}\``);
}

function isHere(address: string): boolean {
  return /^(unix:|localhost:|\[::1\]:|127\.\d+\.\d+\.\d+:)/.test(address);
}

function given(token: string): Settings["token"] {
  if (token && !isToken(token)) {
    throw invalid("token", `must be ${TOKEN}`);
  }
  return async () => token;
}

async function tokenIn(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch((cause: Error) => {
    throw new Denied("UNAUTHENTICATED", `token file: ${cause.message}`, { cause });
  });
  const token = text.trim();
  if (!isToken(token)) {
    throw new Denied("UNAUTHENTICATED", `token file \`${file}\`: must hold ${TOKEN}`);
  }
  return token;
}

function isToken(value: string): boolean {
  return /^[\x21-\x7e]{1,4096}$/.test(value);
}

function tlsCredentials({ ca, cert, key }: TlsOptions): ChannelCredentials {
  const pem = (value?: string | Buffer) => (value === undefined ? null : Buffer.from(value));
  try {
    return ChannelCredentials.createSsl(pem(ca), pem(key), pem(cert));
  } catch (cause) {
    throw invalid("tls", (cause as Error).message);
  }
}

export function deadline(ms: number): number {
  if (ms > 0) {
    return ms;
  }
  throw invalid("deadlineMs", `must be more than 0, got ${ms}`);
}
