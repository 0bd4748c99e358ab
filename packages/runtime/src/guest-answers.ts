import { Failure } from '@torpor/kernel';
import type { Readable } from 'node:stream';

/**
 * Reads an answer of the guest's whole, within limits of size and time: what runs inside a sandbox may have got hold of its guest, and must neither fill
 * our memory nor hold up whoever asks.
 */
export async function readAnswer(
  body: Readable,
  { call, bytesMax, ms }: { call: string; bytesMax: number; ms: number },
): Promise<string> {
  const timer = `answer of ${call}`;
  const late = () =>
    new Failure('deadline_exceeded', `the timer "${timer}" ended after ${ms} ms`, { details: { timer, ms } });
  const bell = setTimeout(() => body.destroy(late()), ms);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body) {
      const buffer = Buffer.from(chunk);
      bytes += buffer.length;
      if (bytes > bytesMax)
        throw new Failure('too_large', `the guest's answer to "${call}" is larger than ${bytesMax} bytes`);
      chunks.push(buffer);
    }
  } finally {
    clearTimeout(bell);
  }
  return Buffer.concat(chunks).toString('utf8');
}
