/**
 * The host reboots while sandboxes run, sleep in RAM and sleep on the disk. What was stored wakes as it was; what was in RAM goes back to its last image,
 * and without one to its files; whatever is lost by that is said. The tier `full` does it three times in a row, `soak` with 30 of them.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { nodeMetric } from '../bench/lib/observe.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { sh } from './inside.ts';
import { expectWhole, startKeeper, tell, type Kept } from './keeper.ts';
import { reportOf, store } from './node-calls.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { reboot } from './reboot.ts';
import { settled } from './settled.ts';
import { freshName, isFull } from './test-stack.ts';

const POOL = 1;
const MEMORY_MIB = 8;
const COUNT = process.env.TORPOR_TEST_TIER === 'soak' ? 30 : 6;
const ROUNDS = isFull ? [1, 2, 3] : [1];
/** How each is when the host goes down. */
const KINDS = ['stored', 'running', 'paused', 'lean', 'running with an image', 'paused with an image'] as const;
type Kind = (typeof KINDS)[number];
/** All that they had in memory goes with the host. */
const WITHOUT_IMAGE: readonly Kind[] = ['running', 'paused', 'lean'];

interface Subject {
  readonly sandbox: Made;
  readonly kind: Kind;
  /** As it told last, of what it must come back with; its files alone otherwise. */
  kept: Kept | undefined;
}

let installation: OwnInstallation;
let stack: Stack;
const subjects: Subject[] = [];

beforeAll(async () => {
  installation = await ownInstallation('reboot', ['--pool', String(POOL), '--disk', '8']);
  stack = await installation.up();
  for (let n = 0; n < COUNT; n++) {
    const kind = KINDS[n % KINDS.length] ?? 'stored';
    const name = freshName(kind.replaceAll(' ', '-'));
    const env = { OWN: name };
    const sandbox = await createOne(stack, name, { idle: { kind: 'never' }, memoryMib: 512, env });
    subjects.push({ sandbox, kind, kept: await startKeeper(stack, sandbox, MEMORY_MIB) });
  }
});

afterAll(() => installation?.purge());

it.for(ROUNDS)('reboot %i loses nothing silently', { timeout: 600_000 }, async (round) => {
  for (const subject of subjects) await makeReady(subject, round);
  await reboot(stack, installation);
  stack = await installation.up();
  for (const { sandbox, kind } of subjects) await expectTold(sandbox, kind);
  for (const subject of subjects) await expectBack(subject, round);
  await expectCounted();
  await settled(stack, POOL);
});

async function makeReady(subject: Subject, round: number): Promise<void> {
  const { sandbox, kind } = subject;
  const file = (what: string) => sh(stack, sandbox, `echo ${what} ${round} > /root/${what}`);
  await file('before');
  switch (kind) {
    case 'stored':
      expect(await store(stack, sandbox.name)).toBe('stored');
      return;
    case 'running':
    case 'paused':
    case 'lean':
      subject.kept = undefined;
      break;
    case 'running with an image':
    case 'paused with an image':
      expect(await store(stack, sandbox.name)).toBe('stored');
      await tell(stack, sandbox);
  }
  await file('after');
  if (kind.startsWith('paused')) await api(stack).pause(sandbox.name);
  if (kind === 'lean') await api(stack).lean(sandbox.name); // paused, on a host without swap
}

/** Before anybody has used it. */
async function expectTold(sandbox: Made, kind: Kind): Promise<void> {
  const { state, tier, reason } = await reportOf(stack, sandbox.name);
  const isWhole = kind === 'stored';
  expect([state, tier], kind).toEqual(['stored', WITHOUT_IMAGE.includes(kind) ? 'files' : 'stored']);
  if (isWhole) expect(reason).toBeUndefined();
  else expect(reason, kind).toMatch(/its process is gone/);
  expect((await api(stack).get(sandbox.name)).phase).toBe('ready');
}

async function expectBack(subject: Subject, round: number): Promise<void> {
  const { sandbox, kind, kept } = subject;
  if (kept) {
    const told = await tell(stack, sandbox);
    expectWhole(kept, told);
    expect(told.added, `${kind}: as it was when it was stored`).toBe(kept.added + 1);
    subject.kept = told;
  }
  const { stdout } = await sh(stack, sandbox, 'cat /root/before /root/after; echo $OWN $(hostname)');
  const { reason } = await reportOf(stack, sandbox.name);
  const who = `${sandbox.name} ${sandbox.name}\n`;
  switch (kind) {
    case 'stored':
      expect(stdout).toBe(`before ${round}\n${who}`);
      expect(reason).toBeUndefined();
      return;
    case 'running':
    case 'paused':
    case 'lean':
      expect(stdout).toBe(`before ${round}\nafter ${round}\n${who}`);
      expect(reason).toMatch(/its memory was lost/);
      return;
    case 'running with an image':
    case 'paused with an image':
      expect(stdout, 'its disk goes with its memory').toBe(`before ${round}\n${who}`);
      expect(reason).toMatch(/what happened after .* was lost/);
  }
}

/** By the node-agent that came up after the reboot. */
async function expectCounted(): Promise<void> {
  const lost = (to: string) => nodeMetric(stack, new RegExp(`^torpor_lost_state_total\\{to="${to}"\\} (\\d+)$`, 'm'));
  const count = (...kinds: readonly Kind[]) => subjects.filter(({ kind }) => kinds.includes(kind)).length;
  expect(await lost('image')).toBe(count('running with an image', 'paused with an image'));
  expect(await lost('files')).toBe(count(...WITHOUT_IMAGE));
}
