/**
 * Carries an admitted request to the node that holds its sandbox. The request leaves at once: the node begins to thaw as soon as it sees it. If the
 * way was out of date, or the node is just being replaced, it is tried again as long as nothing of the body has been used up.
 */
import type { DataPlanePart, Route } from '@torpor/contracts';
import { dataPlanePath } from '@torpor/contracts';
import { explain, Failure, type Clock } from '@torpor/kernel';
import type { Ending, Exchange } from '../front/exchange.ts';
import { canRepeat, takeBody, type OutgoingBody } from './body.ts';
import { forward, type Outcome } from './forward.ts';
import { headersForNode } from './headers.ts';
import type { NodeConnections } from './node-connections.ts';

export interface Way {
  /** As far as it is known; may be out of date. */
  find(): Route | Promise<Route>;
  /** As PostgreSQL has it now. */
  readAnew(): Promise<Route>;
}

export interface Load {
  readonly way: Way;
  readonly part: DataPlanePart;
  readonly rest: string;
  readonly requestHeaders?: Readonly<Record<string, string>>;
  readonly answerHeaders?: Readonly<Record<string, string>>;
  /** A `Set-Cookie` beside those of the program inside. */
  readonly cookie?: string;
}

export interface Carrier {
  readonly nodes: NodeConnections;
  readonly clock: Clock;
  readonly dataKey: string;
  readonly timers: Readonly<Record<'bodyIdleMs' | 'drainMs' | 'reachMs' | 'lingerMs', number>>;
}

const REACH_AGAIN_AFTER_MS = 100;

/** Rejects with a Failure only while nothing was sent to the caller. */
export async function carry(carrier: Carrier, exchange: Exchange, load: Load): Promise<Ending> {
  const { clock, timers } = carrier;
  const body = await takeBody(exchange.request, { clock, idleMs: timers.bodyIdleMs });
  let ending: Ending | undefined;
  try {
    ending = await tryWays(carrier, exchange, load, body);
    return ending;
  } finally {
    if (body.kind === 'stream') {
      if (ending?.outcome === 'answered') void body.pieces.drop();
      else body.pieces.close();
    }
  }
}

async function tryWays(carrier: Carrier, exchange: Exchange, load: Load, body: OutgoingBody): Promise<Ending> {
  const { clock, timers } = carrier;
  const { request, response, notes } = exchange;
  const headers = passageOf(carrier, exchange, load);
  const giveUpAtMs = clock.monotonicMs() + timers.reachMs;
  let route = await load.way.find();
  for (let attempt = 1; ; attempt++) {
    notes['attempts'] = attempt;
    notes['node'] = route.nodeId;
    notes['instance'] = route.instanceId;
    const outcome = await forward({ nodes: carrier.nodes, clock, drainMs: timers.drainMs }, request, response, {
      origin: route.nodeUrl,
      path: dataPlanePath(route, load.part, load.rest),
      headers,
      body,
      answerHeaders: { ...load.answerHeaders, 'x-request-id': exchange.id },
      cookie: load.cookie,
    });
    const next = whatNext(outcome, {
      method: request.method ?? 'GET',
      attempt,
      route,
      canRepeat: canRepeat(body),
      isLate: clock.monotonicMs() >= giveUpAtMs,
      reachMs: timers.reachMs,
    });
    switch (next.kind) {
      case 'over':
        note(notes, outcome);
        return next.ending;
      case 'refuse':
        throw next.failure;
      case 'same way':
        break;
      case 'new way':
        route = await load.way.readAnew();
        break;
      case 'wait':
        await clock.after(REACH_AGAIN_AFTER_MS, exchange.signal);
        // The database may be out as well; then the old way is the best there is.
        route = await load.way.readAnew().catch((error: unknown) => keepOn(error, route));
        break;
    }
  }
}

type Next =
  | { readonly kind: 'over'; readonly ending: Ending }
  | { readonly kind: 'refuse'; readonly failure: Failure }
  | { readonly kind: 'same way' | 'new way' | 'wait' };

/** What follows from how the attempt ended. */
export function whatNext(
  outcome: Outcome,
  at: { method: string; attempt: number; route: Route; canRepeat: boolean; isLate: boolean; reachMs: number },
): Next {
  switch (outcome.kind) {
    case 'answered':
      return { kind: 'over', ending: { status: outcome.status, outcome: 'answered' } };
    case 'broken':
      return { kind: 'over', ending: { status: outcome.status, outcome: 'broken' } };
    case 'caller gone':
      return { kind: 'over', ending: { status: 499, outcome: 'caller gone' } };
    case 'stalled':
      return { kind: 'refuse', failure: outcome.failure };
    case 'misdirected':
      if (at.attempt === 1 && at.canRepeat) return { kind: 'new way' };
      return {
        kind: 'refuse',
        failure: unavailable(`the node ${at.route.nodeId} does not hold this sandbox any more`),
      };
    case 'unreachable':
      if (at.canRepeat && !at.isLate) return { kind: 'wait' };
      return {
        kind: 'refuse',
        failure: unavailable(
          `the timer "reach node" ended: the node ${at.route.nodeId} could not be reached within ${at.reachMs} ms`,
          outcome.cause,
        ),
      };
    case 'unanswered':
      // A kept connection may end in the moment of its use; asking again changes nothing if the method is safe.
      if (at.attempt === 1 && at.canRepeat && /^(GET|HEAD|OPTIONS)$/.test(at.method)) return { kind: 'same way' };
      return {
        kind: 'refuse',
        failure: new Failure('bad_gateway', `the connection to the node ${at.route.nodeId} ended before it answered`, {
          retryable: true,
          cause: outcome.cause,
        }),
      };
  }
}

function unavailable(message: string, cause?: unknown): Failure {
  return new Failure('unavailable', `${message}; ask again in a moment`, { retryable: true, retryAfterS: 1, cause });
}

function keepOn(error: unknown, route: Route): Route {
  if (error instanceof Failure && (error.code === 'not_found' || error.code === 'unavailable')) throw error;
  return route;
}

export function passageOf(
  carrier: Carrier,
  { request, id, span }: Pick<Exchange, 'request' | 'id' | 'span'>,
  load: Load,
): string[] {
  return headersForNode(request.rawHeaders, {
    requestId: id,
    traceparent: span.traceparent,
    dataKey: carrier.dataKey,
    callerAddress: request.socket.remoteAddress,
    isTls: 'encrypted' in request.socket,
    extra: load.requestHeaders,
  });
}

function note(notes: Record<string, unknown>, outcome: Outcome): void {
  if (outcome.kind === 'answered') notes['serverTiming'] = outcome.serverTiming;
  if (outcome.kind === 'answered' || outcome.kind === 'broken') notes['bytesOut'] = outcome.bytes;
  if (outcome.kind === 'broken') notes['problem'] = explain(outcome.cause);
}
