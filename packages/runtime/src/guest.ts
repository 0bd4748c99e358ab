/** The guest's calls (packages/guest/PROTOCOL.md) as the node-agent makes them. Rejections are Failures with the guest's code. */
import type { Readable } from 'node:stream';
import type { Duplex } from 'node:stream';

export interface GuestIdentity {
  readonly name: string;
  readonly hostname: string;
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  readonly user: string;
  readonly token: string;
  readonly generation: number;
  /** Written as root before anything else is done under this identity. */
  readonly files?: readonly { readonly path: string; readonly content: string; readonly mode?: string }[];
}

export interface GuestRequest {
  readonly method: string;
  /** Path and query as sent, starting `/v1/`. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | string | Readable;
  readonly signal?: AbortSignal;
  /** How long to wait for the head of the answer. 0: no limit (long waits, streams). */
  readonly headMs?: number;
  /** Big bodies travel on another connection than small calls. */
  readonly bulk?: boolean;
}

export interface GuestAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readable;
}

export interface Guest {
  /** Any call; the body streams. A status ≥ 400 is an answer, not a rejection. */
  send(request: GuestRequest): Promise<GuestAnswer>;
  /** A call with JSON both ways. A status ≥ 400 rejects with a Failure. */
  json<T>(
    method: string,
    path: string,
    body?: unknown,
    options?: { headMs?: number; signal?: AbortSignal },
  ): Promise<T>;
  /** Gives the instance its identity. From then on this object speaks with the identity's token, and others must be made with it. */
  claim(identity: GuestIdentity): Promise<void>;
  /** How many keep-alive processes run. With `untilIdleMs` answers when none does, or at that time. */
  busy(options?: { untilIdleMs?: number; signal?: AbortSignal }): Promise<{ keepAlive: number }>;
  /** A byte stream to a port inside, loopback listeners included. Rejects with `bad_gateway` when nothing listens. */
  tunnel(port: number, signal?: AbortSignal): Promise<Duplex>;
  /**
   * Ends it; calls under way fail as retryable. Call it as soon as the instance is known to be gone: a vanished machine sends no goodbye, and calls
   * without a deadline would wait for ever.
   */
  close(): void;
}
