/** The dialect's previews and their tokens. */
import { SandboxName } from '@torpor/contracts';
import {
  parseBlaxelPreview,
  parseBlaxelPreviewToken,
  parseFlag,
  previewId,
  toBlaxelPreview,
  toBlaxelPreviewToken,
  type BlaxelPreview,
} from '@torpor/dialects';
import { Failure, type Chance, type Clock } from '@torpor/kernel';
import type { Preview, PreviewShelf, Store } from '@torpor/store';
import type { PreviewBook } from '../previews/door.ts';
import type { Sandboxes } from '../sandboxes/sandboxes.ts';
import { need, type ControlAsk, type Row } from './ask.ts';
import { nameIn } from './sandboxes.ts';

export interface PreviewRowsParts {
  readonly sandboxes: Sandboxes;
  readonly store: Store;
  readonly book: PreviewBook;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly publicUrl: string;
  /** Makes the ids of previews unguessable. */
  readonly idKey: string;
}

const ALL = '/sandboxes/:name/previews';
const ONE = `${ALL}/:preview`;
const TOKENS = `${ONE}/tokens`;

export function previewRows(parts: PreviewRowsParts): Row[] {
  const read = { action: 'previews:read' } as const;
  return [
    { method: 'GET', pattern: ALL, ...read, handle: (ask) => list(parts, ask) },
    { method: 'POST', pattern: ALL, ...write('preview.create'), handle: (ask) => create(parts, ask) },
    { method: 'GET', pattern: ONE, ...read, handle: (ask) => get(parts, ask) },
    { method: 'PUT', pattern: ONE, ...write('preview.update'), handle: (ask) => replace(parts, ask) },
    { method: 'DELETE', pattern: ONE, ...write('preview.delete'), handle: (ask) => remove(parts, ask) },
    // A token's value opens the preview, so reading it takes more than reading.
    { method: 'GET', pattern: TOKENS, action: 'previews:write', handle: (ask) => listTokens(parts, ask) },
    { method: 'POST', pattern: TOKENS, ...write('preview-token.create'), handle: (ask) => createToken(parts, ask) },
    {
      method: 'DELETE',
      pattern: `${TOKENS}/:token`,
      ...write('preview-token.delete'),
      handle: (ask) => removeToken(parts, ask),
    },
  ];
}

function write(audit: string) {
  return { action: 'previews:write', audit } as const;
}

async function list(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  const sandbox = nameIn(ask);
  await parts.sandboxes.living(ask.caller.workspace, sandbox);
  const previews = await shelf(parts, ask).list(sandbox);
  return previews.map((preview) => show(parts, ask, preview));
}

async function get(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  return show(parts, ask, await existing(parts, ask));
}

async function create(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  const force = need(parseFlag('force', ask.query.get('force')));
  const wanted = need(parseBlaxelPreview(await ask.json(), { nowMs: parts.clock.nowMs() }));
  await parts.sandboxes.living(ask.caller.workspace, nameIn(ask));
  const preview = toStore(parts, ask, wanted);
  const made = await shelf(parts, ask).create(preview);
  switch (made.kind) {
    case 'created':
      parts.book.forget(preview.id);
      return show(parts, ask, made.preview);
    case 'no_sandbox':
      throw new Failure('not_found', `there is no living sandbox "${preview.sandbox}"`);
    case 'taken':
      if (!force)
        throw new Failure('conflict', `the preview "${preview.name}" exists already; ?force=true replaces it`);
      return store(parts, ask, preview);
  }
}

async function replace(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  const name = previewName(ask);
  const wanted = need(parseBlaxelPreview(await ask.json(), { nowMs: parts.clock.nowMs(), name }));
  return store(parts, ask, toStore(parts, ask, wanted));
}

async function store(parts: PreviewRowsParts, ask: ControlAsk, preview: Preview): Promise<unknown> {
  const stored = await shelf(parts, ask).replace(preview);
  if (!stored) throw noPreview(preview.name);
  parts.book.forget(stored.id);
  return show(parts, ask, stored);
}

async function remove(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  const gone = await shelf(parts, ask).delete(nameIn(ask), previewName(ask));
  if (!gone) throw noPreview(previewName(ask));
  parts.book.forget(gone.id);
  return show(parts, ask, gone, true);
}

async function listTokens(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  const preview = await existing(parts, ask);
  const tokens = await shelf(parts, ask).tokens(preview.sandbox, preview.name);
  return tokens.map((token) => toBlaxelPreviewToken(token, aboutToken(parts, ask, preview)));
}

async function createToken(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  const { clock, chance } = parts;
  const wanted = need(parseBlaxelPreviewToken(await ask.json(), { nowMs: clock.nowMs(), chance }));
  const preview = await existing(parts, ask);
  const token = await shelf(parts, ask).createToken(preview.sandbox, preview.name, wanted);
  if (!token) throw noPreview(preview.name);
  parts.book.forget(preview.id);
  return toBlaxelPreviewToken(token, aboutToken(parts, ask, preview));
}

async function removeToken(parts: PreviewRowsParts, ask: ControlAsk): Promise<unknown> {
  const preview = await existing(parts, ask);
  const token = await shelf(parts, ask).deleteToken(preview.sandbox, preview.name, ask.params['token'] ?? '');
  if (!token)
    throw new Failure('not_found', `the preview "${preview.name}" has no such token, neither by name nor by value`);
  parts.book.forget(preview.id);
  return { message: `the token "${token.name}" is deleted` };
}

async function existing(parts: PreviewRowsParts, ask: ControlAsk): Promise<Preview> {
  const name = previewName(ask);
  const preview = await shelf(parts, ask).get(nameIn(ask), name);
  if (!preview) throw noPreview(name);
  return preview;
}

function shelf(parts: PreviewRowsParts, ask: ControlAsk): PreviewShelf {
  return parts.store.workspace(ask.caller.workspace).previews;
}

/** A name that cannot be one names nothing. */
function previewName(ask: ControlAsk): string {
  const name = SandboxName.safeParse(ask.params['preview']);
  if (!name.success) throw new Failure('not_found', 'there is no preview of that name');
  return name.data;
}

function toStore(parts: PreviewRowsParts, ask: ControlAsk, wanted: BlaxelPreview): Preview {
  const { workspace, key } = ask.caller;
  const sandbox = nameIn(ask);
  const nowMs = parts.clock.nowMs();
  const id = previewId({ workspace, sandbox, name: wanted.name, extra: wanted.extra }, parts.idKey);
  return { ...wanted, id, sandbox, createdAtMs: nowMs, updatedAtMs: nowMs, createdBy: key.subject };
}

function show(parts: PreviewRowsParts, ask: ControlAsk, preview: Preview, deleting = false): unknown {
  const { publicUrl, clock } = parts;
  return toBlaxelPreview(preview, { publicUrl, workspace: ask.caller.workspace, nowMs: clock.nowMs(), deleting });
}

function aboutToken(parts: PreviewRowsParts, ask: ControlAsk, preview: Preview) {
  const { workspace } = ask.caller;
  return { workspace, sandbox: preview.sandbox, preview: preview.name, nowMs: parts.clock.nowMs() };
}

function noPreview(name: string): Failure {
  return new Failure('not_found', `there is no preview "${name}"`);
}
