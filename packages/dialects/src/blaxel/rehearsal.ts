/**
 * For tests: a Blaxel of one sandbox host in one process. Control plane over a map, data plane over one guest that all sandboxes share.
 * It mounts what this package exports the way the gateway and the node-agent do, with nothing in between that could hide a mistake.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Sandbox, WorkspaceName, type SandboxAsk } from '@torpor/contracts';
import { explain, randomWord, systemChance, systemClock } from '@torpor/kernel';
import type { Guest } from '@torpor/runtime';
import {
  blaxelCreationError,
  blaxelError,
  blaxelList,
  offeredPreviewToken,
  parseBlaxelCreate,
  parseBlaxelListQuery,
  parseBlaxelPreview,
  parseBlaxelPreviewToken,
  parseBlaxelUpdate,
  parseBlaxelVersion,
  parsePreviewPath,
  plainImages,
  plainOffer,
  previewId,
  serveBlaxelDataPlane,
  standingOf,
  toBlaxelPreview,
  toBlaxelPreviewToken,
  toBlaxelSandbox,
  type BlaxelPreviewToken,
  type BlaxelRefusal,
  type DataPlaneAnswer,
  type StoredPreview,
} from '../index.ts';

export interface Rehearsal {
  readonly url: string;
  /** Every request line that came, for tests that care what a client really sends. */
  readonly seen: readonly string[];
  /** What went wrong by a bug of ours: must stay empty. */
  readonly bugs: readonly unknown[];
  close(): Promise<void>;
}

const WORKSPACE = WorkspaceName.parse('acme');
const OFFER = plainOffer(plainImages('base'));

export async function openRehearsal(guest: Guest, workdir: string): Promise<Rehearsal> {
  const sandboxes = new Map<string, { sandbox: Sandbox; env: Record<string, string> }>();
  const previews = new Map<string, { preview: StoredPreview; tokens: BlaxelPreviewToken[] }>();
  const seen: string[] = [];
  const bugs: unknown[] = [];
  let url = '';
  const server: Server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    answer(request, response).catch((error: unknown) => {
      if (response.destroyed) return;
      bugs.push(error);
      send(response, blaxelError(500, explain(error)));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // a TCP server's address is one

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const raw = request.url ?? '/';
    const data = /^\/acme\/sandboxes\/([a-z0-9-]+)(.*)$/s.exec(raw);
    if (data) return serveData(request, response, data[2] ?? '');
    if (raw.startsWith('/preview/')) return servePreview(request, response, raw);
    if (raw.startsWith('/v0/')) return control(request, response, new URL(raw.slice(3), url));
    send(response, blaxelError(404, `no ${raw}`));
  }

  async function serveData(request: IncomingMessage, response: ServerResponse, rawPath: string): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort(new Error('the caller has gone')));
    const found = await serveBlaxelDataPlane({
      request: {
        method: request.method ?? 'GET',
        rawPath,
        headers: request.headers,
        body: request,
        signal: gone.signal,
      },
      guest,
      workdir,
      clock: systemClock,
      chance: systemChance,
    });
    await pass(found, response);
  }

  async function servePreview(request: IncomingMessage, response: ServerResponse, raw: string): Promise<void> {
    const way = parsePreviewPath(raw);
    const found = way && [...previews.values()].find(({ preview }) => preview.id === way.id);
    if (!way || !found) return send(response, blaxelError(404, 'no such preview'));
    const offered = offeredPreviewToken(request.headers, new URL(raw, url).searchParams);
    if (!found.preview.public && !found.tokens.some((token) => token.value === offered)) {
      return send(response, blaxelError(401, 'a token is needed'));
    }
    return serveData(request, response, way.rest);
  }

  async function control(request: IncomingMessage, response: ServerResponse, at: URL): Promise<void> {
    const version = parseBlaxelVersion(one(request.headers['blaxel-version']));
    if (!version.ok) return send(response, version.refusal);
    const parts = at.pathname.split('/').filter((part) => part !== '');
    const body = request.method === 'POST' || request.method === 'PUT' ? await readBody(request) : undefined;
    if (parts[0] !== 'sandboxes') return send(response, blaxelError(404, `no ${at.pathname}`));
    const view = (name: string) => {
      const entry = sandboxes.get(name);
      if (!entry) return undefined;
      const context = { publicUrl: url, nowMs: Date.now(), env: entry.env };
      const ended = standingOf(entry.sandbox, Date.now());
      return ended.kind === 'ended' && !ended.readable ? undefined : toBlaxelSandbox(entry.sandbox, context);
    };
    if (parts.length === 1 && request.method === 'GET') {
      const query = parseBlaxelListQuery(at.searchParams);
      if (!query.ok) return send(response, query.refusal);
      const items = [...sandboxes.keys()].map(view);
      return ok(response, blaxelList(version.value, { items: items.slice(0, query.value.limit), total: items.length }));
    }
    if (parts.length === 1 && request.method === 'POST') {
      const createIfNotExist = at.searchParams.get('createIfNotExist') === 'true';
      const parsed = parseBlaxelCreate(body, {
        workspace: WORKSPACE,
        createdBy: 'tester',
        createIfNotExist,
        offer: OFFER,
        nowMs: Date.now(),
      });
      if (!parsed.ok) return send(response, parsed.refusal);
      const name = parsed.value.name ?? `sbx-${randomWord(systemChance, 8)}`;
      const there = sandboxes.get(name);
      if (there && standingOf(there.sandbox, Date.now()).kind === 'living') {
        if (parsed.value.reuse) return ok(response, view(name));
        const about = { workspace: WORKSPACE, sandboxName: name, step: 'validation', atMs: Date.now() };
        return send(
          response,
          blaxelCreationError({
            ...about,
            code: 'SANDBOX_ALREADY_EXISTS',
            status: 409,
            message: 'it is there already',
          }),
        );
      }
      sandboxes.set(name, { sandbox: rowOf(parsed.value, name), env: parsed.value.env });
      return ok(response, view(name));
    }
    const name = parts[1] ?? '';
    const entry = sandboxes.get(name);
    if (!entry || !view(name)) return send(response, blaxelError(404, `no sandbox ${name}`));
    if (parts.length === 2 && request.method === 'GET') return ok(response, view(name));
    if (parts.length === 2 && request.method === 'DELETE') {
      sandboxes.set(name, { ...entry, sandbox: { ...entry.sandbox, phase: 'terminated', terminatedAtMs: Date.now() } });
      return ok(response, view(name));
    }
    if (parts.length === 2 && request.method === 'PUT') {
      const context = { current: entry.sandbox, currentEnv: entry.env, offer: OFFER, nowMs: Date.now() };
      const parsed = parseBlaxelUpdate(body, context);
      if (!parsed.ok) return send(response, parsed.refusal);
      const { env, ...changes } = parsed.value.changes;
      sandboxes.set(name, {
        sandbox: Sandbox.parse({ ...entry.sandbox, ...changes, updatedAtMs: Date.now() }),
        env: env ?? entry.env,
      });
      return ok(response, view(name));
    }
    if (parts[2] === 'previews') return controlPreviews(request, response, name, parts.slice(3), body);
    send(response, blaxelError(404, `no ${at.pathname}`));
  }

  function controlPreviews(
    request: IncomingMessage,
    response: ServerResponse,
    sandbox: string,
    parts: string[],
    body: unknown,
  ): void {
    const about = { publicUrl: url, workspace: WORKSPACE, nowMs: Date.now() };
    const [name, , token] = parts;
    if (name === undefined && request.method === 'GET') {
      return ok(
        response,
        [...previews.values()].map(({ preview }) => toBlaxelPreview(preview, about)),
      );
    }
    if (name === undefined) {
      const parsed = parseBlaxelPreview(body, { nowMs: Date.now() });
      if (!parsed.ok) return send(response, parsed.refusal);
      const id = previewId({ workspace: WORKSPACE, sandbox, ...parsed.value }, 'key');
      const times = { createdAtMs: Date.now(), updatedAtMs: Date.now(), createdBy: 'tester' };
      const preview = { ...parsed.value, id, sandbox, ...times };
      previews.set(preview.name, { preview, tokens: [] });
      return ok(response, toBlaxelPreview(preview, about));
    }
    const found = previews.get(name);
    if (!found) return send(response, blaxelError(404, `no preview ${name}`));
    const tokenAbout = { workspace: WORKSPACE, sandbox, preview: name, nowMs: Date.now() };
    if (parts.length === 1 && request.method === 'GET') return ok(response, toBlaxelPreview(found.preview, about));
    if (parts.length === 1 && request.method === 'DELETE') {
      previews.delete(name);
      return ok(response, toBlaxelPreview(found.preview, { ...about, deleting: true }));
    }
    if (parts.length === 2 && request.method === 'GET') {
      return ok(
        response,
        found.tokens.map((each) => toBlaxelPreviewToken(each, tokenAbout)),
      );
    }
    if (parts.length === 2) {
      const parsed = parseBlaxelPreviewToken(body, { nowMs: Date.now(), chance: systemChance });
      if (!parsed.ok) return send(response, parsed.refusal);
      found.tokens.push(parsed.value);
      return ok(response, toBlaxelPreviewToken(parsed.value, tokenAbout));
    }
    found.tokens = found.tokens.filter((each) => each.value !== token && each.name !== token);
    return ok(response, { message: 'deleted' });
  }

  return {
    url,
    seen,
    bugs,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function rowOf(ask: SandboxAsk, name: string): Sandbox {
  const nowMs = Date.now();
  const { reuse: _reuse, env, ...fields } = ask;
  return Sandbox.parse({
    ...fields,
    name,
    instanceId: `i${randomWord(systemChance, 15)}`,
    generation: 1,
    nodeId: 'n1',
    phase: 'ready',
    envNames: Object.keys(env),
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
    lastUsedAtMs: nowMs,
  });
}

async function pass(answer: DataPlaneAnswer, response: ServerResponse): Promise<void> {
  response.writeHead(answer.status, { ...answer.headers });
  if (answer.body instanceof Readable) {
    response.flushHeaders();
    await pipeline(answer.body, response).catch(() => response.destroy()); // half an answer must not look whole
  } else {
    response.end(answer.body);
  }
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  const text = Buffer.concat(chunks).toString('utf8');
  return text === '' ? undefined : JSON.parse(text);
}

function ok(response: ServerResponse, body: unknown): void {
  send(response, { status: 200, body: body as BlaxelRefusal['body'] }); // any JSON goes out the same way
}

function send(response: ServerResponse, { status, body }: Pick<BlaxelRefusal, 'status' | 'body'>): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

function one(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header[0] : header;
}
