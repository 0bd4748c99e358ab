/** Reception: gives every request its id and trace, shows it to its door, and tells of it when it is over. */
import { type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { blaxelRunError } from '@torpor/dialects';
import { Failure, randomWord, type Chance, type Clock } from '@torpor/kernel';
import type { OpenSpan, Telemetry } from '@torpor/telemetry';
import { controlBug, serveControl, type ControlPlane } from '../blaxel/control-plane.ts';
import type { GatewayEvents, Plane } from '../events.ts';
import { admitPreview, servePreview, type PreviewDoor } from '../previews/door.ts';
import { serveSandbox, upgradeSandbox, type SandboxDoor } from '../run-plane/door.ts';
import { runRefusal } from '../run-plane/refusal.ts';
import { carryUpgrade, refuseUpgrade } from '../run-plane/upgrade.ts';
import { targetOf, type Target } from '../ways/target.ts';
import { answerJson, type Ending, type Exchange } from './exchange.ts';

export interface Doors {
  readonly control: ControlPlane;
  readonly sandbox: SandboxDoor;
  readonly preview: PreviewDoor;
  readonly rpc: (exchange: Exchange, path: string) => Promise<Ending>;
}

export interface Reception {
  request(request: IncomingMessage, response: ServerResponse): Promise<void>;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
}

export function openReception(parts: {
  doors: Doors;
  clock: Clock;
  chance: Chance;
  telemetry: Telemetry;
  events: GatewayEvents;
}): Reception {
  const { doors, clock, chance, telemetry, events } = parts;

  /** Runs one exchange under its span, and tells of it. */
  async function attend(
    request: IncomingMessage,
    plane: Plane,
    work: (id: string, span: OpenSpan, notes: Record<string, unknown>) => Promise<Ending>,
  ): Promise<void> {
    const id = requestIdOf(request) ?? `r${randomWord(chance, 19)}`;
    const startedAtMs = clock.monotonicMs();
    const notes: Record<string, unknown> = { path: pathOf(request.url) };
    const traceparent = only(request.headers['traceparent']);
    await telemetry.span(`gateway.${plane}`, { traceparent, kind: 'server' }, async (span) => {
      const ending = await work(id, span, notes);
      const tookMs = clock.monotonicMs() - startedAtMs;
      events.served({ plane, method: request.method ?? '', id, traceId: span.traceId, ending, tookMs, notes });
    });
  }

  return {
    request: (request, response) => {
      const target = targetOf(request.url ?? '');
      const plane = planeOf(target);
      const signal = goneSignal(response);
      return attend(request, plane, async (id, span, notes) => {
        const exchange: Exchange = { id, clock, span, request, response, signal, notes };
        try {
          return await serve(doors, exchange, target, clock);
        } catch (error) {
          return refuse(exchange, plane, error, { clock, events });
        }
      });
    },
    upgrade: (request, socket, head) => {
      const target = targetOf(request.url ?? '');
      const gone = new AbortController();
      socket.on('error', () => gone.abort()).once('close', () => gone.abort());
      return attend(request, planeOf(target), async (id, span, notes) => {
        events.tunnels(1);
        try {
          const upgrade = { id, span, request, socket, head, signal: gone.signal, notes };
          if (target.kind === 'sandbox') return await upgradeSandbox(doors.sandbox, upgrade, target);
          if (target.kind === 'preview') {
            const admitted = await admitPreview(doors.preview, request, target, notes);
            if (admitted.kind === 'open') return await carryUpgrade(doors.preview.carrier, upgrade, admitted.load);
            throw new Failure('unauthenticated', admitted.kind === 'refused' ? admitted.why : 'expected GET');
          }
          throw new Failure('bad_request', 'nothing at this path takes an upgrade');
        } catch (error) {
          if (gone.signal.aborted) return { status: 499, outcome: 'caller gone' };
          if (!(error instanceof Failure)) events.broke({ plane: planeOf(target), id, error });
          else notes['problem'] = error.message;
          return refuseUpgrade(socket, error, doors.sandbox.carrier);
        } finally {
          events.tunnels(-1);
        }
      });
    },
  };
}

async function serve(doors: Doors, exchange: Exchange, target: Target, clock: Clock): Promise<Ending> {
  switch (target.kind) {
    case 'sandbox':
      return serveSandbox(doors.sandbox, exchange, target);
    case 'preview':
      return servePreview(doors.preview, exchange, target);
    case 'control':
      return serveControl(doors.control, exchange, target);
    case 'rpc':
      return doors.rpc(exchange, target.path);
    case 'health':
      answerJson(exchange, 200, { ok: true });
      return { status: 200, outcome: 'answered' };
    case 'missing':
      await doors.sandbox.admission.identify(exchange.request.headers);
      throw new Failure('not_implemented', `this version of Torpor hosts sandboxes; it has no ${target.what} yet`);
    case 'absent': {
      const refusal = blaxelRunError('ROUTE_NOT_FOUND', 'nothing is at this path', { nowMs: clock.nowMs() });
      answerJson(exchange, refusal.status, refusal.body);
      return { status: refusal.status, outcome: 'refused' };
    }
    case 'malformed':
      throw new Failure('bad_request', target.why);
  }
}

function refuse(
  exchange: Exchange,
  plane: Plane,
  error: unknown,
  { clock, events }: { clock: Clock; events: GatewayEvents },
): Ending {
  const { response, notes, signal } = exchange;
  if (signal.aborted) return { status: 499, outcome: 'caller gone' };
  if (error instanceof Failure) notes['problem'] = error.message;
  else events.broke({ plane, id: exchange.id, error });
  if (response.headersSent) {
    response.destroy();
    return { status: response.statusCode, outcome: 'broken' };
  }
  const refusal = plane === 'control' || plane === 'rpc' ? controlBug(error) : runRefusal(error, clock.nowMs());
  const again = refusal.retryAfterS === undefined ? {} : { 'retry-after': String(refusal.retryAfterS) };
  answerJson(exchange, refusal.status, refusal.body, { ...again, 'x-request-id': exchange.id });
  return { status: refusal.status, outcome: 'refused' };
}

function planeOf(target: Target): Plane {
  switch (target.kind) {
    case 'control':
    case 'preview':
    case 'rpc':
      return target.kind;
    case 'sandbox':
    case 'missing':
      return 'run';
    case 'health':
    case 'absent':
    case 'malformed':
      return 'other';
  }
}

function goneSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort(new Failure('client_closed', 'the caller has closed its connection'));
  });
  return gone.signal;
}

function requestIdOf(request: IncomingMessage): string | undefined {
  const sent = only(request.headers['x-request-id']);
  return sent !== undefined && /^[\w.-]{8,64}$/.test(sent) ? sent : undefined;
}

/** Without the query, which may hold tokens. */
function pathOf(url = ''): string {
  const cut = url.indexOf('?');
  return (cut < 0 ? url : url.slice(0, cut)).slice(0, 300);
}

function only(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
