/**
 * The data-plane listener: every byte that is for an instance of this node comes in here, from gateways of the same installation. A request that carries
 * the key and names an instance that is here wakes it at once, while its body is still on the way; any other thaws nothing.
 */
import { explain, Failure, type Chance, type Clock } from '@torpor/kernel';
import type { OpenSpan, Telemetry } from '@torpor/telemetry';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import type { NodeEvents } from '../events.ts';
import type { Instance } from '../standby/instance.ts';
import type { ParcelOffice } from '../moves/office.ts';
import type { Standby } from '../standby/standby.ts';
import type { Stay } from '../standby/stay.ts';
import { serveBlaxel } from './blaxel-part.ts';
import type { Exchange } from './exchange.ts';
import { serveGuest } from './guest-part.ts';
import { carriesKey } from './headers.ts';
import { joinSockets, servePort, tunnelTo } from './port-part.ts';
import { failureOf, refuse, refuseUpgrade } from './refusals.ts';
import { parseTarget, type Target } from './target.ts';

export interface DataPlaneOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly dataKey: string;
  readonly standby: Standby;
  readonly parcels: ParcelOffice;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly events: NodeEvents;
  readonly telemetry: Telemetry;
}

export interface DataPlane {
  readonly port: number;
  close(): Promise<void>;
}

const HEADERS_BYTES_MAX = 64 * 1024;
/** Longer than any gateway keeps an idle connection, so that it is never we who close one under a request. */
const IDLE_CONNECTION_MS = 120_000;

export async function serveDataPlane(options: DataPlaneOptions): Promise<DataPlane> {
  const { telemetry } = options;
  const key = Buffer.from(options.dataKey);
  const upgraded = new Set<Duplex>();
  const server = createServer({
    maxHeaderSize: HEADERS_BYTES_MAX,
    keepAliveTimeout: IDLE_CONNECTION_MS,
    requestTimeout: 0, // an upload may take as long as it takes; the gateway minds slow callers
    noDelay: true,
    shouldUpgradeCallback: (request) => /^\/d\/[^/]+\/\d+\/(port|preview)\//.test(request.url ?? ''),
  });
  server.on('request', (request, response) => void traced(request, response));
  server.on('checkContinue', (request, response) => void traced(request, response));
  server.on('upgrade', (request, socket, head) => void upgradeOne(request, socket, head));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.listen.port, options.listen.host, resolve);
  });
  return { port: (server.address() as AddressInfo).port, close }; // a TCP server that listens has one

  function demandKey({ headers }: IncomingMessage): void {
    if (!carriesKey(headers, key)) throw new Failure('unauthenticated', 'the data key is missing or wrong');
  }

  function admit(request: IncomingMessage): { target: Target; instance: Instance } {
    demandKey(request);
    const target = parseTarget(request.url ?? '');
    if (!target)
      throw new Failure('not_found', 'expected /d/<instanceId>/<generation>/<blaxel|guest|port/n|preview/n>/…');
    return { target, instance: options.standby.at(target.instanceId, target.generation) };
  }

  /** Goes on with the trace that the gateway began. */
  function traced(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { traceparent } = request.headers;
    const options = { kind: 'server', ...(typeof traceparent === 'string' ? { traceparent } : {}) } as const;
    return telemetry.span('data-plane request', options, (span) => serveOne(request, response, span));
  }

  async function serveOne(request: IncomingMessage, response: ServerResponse, span: OpenSpan): Promise<void> {
    const since = options.clock.monotonicMs();
    let target: Target | undefined;
    let instance: Instance | undefined;
    let stay: Stay | undefined;
    try {
      if (request.url?.startsWith('/m/')) {
        demandKey(request);
        if (await options.parcels.serve(request, response)) return;
      }
      ({ target, instance } = admit(request));
      const gone = new AbortController();
      response.once('close', () => {
        if (!response.writableFinished) gone.abort(new Failure('client_closed', 'the caller has gone'));
      });
      const coming = goIn(instance, { target, request, gone });
      stay = coming instanceof Promise ? await coming : coming;
      stay.onEnd = (failure) => {
        gone.abort(failure);
        if (response.headersSent) response.destroy(failure);
      };
      if (request.headers.expect !== undefined) response.writeContinue();
      const { part, instanceId } = target;
      const { found } = stay;
      const answered = (status: number) => {
        const heldMs = stay?.heldMs ?? 0;
        const headMs = options.clock.monotonicMs() - since;
        span.set({ instanceId, part: part.kind, found, heldMs });
        options.events.served({ instanceId, part: part.kind, status, found, heldMs, headMs, traceId: span.traceId });
        // Perhaps it is not the guest's fault; perhaps there is no guest any more.
        if (status >= 502) void instance?.check('trouble');
      };
      const { clock, chance } = options;
      await dispatch({ target, instance, stay, request, response, signal: gone.signal, clock, chance, answered });
    } catch (error) {
      // Of one that was sent ahead of a wake that failed, the wake is what there is to tell.
      const unwoken: unknown = await stay?.awake?.then(
        () => undefined,
        (failure: unknown) => failure,
      );
      broke(unwoken ?? error, { request, response, target, instance });
    } finally {
      stay?.leave();
    }
  }

  function broke(
    error: unknown,
    at: {
      request: IncomingMessage;
      response: ServerResponse;
      target: Target | undefined;
      instance: Instance | undefined;
    },
  ): void {
    const { response, target, instance } = at;
    const failure = failureOf(error);
    const part = target?.part.kind ?? 'none';
    const who = target ? { instanceId: target.instanceId, generation: target.generation } : {};
    if (failure.code === 'client_closed' || response.destroyed) {
      response.destroy();
    } else {
      if (failure.code === 'internal') options.events.bug({ where: `data plane, ${part}`, reason: explain(error) });
      else if (response.headersSent) options.events.requestBroke({ ...who, part, reason: explain(error) });
      else options.events.turnedAway({ ...who, code: failure.code });
      refuse(response, failure, { part: target?.part.kind, nowMs: options.clock.nowMs() });
    }
    if (failure.code === 'bad_gateway' || failure.code === 'unavailable' || failure.code === 'internal')
      void instance?.check('trouble');
  }

  async function upgradeOne(request: IncomingMessage, client: Duplex, head: Buffer): Promise<void> {
    let stay: Stay | undefined;
    upgraded.add(client);
    client.on('error', () => client.destroy());
    client.once('close', () => upgraded.delete(client));
    try {
      const { target, instance } = admit(request);
      if (target.part.kind !== 'port') throw new Failure('not_implemented', 'only ports inside speak other protocols');
      const gone = new AbortController();
      client.once('close', () => gone.abort(new Failure('client_closed', 'the caller has gone')));
      stay = await instance.enter('request', gone.signal);
      stay.onEnd = () => client.destroy();
      const tunnel = await tunnelTo(target.part.port, { stay, instance, signal: gone.signal });
      const { found, heldMs } = stay;
      const { instanceId } = target;
      options.events.served({
        instanceId,
        part: 'port',
        status: 101,
        found,
        heldMs,
        headMs: heldMs,
        traceId: undefined,
      });
      await joinSockets({ client, head, request, rest: target.rest, stay }, tunnel);
    } catch (error) {
      const failure = failureOf(error);
      options.events.turnedAway({ code: failure.code });
      if (!client.destroyed) refuseUpgrade(client, failure, options.clock.nowMs());
    } finally {
      stay?.leave();
    }
  }

  async function close(): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const socket of upgraded) socket.destroy();
    server.closeAllConnections();
    await closed;
  }
}

/**
 * A request that changes nothing inside is sent ahead while the sandbox still wakes: its bytes wait there for the thaw. Any other is held here, for were
 * it turned away after all, it would be carried out unseen by the next wake.
 */
function goIn(
  instance: Instance,
  { target, request, gone }: { target: Target; request: IncomingMessage; gone: AbortController },
): Stay | Promise<Stay> {
  const stay = instance.approach('request', gone.signal);
  const { awake } = stay;
  if (!awake) return stay;
  const isSafe = (request.method === 'GET' || request.method === 'HEAD') && target.part.kind !== 'port';
  if (!isSafe || !instance.isWaking) return awake.then(() => stay);
  awake.catch((failure: unknown) => gone.abort(failure));
  return stay;
}

async function dispatch(exchange: Exchange): Promise<void> {
  const { part } = exchange.target;
  switch (part.kind) {
    case 'blaxel':
      return await serveBlaxel(exchange);
    case 'guest':
      return await serveGuest(exchange);
    case 'port':
      return await servePort(exchange, part);
  }
}
