import { Failure } from '@torpor/kernel';

/** What one message may weigh, in bytes, where the server is ours: the heartbeat of a node with all its 16 384 slots taken is one message. */
export const PAYLOAD_BYTES_MAX = 8 * 1024 * 1024;

/** A request as it travels. One that the server would not take is refused here: asked again it would be as large. */
export function requestText(envelope: unknown, subject: string, bytesMax: number): string {
  const text = JSON.stringify(envelope);
  const bytes = Buffer.byteLength(text);
  if (bytes <= bytesMax) return text;
  const message = `the request of ${subject} takes ${bytes} bytes, and the bus carries at most ${bytesMax}; ask for less, or raise the server's max_payload`;
  throw new Failure('too_large', message, { details: { bytes, bytesMax } });
}
