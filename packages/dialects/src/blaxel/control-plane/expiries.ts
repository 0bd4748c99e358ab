import type { Expiry } from '@torpor/contracts';
import { z } from 'zod';
import { EXPECTED_SPAN, parseDate, parseSpan } from './durations.ts';
import { accept, refuse, type Parsed } from './refusals.ts';
import type { Kept, Lifecycle } from './sandbox-body.ts';

const RETENTION_MS_DEFAULT = 5 * 60_000;
const RETENTION_MS_MAX = 30 * 86_400_000;

/** The fields that say when a sandbox ends, as they are kept. Their shapes were checked when they came. */
const Ends = z.object({
  ttl: z.string().nullish(),
  expires: z.string().nullish(),
  lifecycle: z.custom<Lifecycle>().nullish(),
});

export interface Ending {
  readonly expiry: Expiry;
  readonly terminatedRetentionMs: number;
}

/** Reads `runtime.ttl`, `runtime.expires` and `lifecycle` into limits. Of several limits of one kind the nearest counts. */
export function parseEnding(kept: Kept): Parsed<Ending> {
  const { ttl, expires, lifecycle } = Ends.parse({ ...kept.runtime, lifecycle: kept.spec['lifecycle'] });
  const limits: { atMs: number[]; maxAgeMs: number[]; idleMs: number[] } = { atMs: [], maxAgeMs: [], idleMs: [] };
  const wrong: string[] = [];
  const span = (field: string, text: string, into: number[]) => {
    const ms = parseSpan(text);
    if (ms === undefined || ms === 0) wrong.push(`${field} is ${show(text)}; expected ${EXPECTED_SPAN}`);
    else into.push(ms);
  };
  const date = (field: string, text: string) => {
    const ms = parseDate(text);
    if (ms === undefined) wrong.push(`${field} is ${show(text)}; expected a date such as 2026-12-31T23:59:59Z`);
    else limits.atMs.push(ms);
  };
  if (ttl) span('spec.runtime.ttl', ttl, limits.maxAgeMs);
  if (expires) date('spec.runtime.expires', expires);
  for (const [index, policy] of (lifecycle?.expirationPolicies ?? []).entries()) {
    const field = `spec.lifecycle.expirationPolicies.${index}.value`;
    if (policy.type === 'date') date(field, policy.value);
    else span(field, policy.value, policy.type === 'ttl-idle' ? limits.idleMs : limits.maxAgeMs);
  }
  const retention: number[] = [];
  if (lifecycle?.terminatedRetention)
    span('spec.lifecycle.terminatedRetention', lifecycle.terminatedRetention, retention);
  if (wrong.length > 0) return refuse(400, wrong.join('; '));
  const terminatedRetentionMs = Math.min(retention[0] ?? RETENTION_MS_DEFAULT, RETENTION_MS_MAX);
  return accept({ expiry: nearest(limits), terminatedRetentionMs });
}

function nearest(limits: { atMs: number[]; maxAgeMs: number[]; idleMs: number[] }): Expiry {
  return {
    ...(limits.atMs.length > 0 ? { atMs: Math.min(...limits.atMs) } : {}),
    ...(limits.maxAgeMs.length > 0 ? { maxAgeMs: Math.min(...limits.maxAgeMs) } : {}),
    ...(limits.idleMs.length > 0 ? { idleMs: Math.min(...limits.idleMs) } : {}),
  };
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, 60));
}
