import { Failure } from '@torpor/kernel';
import { Readable } from 'node:stream';
import type { GuestAnswer } from '../guest.ts';

export function jsonAnswer(value: unknown, status = 200, headers: Record<string, string> = {}): GuestAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json', ...headers },
    body: Readable.from([Buffer.from(JSON.stringify(value))]),
  };
}

export function bytesAnswer(bytes: Buffer, status: number, headers: Record<string, string>): GuestAnswer {
  return {
    status,
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(bytes.length), ...headers },
    body: Readable.from(bytes.length > 0 ? [bytes] : []),
  };
}

export function errorAnswer(failure: Failure): GuestAnswer {
  const status = Number(failure.details?.['status'] ?? 500);
  return jsonAnswer({ error: { code: failure.code, message: failure.message } }, status);
}
