/** Blaxel's control plane: who asks, for which workspace, by which version; then the row that answers. Refusals keep the dialect's shapes. */
import { WorkspaceName } from '@torpor/contracts';
import {
  blaxelCreationErrorOf,
  blaxelError,
  blaxelErrorOf,
  parseBlaxelVersion,
  type BlaxelRefusal,
} from '@torpor/dialects';
import { Failure, type Clock } from '@torpor/kernel';
import type { ApiKey, Store } from '@torpor/store';
import type { Admission } from '../callers/admission.ts';
import type { Audit } from '../control/audit.ts';
import { checkText, readJson } from '../control/json-body.ts';
import { answerJson, type Ending, type Exchange } from '../front/exchange.ts';
import type { Target } from '../ways/target.ts';
import { Refused, type ControlAsk, type Row } from './ask.ts';
import { findRow, type Found } from './table.ts';

export interface ControlPlane {
  readonly rows: readonly Row[];
  readonly admission: Admission;
  readonly store: Store;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly bodyMs: number;
}

type ControlTarget = Extract<Target, { kind: 'control' }>;

const BODY_BYTES_MAX = 1024 * 1024;

export async function serveControl(plane: ControlPlane, exchange: Exchange, target: ControlTarget): Promise<Ending> {
  const found = findRow(plane.rows, exchange.request.method ?? 'GET', target.path);
  const row = found.kind === 'row' ? found.row : undefined;
  try {
    const body = await answerOf(plane, exchange, target, found);
    answerJson(exchange, 200, body, { 'x-request-id': exchange.id });
    return { status: 200, outcome: 'answered' };
  } catch (error) {
    const refusal = refusalOf(error, row, exchange, plane.clock.nowMs());
    if (!refusal) throw error;
    const headers = refusal.retryAfterS === undefined ? undefined : { 'retry-after': String(refusal.retryAfterS) };
    exchange.notes['problem'] = refusal.body['message'];
    answerJson(exchange, refusal.status, refusal.body, { ...headers, 'x-request-id': exchange.id });
    return { status: refusal.status, outcome: 'refused' };
  }
}

async function answerOf(
  plane: ControlPlane,
  exchange: Exchange,
  target: ControlTarget,
  found: Found,
): Promise<unknown> {
  // These two are asked before there is a key, so they are refused without one.
  if (/^\/(oauth\/token|login\/device)$/.test(target.path)) throw lacking(`POST ${target.path}`);
  const key = await plane.admission.identify(exchange.request.headers);
  exchange.notes['key'] = key.prefix;
  switch (found.kind) {
    case 'malformed':
      throw new Failure('bad_request', 'the path holds a "%" that begins no escape of two hex digits');
    case 'nothing':
      throw new Failure('not_found', 'the control plane has no such path');
    case 'other methods':
      throw new Failure('method_not_allowed', `this path takes ${found.allowed.join(', ')}`);
    case 'lacking':
      throw lacking(found.what);
    case 'row':
  }
  const ask = await askOf(plane, exchange, target, found, key);
  exchange.notes['row'] = `${found.row.method} ${found.row.pattern}`;
  const { audit } = found.row;
  if (audit === undefined) return found.row.handle(ask);
  return plane.audit.during(
    {
      workspace: ask.caller.workspace,
      actor: key.subject,
      action: audit,
      traceId: exchange.span.traceId,
      target: () => ask.params['name'] ?? asText(exchange.notes['sandbox']),
    },
    () => found.row.handle(ask),
  );
}

async function askOf(
  plane: ControlPlane,
  exchange: Exchange,
  target: ControlTarget,
  { row, params }: Extract<Found, { kind: 'row' }>,
  key: ApiKey,
): Promise<ControlAsk> {
  const { headers } = exchange.request;
  const query = new URLSearchParams(target.query);
  for (const text of [...Object.values(params), ...query.keys(), ...query.values()]) checkText(text);
  const workspace = await workspaceOf(plane.store, key, one(headers['x-blaxel-workspace']) ?? query.get('workspace'));
  exchange.notes['workspace'] = workspace;
  plane.admission.demand(key, row.action, workspace);
  const version = parseBlaxelVersion(one(headers['blaxel-version']) ?? undefined);
  if (!version.ok) throw new Refused(version.refusal);
  return {
    exchange,
    caller: { key, workspace },
    version: version.value,
    params,
    query,
    json: () => readJson(exchange.request, { clock: plane.clock, bytesMax: BODY_BYTES_MAX, ms: plane.bodyMs }),
  };
}

/** The workspace that was named, or else the one that the key belongs to. */
export async function workspaceOf(store: Store, key: ApiKey, named: string | null): Promise<WorkspaceName> {
  if (named === null || named === '') {
    if (key.workspace !== undefined) return key.workspace;
    throw new Failure(
      'bad_request',
      'a personal key reaches many workspaces; name one in the header X-Blaxel-Workspace',
    );
  }
  const parsed = WorkspaceName.safeParse(named);
  if (!parsed.success) throw new Failure('bad_request', "X-Blaxel-Workspace holds no workspace's name");
  if (key.workspace === undefined && !(await store.workspaces.get(parsed.data))) {
    throw new Failure('not_found', `there is no workspace "${parsed.data}"`);
  }
  return parsed.data;
}

/** Undefined for bugs: those are not for the caller to read. */
function refusalOf(error: unknown, row: Row | undefined, exchange: Exchange, nowMs: number): BlaxelRefusal | undefined {
  if (error instanceof Refused) return error.refusal;
  if (!(error instanceof Failure)) return undefined;
  if (row?.refusesAs !== 'creation' || /^(unauthenticated|forbidden|too_large|request_timeout)$/.test(error.code)) {
    return blaxelErrorOf(error);
  }
  const workspace = String(exchange.notes['workspace'] ?? '');
  return blaxelCreationErrorOf(error, { workspace, nowMs });
}

/** A bug, as the caller hears of it. */
export function controlBug(error: unknown): BlaxelRefusal {
  return error instanceof Failure
    ? blaxelErrorOf(error)
    : blaxelError(500, 'something of ours went wrong; asking again may help');
}

function asText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function lacking(what: string): Failure {
  return new Failure(
    'not_implemented',
    `${what} is part of Blaxel's API, and this version of Torpor does not have it yet`,
  );
}

function one(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value) ?? null;
}
