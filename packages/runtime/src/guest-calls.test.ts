import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { guestOver, type GuestTransport } from './guest-calls.ts';

function guestThatSays(body: Readable, jsonBodyMs = 5_000) {
  const transport: GuestTransport = {
    send: async () => ({ status: 200, headers: {}, body }),
    tunnel: () => Promise.reject(new Error('there are no tunnels here')),
    close: () => {},
  };
  return guestOver(transport, 'token', { jsonBodyMs });
}

it('does not wait for ever for the rest of an answer that has begun', async () => {
  const body = new Readable({ read: () => {} });
  body.push('{"keepAlive":');
  await expect(guestThatSays(body, 20).busy()).rejects.toMatchObject({
    code: 'deadline_exceeded',
    message: expect.stringContaining('"answer of GET /v1/busy" ended after 20 ms'),
  });
  expect(body.destroyed).toBe(true);
});

it('takes no answer without end', async () => {
  const body = new Readable({ read: () => void body.push(Buffer.alloc(1024 * 1024)) });
  await expect(guestThatSays(body).busy()).rejects.toMatchObject({ code: 'too_large' });
  expect(body.destroyed).toBe(true);
});

it('calls an answer that is no JSON the guest’s failure, not ours', async () => {
  await expect(guestThatSays(Readable.from(['<html>'])).busy()).rejects.toMatchObject({ code: 'bad_gateway' });
});
