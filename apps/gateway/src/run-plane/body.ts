/**
 * A caller's body on its way to the node. A small one that has arrived whole with its head is taken as it is, so that it can be sent again; any
 * other is streamed as it comes.
 */
import type { IncomingMessage } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '@torpor/kernel';
import { Pieces } from './pieces.ts';

export type OutgoingBody = { readonly kind: 'none' } | { readonly kind: 'whole'; readonly bytes: Buffer } | BodyStream;

export interface BodyStream {
  readonly kind: 'stream';
  /** As the caller announced it. */
  readonly length: number | undefined;
  readonly pieces: Pieces;
}

const WHOLE_MAX_BYTES = 48 * 1024;

export async function takeBody(
  request: IncomingMessage,
  limits: { clock: Clock; idleMs: number },
): Promise<OutgoingBody> {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers;
  if (coding === undefined && (length === undefined || length === '0')) return { kind: 'none' };
  if (coding === undefined && Number(length) <= WHOLE_MAX_BYTES) {
    // What came in one packet with the head has been parsed one turn later.
    if (!request.complete) await nextTurn();
    if (request.complete && request.readableLength === Number(length)) {
      const bytes: unknown = request.read();
      if (!Buffer.isBuffer(bytes)) throw new Error('a body that is here cannot be read');
      return { kind: 'whole', bytes };
    }
  }
  const pieces = new Pieces(request, limits);
  return { kind: 'stream', length: coding === undefined ? Number(length) : undefined, pieces };
}

/** Whether the request can still be sent from its beginning. */
export function canRepeat(body: OutgoingBody): boolean {
  return body.kind !== 'stream' || !body.pieces.isTouched;
}
