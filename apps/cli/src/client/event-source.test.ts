import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { eventSourceOver } from './event-source.ts';

const server = createServer((request, response) => {
  if (request.headers.authorization !== 'Bearer k') return response.writeHead(401).end('no key');
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  // Cut inside a block, and inside the two bytes of a letter.
  const bytes = Buffer.from('event: connected\ndata: {}\n\ndata: zwölf\nid: 7\n\n');
  const cut = bytes.indexOf(0xc3) + 1;
  response.write(bytes.subarray(0, cut), () => response.end(bytes.subarray(cut)));
});
let url = '';
beforeAll(async () => {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`; // it listens on TCP
});
afterAll(() => server.close());

function heard(key: string): Promise<string[]> {
  const withKey: typeof fetch = (input, init) =>
    fetch(input, { ...init, headers: { ...Object.fromEntries(new Headers(init?.headers)), authorization: key } });
  const source = new (eventSourceOver(withKey))(url);
  const told: string[] = [];
  for (const name of ['connected', 'message'])
    source.addEventListener(name, (event) => told.push(`${name} ${(event as MessageEvent).data}`));
  return new Promise((done) => {
    source.addEventListener('error', (event) => {
      told.push(`error ${(event as Event & { message: string }).message}`); // ours carry their reason
      done(told);
    });
  });
}

it('hears named and unnamed events whole, and then that the stream ended', async () => {
  expect(await heard('Bearer k')).toEqual(['connected {}', 'message zwölf', 'error the stack ended the stream']);
});

it('says why a stream could not be opened', async () => {
  expect(await heard('Bearer wrong')).toEqual(['error 401: no key']);
});
