/**
 * How one knows that a service does its work: it is asked something that only a working one answers. That a port takes connections proves nothing: the
 * kernel takes them for a process that hangs. Each check resolves to what the service says of itself and rejects when it says nothing.
 */
import { createConnection, type NetConnectOpts } from 'node:net';

const ANSWER_MS = 5_000;

/** A room, by its own word. */
export async function roomIsWell(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(ANSWER_MS) });
  await answer.body?.cancel();
  return answer.ok;
}

/** nats-server greets whoever connects. */
export async function natsGreets(port: number): Promise<boolean> {
  return (await firstWords({ host: '127.0.0.1', port })).startsWith('INFO ');
}

/** PostgreSQL asks a client for its password as soon as it takes clients, and refuses it with an error while it starts. */
export async function postgresTakesClients(port: number): Promise<boolean> {
  const named = Buffer.from('user\0torpor\0database\0postgres\0\0');
  const head = Buffer.alloc(8);
  head.writeInt32BE(head.length + named.length);
  head.writeInt32BE(3 << 16, 4); // protocol 3.0
  const answer = await firstWords({ host: '127.0.0.1', port }, Buffer.concat([head, named]));
  return answer.startsWith('R');
}

/** hostd says hello: packages/hostd/PROTOCOL.md. */
export async function hostdSaysHello(path: string): Promise<boolean> {
  const hello = { id: 1, verb: 'hello', args: { protocol: 1 } };
  return (await firstWords({ path }, `${JSON.stringify(hello)}\n`)).includes('"ok":true');
}

/** The first bytes that come back, as Latin-1. */
function firstWords(at: NetConnectOpts, question?: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(at);
    const bell = setTimeout(
      () => socket.destroy(new Error(`no answer within ${ANSWER_MS} ms (timer "health")`)),
      ANSWER_MS,
    );
    if (question !== undefined) socket.write(question);
    socket.once('data', (bytes: Buffer) => {
      resolve(bytes.toString('latin1'));
      socket.destroy();
    });
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(bell);
      reject(new Error('the connection was closed without an answer')); // settled already, unless nothing came
    });
  });
}
