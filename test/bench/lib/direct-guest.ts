/** The guest of a sandbox called past gateway and node-agent: the floor. Only root can do this: address and token stand in the node's journal. */
import { readdir, readFile } from 'node:fs/promises';
import { connect, type ClientHttp2Session } from 'node:http2';
import { join } from 'node:path';
import type { Made } from './sandboxes.ts';
import type { Stack } from './stack.ts';

export interface DirectGuest {
  exec(shell: string): Promise<{ tookMs: number }>;
  read(path: string): Promise<{ tookMs: number }>;
  /** What runs and listens, as it is counted before each sleep. */
  census(): Promise<{ tookMs: number }>;
  close(): void;
}

const GUEST_PORT = 7070;

export async function directGuest(stack: Stack, sandbox: Made): Promise<DirectGuest> {
  const { token, slot } = await fromJournal(stack, sandbox.hostId);
  const { subnet } = JSON.parse(await readFile(join(stack.stateDir, 'places.json'), 'utf8')) as { subnet: string }; // written by `up`
  const [a, b] = subnet.split('.');
  const offset = slot * 4 + 2;
  const session = connect(`http://${a}.${b}.${offset >> 8}.${offset & 255}:${GUEST_PORT}`);
  return {
    exec: (shell) => call(session, token, 'POST', '/v1/processes', JSON.stringify({ shell, waitMs: 30_000 })),
    read: (path) => call(session, token, 'GET', `/v1/files/content?path=${encodeURIComponent(path)}`),
    census: () => call(session, token, 'GET', '/v1/census'),
    close: () => session.close(),
  };
}

/** The newest token and slot that the instance's journal holds. */
async function fromJournal(stack: Stack, hostId: string): Promise<{ token: string; slot: number }> {
  const directory = join(stack.stateDir, 'node', 'journal', hostId);
  const text = (
    await Promise.all((await readdir(directory)).map((file) => readFile(join(directory, file), 'utf8')))
  ).join('\n');
  const last = (pattern: RegExp) => [...text.matchAll(pattern)].at(-1)?.[1];
  const token = last(/"token":"([^"]+)"/g);
  const slot = last(/"slot":(\d+)/g);
  if (token === undefined || slot === undefined) throw new Error(`${directory} tells no token and slot`);
  return { token, slot: Number(slot) };
}

function call(
  session: ClientHttp2Session,
  token: string,
  method: string,
  path: string,
  body?: string,
): Promise<{ tookMs: number }> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const stream = session.request({
      ':method': method,
      ':path': path,
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
    });
    stream.once('response', (headers) => {
      if (Number(headers[':status']) >= 300)
        reject(new Error(`the guest answered ${headers[':status']} to ${method} ${path}`));
    });
    stream.on('data', () => {});
    stream.once('end', () => resolve({ tookMs: performance.now() - start }));
    stream.once('error', reject);
    stream.end(body);
  });
}
