/** Previews: a URL by which strangers reach a port of a sandbox, or with the session port its API. */
import type { IncomingHttpHeaders } from 'node:http';
import type { DataPlanePart } from '@torpor/contracts';
import { blaxelRunError, previewHeaders, SESSION_PORT } from '@torpor/dialects';
import { Failure, type Clock } from '@torpor/kernel';
import type { PreviewWay } from '@torpor/store';
import type { Audit } from '../control/audit.ts';
import { answerEmpty, answerJson, type Ending, type Exchange } from '../front/exchange.ts';
import { carry, type Carrier, type Load } from '../run-plane/carry.ts';
import { PREVIEW_COOKIE } from '../run-plane/headers.ts';
import type { Remembered } from '../ways/remembered.ts';
import type { RouteBook } from '../ways/route-book.ts';
import type { Target } from '../ways/target.ts';
import { admitToPreview } from './admit.ts';

export type PreviewTarget = Extract<Target, { kind: 'preview' }>;
export type PreviewBook = Pick<Remembered<PreviewWay>, 'get' | 'forget'>;

export interface PreviewDoor {
  readonly book: PreviewBook;
  readonly routes: RouteBook;
  readonly carrier: Carrier;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly isTls: boolean;
}

/** What a browser's page of another origin may do with the sandbox API of a session, unless the preview says otherwise. */
export const OPEN_CORS = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS',
  'access-control-allow-headers': '*',
  'access-control-max-age': '600',
};

export type Admitted =
  | { readonly kind: 'open'; readonly load: Load }
  | { readonly kind: 'refused'; readonly why: string; readonly headers: Readonly<Record<string, string>> }
  /** A browser asks what it may: answered here, since such a question carries no token. */
  | { readonly kind: 'preflight'; readonly headers: Readonly<Record<string, string>> };

/** Rejects with `not_found` when there is no such preview (any more). */
export async function admitPreview(
  door: PreviewDoor,
  request: { method?: string | undefined; headers: IncomingHttpHeaders },
  target: PreviewTarget,
  notes: Record<string, unknown>,
): Promise<Admitted> {
  const found = await door.book.get(target.id);
  if (!found) throw noPreview(target.id);
  const { preview, workspace } = found;
  notes['workspace'] = workspace;
  notes['sandbox'] = preview.sandbox;
  notes['preview'] = preview.name;
  const own = previewHeaders(preview);
  const isSession = preview.port === SESSION_PORT;
  const headers: Record<string, string> = isSession
    ? { ...OPEN_CORS, ...lowered(own.response) }
    : lowered(own.response);
  if (request.method === 'OPTIONS' && Object.keys(headers).length > 0) return { kind: 'preflight', headers };
  const verdict = admitToPreview(
    found,
    { query: target.query, header: only(request.headers['x-blaxel-preview-token']), cookie: request.headers.cookie },
    door.clock.nowMs(),
  );
  if (verdict.kind === 'ended') throw noPreview(target.id);
  const outcome = verdict.kind === 'open' ? 'ok' : 'unauthenticated';
  const which = `${preview.sandbox}/${preview.name}`;
  door.audit.note({ workspace, actor: 'stranger', action: 'preview.use', target: which, outcome });
  if (verdict.kind === 'refused') return { kind: 'refused', why: verdict.why, headers };
  const part: DataPlanePart = isSession ? 'blaxel' : `preview/${preview.port}`;
  const load: Load = {
    part,
    rest: target.path + verdict.query,
    requestHeaders: own.request,
    answerHeaders: own.response,
    ...(verdict.remember === undefined ? {} : { cookie: cookieOf(target.id, verdict.remember, door.isTls) }),
    way: {
      find: () => {
        const known = door.routes.known(workspace, preview.sandbox);
        if (known) return known;
        if (!found.way) return door.routes.find(workspace, preview.sandbox);
        door.routes.learn(found.way.sandbox, found.way.route);
        return found.way.route;
      },
      readAnew: () => door.routes.readAnew(workspace, preview.sandbox),
    },
  };
  return { kind: 'open', load };
}

export async function servePreview(door: PreviewDoor, exchange: Exchange, target: PreviewTarget): Promise<Ending> {
  const admitted = await admitPreview(door, exchange.request, target, exchange.notes);
  switch (admitted.kind) {
    case 'preflight':
      answerEmpty(exchange, 204, admitted.headers);
      return { status: 204, outcome: 'answered' };
    case 'refused': {
      const refusal = blaxelRunError('AUTHENTICATION_REQUIRED', admitted.why, { nowMs: door.clock.nowMs() });
      answerJson(exchange, refusal.status, refusal.body, admitted.headers);
      return { status: refusal.status, outcome: 'refused' };
    }
    case 'open':
      return carry(door.carrier, exchange, admitted.load);
  }
}

function cookieOf(id: string, token: string, isTls: boolean): string {
  return `${PREVIEW_COOKIE}=${token}; Path=/preview/${id}; HttpOnly; SameSite=Lax${isTls ? '; Secure' : ''}`;
}

function noPreview(id: string): Failure {
  return new Failure('not_found', `there is no preview "${id}", or it has ended`);
}

function only(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function lowered(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
