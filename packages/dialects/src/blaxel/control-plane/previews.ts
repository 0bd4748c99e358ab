/** Previews: URLs that lead to a port of a sandbox, and the tokens that open the private ones. */
import { createHmac } from 'node:crypto';
import { describeIssues, SandboxName } from '@torpor/contracts';
import { randomWord, type Chance } from '@torpor/kernel';
import { z } from 'zod';
import { parseDate, EXPECTED_SPAN, parseSpan } from './durations.ts';
import { accept, refuse, type Parsed } from './refusals.ts';

/** A preview as it is stored. Same shape as the store's, minus who and when. */
export interface BlaxelPreview {
  readonly name: string;
  readonly port: number;
  readonly public: boolean;
  readonly expiresAtMs?: number;
  /** What the core has no use for, as it came: prefixUrl, customDomain, ttl, expires, requestHeaders, responseHeaders, displayName. */
  readonly extra: Readonly<Record<string, unknown>>;
}

export interface StoredPreview extends BlaxelPreview {
  readonly id: string;
  readonly sandbox: string;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  readonly createdBy: string;
}

/** This port of a preview means the sandbox's own API: what `sessions` of the SDK are made of. */
export const SESSION_PORT = 443;

const HeaderMap = z
  .record(
    z.string().regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/, 'expected a header name'),
    z
      .string()
      .max(4096)
      .regex(/^[\t\x20-\x7e\x80-\xff]*$/, 'expected a header value without line breaks'),
  )
  .refine((headers) => Object.keys(headers).length <= 50, 'expected at most 50');

const Prefix = z
  .string()
  .max(40)
  .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, 'expected lower-case letters, digits and inner hyphens, at most 40 signs');

const PreviewBody = z.looseObject({
  metadata: z.looseObject({ name: SandboxName, displayName: z.string().max(63).nullish() }),
  spec: z
    .looseObject({
      port: z.int().min(1).max(65535).nullish(),
      public: z.boolean().nullish(),
      prefixUrl: z.preprocess((value) => (value === '' ? undefined : value), Prefix.nullish()),
      customDomain: z.string().max(253).nullish(),
      ttl: z.string().nullish(),
      expires: z.string().nullish(),
      requestHeaders: HeaderMap.nullish(),
      responseHeaders: HeaderMap.nullish(),
    })
    .nullish(),
});

/** `POST` and `PUT` of a preview. `lasting`: the name, when the path gives it. */
export function parseBlaxelPreview(json: unknown, context: { nowMs: number; name?: string }): Parsed<BlaxelPreview> {
  const parsed = PreviewBody.safeParse(withName(json, context.name));
  if (!parsed.success) return refuse(400, describeIssues(parsed.error));
  const { metadata } = parsed.data;
  const spec = parsed.data.spec ?? {};
  if (context.name !== undefined && metadata.name !== context.name) {
    return refuse(400, `metadata.name is ${metadata.name}; a preview keeps its name, ${context.name}`);
  }
  if (spec.customDomain)
    return refuse(501, 'spec.customDomain: this server offers no custom domains yet; leave it out');
  const end = endOf(spec, context.nowMs);
  if (!end.ok) return end;
  const { port, public: open, url: _url, region: _region, ...rest } = spec;
  const extra = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null && value !== undefined));
  if (metadata.displayName) extra['displayName'] = metadata.displayName;
  return accept({
    name: metadata.name,
    port: port ?? 3000,
    public: open ?? true,
    ...(end.value === undefined ? {} : { expiresAtMs: end.value }),
    extra,
  });
}

/**
 * The outside name of a preview. It follows from what it names, so that one made anew has the same URL; and it cannot be guessed
 * without the key.
 */
export function previewId(
  about: { workspace: string; sandbox: string; name: string; extra: Readonly<Record<string, unknown>> },
  key: Uint8Array | string,
): string {
  const digest = createHmac('sha256', key)
    .update(`preview\0${about.workspace}\0${about.sandbox}\0${about.name}`)
    .digest('hex');
  const prefix = about.extra['prefixUrl'];
  return typeof prefix === 'string' ? `${prefix}-${digest.slice(0, 20)}` : digest.slice(0, 20);
}

/** Finds the way that a request to a preview asks for: `/preview/<id>/rest` → id and raw rest (with its query), nothing decoded. */
export function parsePreviewPath(rawPath: string): { id: string; rest: string } | undefined {
  const match = /^\/preview\/([a-z0-9-]{1,64})(?=$|[/?])(.*)$/s.exec(rawPath);
  if (!match?.[1]) return undefined;
  const rest = match[2] ?? '';
  return { id: match[1], rest: rest.startsWith('/') ? rest : `/${rest}` };
}

export function previewUrl(publicUrl: string, id: string): string {
  return `${publicUrl}/preview/${id}`;
}

/** Whether a preview has outlived its date. */
export function previewEnded(preview: { expiresAtMs?: number }, nowMs: number): boolean {
  return preview.expiresAtMs !== undefined && preview.expiresAtMs <= nowMs;
}

/** Headers that a preview adds to what it passes on, to the sandbox and to the caller. */
export function previewHeaders(preview: Pick<BlaxelPreview, 'extra'>): {
  request: Readonly<Record<string, string>>;
  response: Readonly<Record<string, string>>;
} {
  const read = (name: string) => HeaderMap.safeParse(preview.extra[name]).data ?? {};
  return { request: read('requestHeaders'), response: read('responseHeaders') };
}

/** The token that a request carries: query `bl_preview_token` or header `X-Blaxel-Preview-Token`. */
export function offeredPreviewToken(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  query: URLSearchParams,
): string | undefined {
  const header = headers['x-blaxel-preview-token'];
  return (Array.isArray(header) ? header[0] : header) || query.get('bl_preview_token') || undefined;
}

export function toBlaxelPreview(
  preview: StoredPreview,
  context: { publicUrl: string; workspace: string; nowMs: number; deleting?: boolean },
): Record<string, unknown> {
  const { displayName, ...spec } = preview.extra;
  const status = context.deleting ? 'TERMINATED' : previewEnded(preview, context.nowMs) ? 'TERMINATED' : 'DEPLOYED';
  return {
    metadata: {
      name: preview.name,
      displayName: displayName ?? preview.name,
      resourceName: preview.sandbox,
      resourceType: 'sandbox',
      workspace: context.workspace,
      createdAt: new Date(preview.createdAtMs).toISOString(),
      updatedAt: new Date(preview.updatedAtMs).toISOString(),
      createdBy: preview.createdBy,
      updatedBy: preview.createdBy,
    },
    spec: { ...spec, port: preview.port, public: preview.public, url: previewUrl(context.publicUrl, preview.id) },
    status,
  };
}

// ---------------------------------------------------------------------------------------------------------------- tokens

export interface BlaxelPreviewToken {
  readonly name: string;
  readonly value: string;
  readonly createdAtMs: number;
  readonly expiresAtMs?: number;
}

const TokenBody = z.looseObject({
  metadata: z.looseObject({ name: z.string().min(1).max(128).nullish() }).nullish(),
  spec: z.looseObject({ expiresAt: z.string().nullish() }).nullish(),
});

/** `POST …/tokens`: a new token with a value of its own (`[a-z0-9]`, 32 signs, 160 bits). */
export function parseBlaxelPreviewToken(
  json: unknown,
  context: { nowMs: number; chance: Chance },
): Parsed<BlaxelPreviewToken> {
  const parsed = TokenBody.safeParse(json ?? {});
  if (!parsed.success) return refuse(400, describeIssues(parsed.error));
  const text = parsed.data.spec?.expiresAt;
  const expiresAtMs = text ? parseDate(text) : undefined;
  if (text && expiresAtMs === undefined) {
    return refuse(
      400,
      `spec.expiresAt is ${JSON.stringify(text.slice(0, 60))}; expected a date such as 2026-12-31T23:59:59Z`,
    );
  }
  return accept({
    name: parsed.data.metadata?.name ?? `token-${randomWord(context.chance, 8)}`,
    value: randomWord(context.chance, 32),
    createdAtMs: context.nowMs,
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
  });
}

export function toBlaxelPreviewToken(
  token: BlaxelPreviewToken,
  about: { workspace: string; sandbox: string; preview: string; nowMs: number },
): Record<string, unknown> {
  return {
    metadata: {
      name: token.name,
      previewName: about.preview,
      resourceName: about.sandbox,
      resourceType: 'sandbox',
      workspace: about.workspace,
    },
    spec: {
      token: token.value,
      ...(token.expiresAtMs === undefined ? {} : { expiresAt: new Date(token.expiresAtMs).toISOString() }),
      expired: token.expiresAtMs !== undefined && token.expiresAtMs <= about.nowMs,
    },
  };
}

function withName(json: unknown, name: string | undefined): unknown {
  if (name === undefined || typeof json !== 'object' || json === null || Array.isArray(json)) return json ?? {};
  const metadata = 'metadata' in json && typeof json.metadata === 'object' ? json.metadata : undefined;
  return { ...json, metadata: { name, ...metadata } };
}

function endOf(
  spec: { ttl?: string | null | undefined; expires?: string | null | undefined },
  nowMs: number,
): Parsed<number | undefined> {
  const ends: number[] = [];
  if (spec.ttl) {
    const span = parseSpan(spec.ttl);
    if (!span) return refuse(400, `spec.ttl is ${JSON.stringify(spec.ttl.slice(0, 60))}; expected ${EXPECTED_SPAN}`);
    ends.push(nowMs + span);
  }
  if (spec.expires) {
    const date = parseDate(spec.expires);
    if (date === undefined) {
      return refuse(
        400,
        `spec.expires is ${JSON.stringify(spec.expires.slice(0, 60))}; expected a date such as 2026-12-31T23:59:59Z`,
      );
    }
    ends.push(date);
  }
  return accept(ends.length === 0 ? undefined : Math.min(...ends));
}
