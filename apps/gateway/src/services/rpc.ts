/** `/trpc`: first-party clients. */
import { apiRouter, toTrpcError } from '@torpor/api';
import { Failure } from '@torpor/kernel';
import type { ApiKey } from '@torpor/store';
import { nodeHTTPRequestHandler } from '@trpc/server/adapters/node-http';
import { workspaceOf } from '../blaxel/control-plane.ts';
import { readJson } from '../control/json-body.ts';
import type { Ending, Exchange } from '../front/exchange.ts';
import { apiContext, type ServicesParts } from './services.ts';

const BODY_BYTES_MAX = 1024 * 1024;

export async function serveRpc(
  parts: ServicesParts & { bodyMs: number; onBug: (error: unknown) => void },
  exchange: Exchange,
  path: string,
): Promise<Ending> {
  const { request, response, notes, span } = exchange;
  notes['procedure'] = path.slice(0, 200);
  if (request.method !== 'GET' && request.method !== 'POST') {
    throw new Failure('method_not_allowed', 'procedures take GET (queries, subscriptions) and POST (mutations)');
  }
  let unreadable: Failure | undefined;
  if (request.method === 'POST') {
    const body = await readJson(request, { clock: parts.clock, bytesMax: BODY_BYTES_MAX, ms: parts.bodyMs }).catch(
      (error: unknown) => {
        if (!(error instanceof Failure) || error.code === 'client_closed') throw error;
        unreadable = error;
        if (!request.complete) response.setHeader('connection', 'close');
      },
    );
    // The adapter takes a body that was read already from this field, as Express has it.
    Object.assign(request, { body });
  }
  const done = new Promise<void>((resolve) => response.once('close', resolve));
  await nodeHTTPRequestHandler({
    router: apiRouter,
    req: request,
    res: response,
    path,
    async createContext() {
      try {
        // Said here, so that the refusal has tRPC's shape like any other.
        if (unreadable) throw unreadable;
        const key = await parts.admission.identify(request.headers);
        notes['key'] = key.prefix;
        if (request.method === 'GET') holdOpen(parts, key, exchange);
        const named = request.headers['x-torpor-workspace'] ?? request.headers['x-blaxel-workspace'];
        const workspace = await workspaceOf(parts.store, key, (Array.isArray(named) ? named[0] : named) ?? null);
        notes['workspace'] = workspace;
        return apiContext(parts, {
          caller: { key, workspace },
          traceparent: span.traceparent,
          traceId: span.traceId,
        });
      } catch (error) {
        throw error instanceof Failure ? toTrpcError(error) : error;
      }
    },
    onError({ error }) {
      notes['problem'] = error.message.slice(0, 500);
      if (error.code === 'INTERNAL_SERVER_ERROR' && !(error.cause instanceof Failure))
        parts.onBug(error.cause ?? error);
    },
  });
  if (!response.writableFinished && !response.destroyed) await done;
  return { status: response.statusCode, outcome: response.writableFinished ? 'answered' : 'caller gone' };
}

/** A subscription ends with its key. A mutation is answered, for it may be the very one that revokes the key. */
function holdOpen({ keyring }: ServicesParts, key: ApiKey, { response, notes }: Exchange): void {
  if (response.closed) return; // its close has been told already
  const release = keyring.uses.hold(key, (why) => {
    notes['problem'] = why.message;
    response.destroy();
  });
  response.once('close', release);
}
