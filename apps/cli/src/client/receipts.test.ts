import type { Receipt, SignedReceipt } from '@torpor/contracts';
import { Generation, InstanceId, NodeId, SandboxName, WorkspaceName } from '@torpor/contracts';
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { expect, it } from 'vitest';
import { inWords, isGood, isSignedBy, opened, readReceipts } from './receipts.ts';

const T = Date.UTC(2026, 0, 2, 3, 4, 5);

const whole: Receipt = {
  version: 1,
  nodeId: NodeId.parse('local'),
  workspace: WorkspaceName.parse('main'),
  name: SandboxName.parse('web'),
  instanceId: InstanceId.parse('i123456789abcdef'),
  generation: Generation.parse(1),
  wokeAtMs: T,
  tier: 'stored',
  predictedMs: 150,
  tookMs: 142.3,
  image: 'h1-2',
  imageAtMs: T - 60_000,
  verdict: 'whole',
  refused: [],
  checks: [{ what: 'processes', outcome: 'passed', found: '2 of 2 run' }],
};

function signedBy(key: KeyObject, receipt: Receipt): SignedReceipt {
  const signed = JSON.stringify(receipt);
  return { signed, signature: sign(null, Buffer.from(signed), key).toString('base64'), key: publicOf(key) };
}

function publicOf(key: KeyObject): string {
  return Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url').toString('base64');
}

const ours = generateKeyPairSync('ed25519').privateKey;
const theirs = generateKeyPairSync('ed25519').privateKey;

it('is signed by the node that holds the key, and by nobody who only says so', () => {
  const signed = signedBy(ours, whole);
  expect(isSignedBy(signed, publicOf(ours))).toBe(true);
  expect(isSignedBy(signedBy(theirs, whole), publicOf(ours))).toBe(false);
  const better = { ...signed, signed: signed.signed.replace('142.3', '14.23') };
  expect(isSignedBy(better, publicOf(ours))).toBe(false);
});

it('is read from a file of one or of several', () => {
  const signed = signedBy(ours, whole);
  expect(readReceipts(JSON.stringify(signed))).toEqual([signed]);
  expect(readReceipts(JSON.stringify([signed, signed])).map(opened)).toEqual([whole, whole]);
  expect(() => readReceipts('{"a":1}')).toThrow(/the file is not what was expected/);
});

it('tells a person what came back and what did not', () => {
  expect(inWords(whole, T + 5_000)).toBe(
    'web woke at 2026-01-02T03:04:05.000Z (5s ago) from an image of 2026-01-02T03:03:05.000Z in 142 ms (150 ms expected): whole\n' +
      '  processes   passed: 2 of 2 run',
  );
  const refused = [{ image: 'h1-3', reason: 'damaged' }];
  const lost: Receipt = { ...whole, verdict: 'fell back', lost: 'an hour', refused };
  expect(inWords(lost, T)).toMatch(/lost +an hour\n +refused +h1-3: damaged\n/);
  expect([isGood(whole), isGood(lost)]).toEqual([true, false]);
});
