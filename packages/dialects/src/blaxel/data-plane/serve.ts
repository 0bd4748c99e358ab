/**
 * Blaxel's in-sandbox API, translated to the guest's calls. Nothing is remembered here between requests: whatever must last lies in the
 * sandbox itself, so that it sleeps, wakes and outlives the node-agent together with the sandbox.
 */
import type { Readable } from 'node:stream';
import type { Chance, Clock } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';

export interface DataPlaneRequest {
  readonly method: string;
  /** Path and query behind the sandbox's prefix, as they came on the wire: nothing decoded, no slashes merged. */
  readonly rawPath: string;
  /** Names in lower case, as `node:http` gives them. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readable;
  /** Aborts when the caller has gone. */
  readonly signal: AbortSignal;
}

export interface DataPlaneAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Readable | Buffer | undefined;
}

export interface DataPlaneCall {
  readonly request: DataPlaneRequest;
  readonly guest: Guest;
  /** Where relative paths start: the instance's workdir. */
  readonly workdir: string;
  readonly clock: Clock;
  readonly chance: Chance;
  /** Told while a stream is open, so that the sandbox does not fall asleep under it. Keep-alive processes are the guest's to tell (`guest.busy`). */
  readonly hold?: { keepAwake(reason: string): () => void };
}

/** Answers one request. Refusals are answers; it rejects only for bugs, and when the signal aborts. */
export function serveBlaxelDataPlane(_call: DataPlaneCall): Promise<DataPlaneAnswer> {
  const body = Buffer.from(JSON.stringify({ error: 'the data plane is not wired yet' }));
  return Promise.resolve({ status: 501, headers: { 'content-type': 'application/json' }, body });
}
