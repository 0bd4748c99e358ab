/**
 * One connection of an instance to the forwarder. It is no pipe: what listens at the resolver's address, often a private or a loopback one, is out of the
 * instance's reach otherwise. Only whole queries go out and only whole answers to them come back; anything else ends both sides at once.
 */
import { createConnection, type Socket } from 'node:net';
import { ANSWER, cutter, idOf, QUERY, withLength } from './messages.ts';

/** Queries of one connection that wait for their answers; more end it. */
const PENDING_MAX = 64;

export interface ConnectionOptions {
  readonly resolver: { readonly host: string; readonly port: number };
  readonly idleMs: number;
  /** The resolver's faults. An instance's own are not told: it could fill the log with them. */
  readonly onTrouble: (what: string, error: unknown) => void;
}

export function carryMessages(inside: Socket, { resolver, idleMs, onTrouble }: ConnectionOptions): void {
  const queriesIn = cutter(QUERY);
  const asked = new Set<number>();
  let outside: Socket | undefined;
  const cut = () => {
    inside.destroy();
    outside?.destroy();
  };
  const fail = (error: Error) => {
    onTrouble(`the resolver ${resolver.host} failed over TCP: ${error.message}`, error);
    cut();
  };
  // The resolver is reached with the first query, so that who asks nothing does not even connect to it.
  const reach = () => {
    const socket = createConnection(resolver);
    socket.on('error', fail);
    socket.once('close', () => inside.destroySoon()); // what it answered before is still on its way
    takeAnswers(socket, inside, asked, fail);
    return socket;
  };
  inside.on('data', (chunk) => {
    const queries = queriesIn(chunk);
    if (!queries?.every((query) => admit(asked, query))) return cut();
    for (const query of queries) {
      outside ??= reach();
      outside.write(withLength(query));
    }
  });
  inside.setTimeout(idleMs, () => {
    if (asked.size === 0) return cut();
    fail(new Error(`no answer; the timer "name over TCP" ended after ${idleMs} ms`));
  });
  inside.once('close', cut);
  // The close that follows is what ends the pair.
  inside.on('error', () => {});
}

/** Notes a query as asked and says so. Not so with an id that still waits (RFC 7766 §6.2.1 forbids that), nor when too many wait. */
function admit(asked: Set<number>, query: Buffer): boolean {
  if (asked.has(idOf(query)) || asked.size >= PENDING_MAX) return false;
  asked.add(idOf(query));
  return true;
}

/** One answer for each query: a zone transfer, which has many, is nothing that a sandbox asks. */
function takeAnswers(outside: Socket, inside: Socket, asked: Set<number>, fail: (error: Error) => void): void {
  const answersIn = cutter(ANSWER);
  outside.on('data', (chunk) => {
    const answers = answersIn(chunk);
    if (!answers?.every((answer) => asked.delete(idOf(answer))))
      return fail(new Error('what it sent is no answer to a question of this connection; is it a DNS server?'));
    // Who does not take its answers gets no more of them read; its questions then come to their bound.
    for (const answer of answers) if (!inside.write(withLength(answer))) outside.pause();
  });
  inside.on('drain', () => outside.resume());
}
