import { Failure } from '@torpor/kernel';
import type { Duplex } from 'node:stream';
import type { Guest, GuestAnswer, GuestRequest } from './guest.ts';
import { readAnswer } from './guest-answers.ts';
import { guestFailure } from './guest-failures.ts';

/** What carries calls to one guest. Headers are complete: the token is among them. */
export interface GuestTransport {
  send(request: GuestRequest, token: string): Promise<GuestAnswer>;
  tunnel(port: number, token: string, signal?: AbortSignal): Promise<Duplex>;
  close(): void;
}

const SMALL_CALL_MS = 10_000;
/** A JSON answer larger than this, or slower once it has begun, is a bug of the guest or an attack by what runs inside. */
const JSON_BYTES_MAX = 32 * 1024 * 1024;
const JSON_BODY_MS = 10_000;

/** The guest's calls over any transport. The token changes with the claim. */
export function guestOver(
  transport: GuestTransport,
  firstToken: string,
  { jsonBodyMs = JSON_BODY_MS }: { jsonBodyMs?: number } = {},
): Guest {
  let token = firstToken;

  const json: Guest['json'] = async <T>(
    method: string,
    path: string,
    body?: unknown,
    options: { headMs?: number; signal?: AbortSignal } = {},
  ): Promise<T> => {
    const answer = await transport.send(jsonRequest(method, path, body, options), token);
    const call = `${method} ${path}`;
    const text = await readAnswer(answer.body, { call, bytesMax: JSON_BYTES_MAX, ms: jsonBodyMs });
    if (answer.status >= 400) throw guestFailure(call, answer.status, text);
    return parse(call, text) as T; // the guest is our own program; its protocol says the shape
  };

  return {
    json,
    send: (request) => transport.send(request, token),
    async claim(identity) {
      await json('POST', '/v1/identity', identity);
      token = identity.token;
    },
    busy({ untilIdleMs, signal } = {}) {
      const path = untilIdleMs === undefined ? '/v1/busy' : `/v1/busy?until=idle&timeoutMs=${untilIdleMs}`;
      const headMs = SMALL_CALL_MS + (untilIdleMs ?? 0);
      return json('GET', path, undefined, signal ? { headMs, signal } : { headMs });
    },
    tunnel: (port, signal) => transport.tunnel(port, token, signal),
    close: () => transport.close(),
  };
}

function jsonRequest(
  method: string,
  path: string,
  body: unknown,
  options: { headMs?: number; signal?: AbortSignal },
): GuestRequest {
  const request = {
    method,
    path,
    headMs: options.headMs ?? SMALL_CALL_MS,
    ...(options.signal ? { signal: options.signal } : {}),
  };
  if (body === undefined) return request;
  return { ...request, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}

function parse(call: string, text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Failure('bad_gateway', `the guest answered "${call}" with what is no JSON`, { cause });
  }
}
