/** Upgrades at the door: admitted like any request, then handed through. */
import { STATUS_CODES, type IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { dataPlanePath, type Route } from '@torpor/contracts';
import { Failure, type Clock } from '@torpor/kernel';
import { rawJson } from '../front/server.ts';
import type { Ending, Exchange } from '../front/exchange.ts';
import { passageOf, type Carrier, type Load } from './carry.ts';
import { closeBehind, headOf, join, shakeHands, type Handshake } from './tunnel.ts';
import { runRefusal } from './refusal.ts';

const HANDSHAKE_MS = 30_000;

export type Upgrade = Omit<Exchange, 'response' | 'clock'> & { readonly socket: Duplex; readonly head: Buffer };

/** Rejects with a Failure only while nothing was sent to the caller. */
export async function carryUpgrade(carrier: Carrier, upgrade: Upgrade, load: Load): Promise<Ending> {
  const headers = passageOf(carrier, upgrade, load);
  let route = await load.way.find();
  let handshake = await tryWay(carrier, upgrade, load, route, headers);
  if (handshake.kind === 'misdirected') {
    route = await load.way.readAnew();
    handshake = await tryWay(carrier, upgrade, load, route, headers);
  }
  switch (handshake.kind) {
    case 'misdirected':
      throw new Failure('unavailable', `the node ${route.nodeId} does not hold this sandbox any more; ask again`, {
        retryable: true,
        retryAfterS: 1,
      });
    case 'answered':
      return passAnswer(upgrade, handshake.answer, lingerOf(carrier));
    case 'opened': {
      const { node, head, answer } = handshake;
      upgrade.socket.write(headOf(101, 'Switching Protocols', answer.rawHeaders));
      if (head.length > 0) upgrade.socket.write(head);
      if (upgrade.head.length > 0) node.write(upgrade.head);
      Object.assign(upgrade.notes, await join(upgrade.socket, node, lingerOf(carrier)));
      return { status: 101, outcome: 'answered' };
    }
  }
}

/** Says no on a connection that has no response object. */
export function refuseUpgrade(socket: Duplex, error: unknown, carrier: Pick<Carrier, 'clock' | 'timers'>): Ending {
  const { status, body } = runRefusal(error, carrier.clock.nowMs());
  closeBehind(socket, lingerOf(carrier));
  socket.end(rawJson(status, STATUS_CODES[status] ?? 'Error', body));
  return { status, outcome: 'refused' };
}

interface Linger {
  readonly clock: Clock;
  readonly ms: number;
}

function lingerOf({ clock, timers }: Pick<Carrier, 'clock' | 'timers'>): Linger {
  return { clock, ms: timers.lingerMs };
}

function tryWay(carrier: Carrier, upgrade: Upgrade, load: Load, route: Route, headers: string[]): Promise<Handshake> {
  return shakeHands(
    {
      origin: route.nodeUrl,
      path: dataPlanePath(route, load.part, load.rest),
      headers,
      upgrade: upgrade.request.headers.upgrade ?? 'websocket',
    },
    { clock: carrier.clock, ms: HANDSHAKE_MS, outer: upgrade.signal },
  );
}

/** The program inside would not upgrade: its plain answer, as it is, and the end. */
function passAnswer({ socket }: Upgrade, answer: IncomingMessage, linger: Linger): Promise<Ending> {
  const status = answer.statusCode ?? 502;
  const kept: string[] = [];
  for (let i = 0; i + 1 < answer.rawHeaders.length; i += 2) {
    const [name = '', value = ''] = [answer.rawHeaders[i], answer.rawHeaders[i + 1]];
    if (!/^(connection|keep-alive|transfer-encoding|upgrade)$/i.test(name)) kept.push(name, value);
  }
  socket.write(headOf(status, answer.statusMessage ?? '', [...kept, 'Connection', 'close']));
  closeBehind(socket, linger);
  return new Promise((resolve) => {
    let outcome: Ending['outcome'] = 'caller gone';
    answer
      .once('end', () => (outcome = 'answered'))
      .once('error', () => {
        outcome = 'broken';
        reset(socket);
      })
      .pipe(socket);
    socket.once('close', () => {
      resolve({ status, outcome });
      answer.destroy();
    });
  });
}

/** Only the end of the connection may frame what was begun; an orderly one would let a part pass for the whole. */
export function reset(socket: Duplex): void {
  if (socket instanceof Socket) socket.resetAndDestroy();
  else socket.destroy();
}
