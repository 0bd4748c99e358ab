/**
 * The DNS forwarder of a node. Instances ask the host's end of their own veth at port 53, which the node's firewall leads here; we ask the host's
 * resolvers and carry the answer back. We read only headers and lengths (`messages.ts`): what names mean is the resolver's affair.
 *
 * Only addresses of the node's own instances are answered, so that the port is no open resolver for anybody else who reaches this host; and each has a
 * share of what we carry at once, so that one that asks for ever what nobody answers leaves the others their names.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { getServers } from 'node:dns';
import { createServer, isIPv6, type Server } from 'node:net';
import { explain, hostAndPort } from '@torpor/kernel';
import { carryMessages } from './connection.ts';
import { ANSWER, idOf, isWhole, QUERY } from './messages.ts';

const DNS_PORT = 53;
/**
 * Every address: the firewall's redirect leads to the gateway that was asked, and gateways come and go with their instances, so that no narrower address
 * would hear the next one. The firewall lets in nobody else (`packages/hostd/internal/network/table.go`).
 */
const LISTEN_ADDRESS = '0.0.0.0';

export interface ForwarderOptions {
  readonly port: number;
  /** Whether this IPv4 address is an instance's. */
  readonly isInstance: (address: string) => boolean;
  readonly onTrouble: (what: string, error: unknown) => void;
  /** `address` or `address:port`, asked in turn; default the host's own. */
  readonly upstream?: readonly string[];
  /** How long one resolver may take before the next is asked. Default 2 s. */
  readonly answerMs?: number;
  /** How long nothing may move on a connection before it is ended. Default 5 s. */
  readonly idleMs?: number;
}

export interface Forwarder {
  readonly port: number;
  close(): Promise<void>;
}

const PENDING_MAX = 1_024;
const PENDING_EACH = 64;
const TCP_MAX = 256;
const TCP_EACH = 8;
const SERVFAIL = 2;

export async function forwardNames(options: ForwarderOptions): Promise<Forwarder> {
  const udp = createSocket('udp4');
  await new Promise<void>((resolve, reject) => udp.once('error', reject).bind(options.port, LISTEN_ADDRESS, resolve));
  const { port } = udp.address();
  udp.removeAllListeners('error').on('error', (error) => options.onTrouble('the DNS socket', error));
  const closing = new AbortController();
  const asking = new Shares({ all: PENDING_MAX, each: PENDING_EACH });
  udp.on('message', (query, from) => {
    if (!options.isInstance(from.address) || !isWhole(QUERY, query)) return;
    if (!asking.take(from.address)) return reply(udp, refusal(query), from);
    const asked = askInTurn(query, options, closing.signal).finally(() => asking.giveBack(from.address));
    asked.then(
      (answer) => reply(udp, answer, from),
      (error: unknown) => {
        if (closing.signal.aborted) return; // nothing to answer by any more
        options.onTrouble(`a name was not resolved: ${explain(error)}`, error);
        reply(udp, refusal(query), from);
      },
    );
  });
  const tcp = await listenTcp(port, options, closing.signal).catch((error: unknown) => {
    udp.close();
    throw error;
  });
  return {
    port,
    close: async () => {
      closing.abort(new Error('the forwarder is closing'));
      udp.close();
      await new Promise((resolve) => tcp.close(resolve));
    },
  };
}

/** The query given back as an answer that says SERVFAIL (RFC 1035 §4.1.1), so that the asker need not wait for its own timer. */
export function refusal(query: Buffer): Buffer {
  const answer = Buffer.from(query);
  answer[2] = (answer[2] ?? 0) | 0x80;
  answer[3] = 0x80 | SERVFAIL;
  return answer;
}

async function askInTurn(query: Buffer, options: ForwarderOptions, closing: AbortSignal): Promise<Buffer> {
  let last: unknown = new Error('this host has no resolver; see /etc/resolv.conf');
  for (const server of options.upstream ?? getServers()) {
    closing.throwIfAborted();
    try {
      return await askOne(query, server, options.answerMs ?? 2_000, closing);
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** A socket of its own for each question: its random source port is half of what protects an answer from being forged. */
function askOne(query: Buffer, server: string, answerMs: number, closing: AbortSignal): Promise<Buffer> {
  const { host, port } = hostAndPort(server, DNS_PORT);
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  return new Promise<Buffer>((resolve, reject) => {
    const bell = setTimeout(
      () =>
        end(() =>
          reject(new Error(`the resolver ${server} did not answer; the timer "name" ended after ${answerMs} ms`)),
        ),
      answerMs,
    );
    let open = true;
    const end = (then: () => void) => {
      if (!open) return;
      open = false;
      clearTimeout(bell);
      closing.removeEventListener('abort', stop);
      socket.close();
      then();
    };
    const stop = () => end(() => reject(closing.reason));
    closing.addEventListener('abort', stop);
    socket.on('message', (answer) => {
      // Same id, and an answer: anything else was not for this question.
      if (isWhole(ANSWER, answer) && idOf(answer) === idOf(query)) end(() => resolve(answer));
    });
    socket.on('error', (error) => end(() => reject(error)));
    socket.connect(port, host, () => socket.send(query));
  });
}

function reply(udp: Socket, answer: Buffer, to: RemoteInfo): void {
  // An instance that is gone by now misses nothing.
  udp.send(answer, to.port, to.address, () => {});
}

/** Answers too long for a datagram are asked for again over TCP, of the first resolver alone: who gets none asks again. */
async function listenTcp(port: number, options: ForwarderOptions, closing: AbortSignal): Promise<Server> {
  const open = new Shares({ all: TCP_MAX, each: TCP_EACH });
  const server = createServer((inside) => {
    const address = inside.remoteAddress ?? '';
    const [first] = options.upstream ?? getServers();
    if (first === undefined || !options.isInstance(address) || !open.take(address)) return void inside.destroy();
    const stop = () => inside.destroy();
    closing.addEventListener('abort', stop);
    inside.once('close', () => {
      open.giveBack(address);
      closing.removeEventListener('abort', stop);
    });
    const { onTrouble, idleMs = 5_000 } = options;
    carryMessages(inside, { resolver: hostAndPort(first, DNS_PORT), idleMs, onTrouble });
  });
  server.maxConnections = TCP_MAX;
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, LISTEN_ADDRESS, resolve));
  server.on('error', (error) => options.onTrouble('the DNS listener', error));
  return server;
}

/** How much goes on at once, in all and for each address. */
class Shares {
  readonly #limits: { readonly all: number; readonly each: number };
  readonly #taken = new Map<string, number>();
  #all = 0;

  constructor(limits: { all: number; each: number }) {
    this.#limits = limits;
  }

  /** False when the share, or the whole, is used up; true must be given back. */
  take(address: string): boolean {
    const taken = this.#taken.get(address) ?? 0;
    if (this.#all >= this.#limits.all || taken >= this.#limits.each) return false;
    this.#all++;
    this.#taken.set(address, taken + 1);
    return true;
  }

  giveBack(address: string): void {
    const left = (this.#taken.get(address) ?? 1) - 1;
    this.#all--;
    if (left > 0) this.#taken.set(address, left);
    else this.#taken.delete(address);
  }
}
