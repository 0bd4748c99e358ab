/** The dialect's sandboxes: parse, ask the core, show. */
import { SandboxName, type Sandbox, type SandboxAsk } from '@torpor/contracts';
import {
  blaxelError,
  blaxelList,
  isPaged,
  parseBlaxelCreate,
  parseBlaxelListQuery,
  parseBlaxelUpdate,
  parseFlag,
  standingOf,
  toBlaxelSandbox,
  type BlaxelListQuery,
} from '@torpor/dialects';
import { Failure, type Clock } from '@torpor/kernel';
import type { Store } from '@torpor/store';
import type { Admission } from '../callers/admission.ts';
import { createOnce } from '../sandboxes/create-once.ts';
import type { LiveState, LiveStates } from '../sandboxes/live-states.ts';
import type { Offers } from '../sandboxes/offer.ts';
import { pagesOf } from '../sandboxes/pages.ts';
import type { Sandboxes } from '../sandboxes/sandboxes.ts';
import { need, Refused, type ControlAsk, type Row } from './ask.ts';

export interface SandboxRowsParts {
  readonly sandboxes: Sandboxes;
  readonly live: LiveStates;
  readonly offers: Offers;
  readonly store: Store;
  readonly admission: Admission;
  readonly clock: Clock;
  readonly publicUrl: string;
}

export function sandboxRows(parts: SandboxRowsParts): Row[] {
  return [
    row('POST', '/sandboxes', {
      action: 'sandboxes:write',
      audit: 'sandbox.create',
      refusesAs: 'creation',
      handle: (ask) => create(parts, ask),
    }),
    row('GET', '/sandboxes', { action: 'sandboxes:read', handle: (ask) => list(parts, ask) }),
    row('GET', '/sandboxes/by-external-id/:externalId', {
      action: 'sandboxes:read',
      handle: (ask) => byExternalId(parts, ask),
    }),
    row('GET', '/sandboxes/:name', { action: 'sandboxes:read', handle: (ask) => get(parts, ask) }),
    row('PUT', '/sandboxes/:name', {
      action: 'sandboxes:write',
      audit: 'sandbox.update',
      handle: (ask) => update(parts, ask),
    }),
    row('DELETE', '/sandboxes/:name', {
      action: 'sandboxes:write',
      audit: 'sandbox.delete',
      handle: (ask) => remove(parts, ask),
    }),
  ];
}

function row(method: Row['method'], pattern: string, more: Omit<Row, 'method' | 'pattern'>): Row {
  return { method, pattern, ...more };
}

async function create(parts: SandboxRowsParts, ask: ControlAsk): Promise<unknown> {
  const { workspace, key } = ask.caller;
  const wanted = need(
    parseBlaxelCreate(await ask.json(), {
      workspace,
      createdBy: key.subject,
      createIfNotExist: need(parseFlag('createIfNotExist', ask.query.get('createIfNotExist'))),
      offer: await parts.offers.offer(),
      nowMs: parts.clock.nowMs(),
    }),
  );
  const header = ask.exchange.request.headers['idempotency-key'];
  const { kind, sandbox } = await createOnce(
    parts,
    {
      workspace,
      key: Array.isArray(header) ? header[0] : header,
      request: { ...wanted, createdBy: undefined },
      traceparent: ask.exchange.span.traceparent,
    },
    async () => wanted,
  );
  ask.exchange.notes['sandbox'] = sandbox.name;
  if (kind === 'created') return show(parts, sandbox, { env: wanted.env, live: freshlyMade(sandbox) });
  return showWhole(parts, ask, sandbox);
}

async function get(parts: SandboxRowsParts, ask: ControlAsk): Promise<unknown> {
  return showWhole(parts, ask, await parts.sandboxes.get(ask.caller.workspace, nameIn(ask)));
}

async function byExternalId(parts: SandboxRowsParts, ask: ControlAsk): Promise<unknown> {
  const externalId = ask.params['externalId'] ?? '';
  const isOne = /^[A-Za-z0-9-]{1,64}$/.test(externalId);
  const sandbox = isOne
    ? await parts.store.workspace(ask.caller.workspace).sandboxes.byExternalId(externalId)
    : undefined;
  if (!sandbox || standingOf(sandbox, parts.clock.nowMs()).kind === 'ended') {
    throw new Failure('not_found', 'there is no living sandbox with this external id');
  }
  return showWhole(parts, ask, sandbox);
}

async function update(parts: SandboxRowsParts, ask: ControlAsk): Promise<unknown> {
  const { workspace } = ask.caller;
  const name = nameIn(ask);
  const json = await ask.json();
  const current = await parts.sandboxes.living(workspace, name);
  const currentEnv = (await parts.store.workspace(workspace).sandboxes.env(current.instanceId)) ?? {};
  const nowMs = parts.clock.nowMs();
  const { changes } = need(parseBlaxelUpdate(json, { current, currentEnv, offer: await parts.offers.offer(), nowMs }));
  const changed =
    Object.keys(changes).length === 0
      ? current
      : await parts.sandboxes.update(workspace, name, changes, ask.exchange.span.traceparent);
  return showWhole(parts, ask, changed);
}

async function remove(parts: SandboxRowsParts, ask: ControlAsk): Promise<unknown> {
  const sandbox = await parts.sandboxes.delete(ask.caller.workspace, nameIn(ask), ask.exchange.span.traceparent);
  return show(parts, sandbox, {});
}

async function list(parts: SandboxRowsParts, ask: ControlAsk): Promise<unknown> {
  const asked = need(parseBlaxelListQuery(ask.query));
  if (asked.matchesNothing) return blaxelList(ask.version, { items: [], total: 0 });
  const page = isPaged(ask.version) ? await pageOf(parts, ask, asked) : await allOf(parts, ask, asked);
  const live = await parts.live.askAll(page.items);
  const nowMs = parts.clock.nowMs();
  const shown = page.items.filter((sandbox) => {
    const standing = standingOf(sandbox, nowMs);
    return standing.kind === 'living' || (asked.showTerminated && standing.readable);
  });
  const items = shown
    .map((sandbox) => show(parts, sandbox, { live: live.get(sandbox.instanceId) }))
    .filter(({ status }) => asked.statuses === undefined || asked.statuses.includes(String(status)));
  return blaxelList(ask.version, { ...page, items });
}

function pageOf(parts: SandboxRowsParts, ask: ControlAsk, asked: BlaxelListQuery) {
  return parts.store.workspace(ask.caller.workspace).sandboxes.list(queryOf(parts, asked));
}

async function allOf(parts: SandboxRowsParts, ask: ControlAsk, asked: BlaxelListQuery) {
  const { sandboxes } = parts.store.workspace(ask.caller.workspace);
  const items: Sandbox[] = [];
  let total = 0;
  for await (const page of pagesOf(sandboxes, queryOf(parts, asked))) {
    items.push(...page.items);
    total = page.total;
  }
  return { items, total, nextCursor: undefined };
}

/** The part of the question that the store can answer. */
function queryOf({ clock }: SandboxRowsParts, asked: BlaxelListQuery) {
  const { matchesNothing: _, statuses: __, ...query } = asked;
  return { ...query, nowMs: clock.nowMs() };
}

/** With its environment and with its state as its node says it now. */
export async function showWhole(parts: SandboxRowsParts, ask: ControlAsk, sandbox: Sandbox): Promise<unknown> {
  const showSecrets = need(parseFlag('show_secrets', ask.query.get('show_secrets')));
  if (showSecrets) parts.admission.demand(ask.caller.key, 'sandboxes:write', ask.caller.workspace);
  const [env, live] = await Promise.all([
    parts.store.workspace(sandbox.workspace).sandboxes.env(sandbox.instanceId),
    sandbox.phase === 'ready' ? parts.live.ask(sandbox, ask.exchange.span.traceparent) : undefined,
  ]);
  return show(parts, sandbox, { env, live, showSecrets });
}

function show(
  parts: SandboxRowsParts,
  sandbox: Sandbox,
  more: {
    env?: SandboxAsk['env'] | Readonly<Record<string, string>> | undefined;
    live?: LiveState | ReturnType<typeof freshlyMade> | undefined;
    showSecrets?: boolean;
  },
): Record<string, unknown> {
  return toBlaxelSandbox(sandbox, {
    publicUrl: parts.publicUrl,
    nowMs: parts.clock.nowMs(),
    ...(more.env === undefined ? {} : { env: more.env }),
    ...(more.live === undefined ? {} : { instance: more.live }),
    ...(more.showSecrets === undefined ? {} : { showSecrets: more.showSecrets }),
  });
}

function freshlyMade(sandbox: Sandbox): Pick<LiveState, 'state' | 'lastUsedAtMs'> {
  return { state: 'running', lastUsedAtMs: sandbox.lastUsedAtMs };
}

/** A name that cannot be one names nothing. */
export function nameIn(ask: ControlAsk, param = 'name'): SandboxName {
  const name = SandboxName.safeParse(ask.params[param]);
  if (name.success) return name.data;
  throw new Refused(
    blaxelError(404, 'there is no sandbox of that name; names have lower-case letters, digits and hyphens'),
  );
}
