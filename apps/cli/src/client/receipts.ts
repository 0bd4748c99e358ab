/** Receipts (DESIGN §4.8), read and judged: whose they are, and what they say. */
import { Receipt, SignedReceipt } from '@torpor/contracts';
import { createPublicKey, verify } from 'node:crypto';
import { z } from 'zod';
import { parsed } from './parsed.ts';
import { ago } from './table.ts';
import { ms } from './tiers.ts';

/** Of commands that meet a wake which did not bring back everything; 1 is for those that fail. */
export const LOST_EXIT_CODE = 3;

/** A file holds one receipt or, as `receipt list --json` prints them, several. */
export function readReceipts(text: string): SignedReceipt[] {
  const value: unknown = JSON.parse(text);
  return Array.isArray(value)
    ? parsed(z.array(SignedReceipt), value, 'the file')
    : [parsed(SignedReceipt, value, 'the file')];
}

export function opened({ signed }: SignedReceipt): Receipt {
  return parsed(Receipt, JSON.parse(signed), 'the receipt');
}

/** Whether the holder of this key signed exactly this. The key that comes along with a receipt proves nothing. */
export function isSignedBy({ signed, signature }: SignedReceipt, key: string): boolean {
  const x = Buffer.from(key, 'base64').toString('base64url');
  const by = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, Buffer.from(signed), by, Buffer.from(signature, 'base64'));
}

/** Nothing is known to be lost. */
export function isGood({ verdict }: Receipt): boolean {
  return verdict === 'whole' || verdict === 'unchecked';
}

export function inWords(receipt: Receipt, nowMs: number): string {
  const { name, tier, tookMs, predictedMs, verdict, wokeAtMs, imageAtMs, lost, refused, checks } = receipt;
  const expected = predictedMs === undefined ? 'none measured before' : `${ms(predictedMs)} expected`;
  const from = tier === 'files' ? 'its files alone' : `an image of ${imageAtMs === undefined ? '?' : iso(imageAtMs)}`;
  return [
    `${name} woke at ${iso(wokeAtMs)} (${ago(wokeAtMs, nowMs)} ago) from ${from} in ${ms(tookMs)} (${expected}): ${verdict}`,
    ...(lost === undefined ? [] : [`  lost        ${lost}`]),
    ...refused.map(({ image, reason }) => `  refused     ${image}: ${reason}`),
    ...checks.map(({ what, outcome, found }) => `  ${what.padEnd(12)}${outcome}: ${found}`),
  ].join('\n');
}

function iso(atMs: number): string {
  return new Date(atMs).toISOString();
}
