/**
 * The host reboots while sandboxes run, sleep in RAM and sleep on the disk, each with a volume. What was stored wakes as it was; what was in RAM goes back to
 * its last image, and without one to its files; whatever is lost by that is said. The tier `full` does it with 30 of them, `soak` three times in a row.
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
import { freshName, isFull, isSoak } from './test-stack.ts';

const POOL = 1;
const MEMORY_MIB = 8;
/** How each is when the host goes down. */
const KINDS = [
  'stored',
  'running',
  'paused',
  'lean',
  'running with an image',
  'paused with an image',
  'lean with an image',
] as const;
type Kind = (typeof KINDS)[number];
/** All that they had in memory goes with the host. */
const WITHOUT_IMAGE: readonly Kind[] = ['running', 'paused', 'lean'];
/** What they did since goes with it. */
const WITH_OLDER_IMAGE: readonly Kind[] = ['running with an image', 'paused with an image', 'lean with an image'];
const COUNT = isFull ? 30 : KINDS.length;
const ROUNDS = isSoak ? [1, 2, 3] : [1];
/** Made, put to sleep and looked at side by side. */
const LANES = 4;
const VOLUME_MIB = 16;

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
  const kinds = Array.from({ length: COUNT }, (_, n) => KINDS[n % KINDS.length] ?? 'stored');
  await sideBySide(kinds, async (kind) => void subjects.push(await made(kind)));
}, 600_000);

afterAll(() => installation?.purge());

it.for(ROUNDS)('reboot %i loses nothing silently', { timeout: 600_000 }, async (round) => {
  await sideBySide(subjects, (subject) => makeReady(subject, round));
  await reboot(stack, installation);
  stack = await installation.up();
  for (const { sandbox, kind } of subjects) await expectTold(sandbox, kind);
  await sideBySide(subjects, (subject) => expectBack(subject, round));
  await expectCounted();
  await settled(stack, POOL);
});

async function sideBySide<T>(all: readonly T[], act: (one: T) => Promise<void>): Promise<void> {
  const queue = [...all];
  const lane = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await act(next);
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

async function made(kind: Kind): Promise<Subject> {
  const name = freshName(kind.replaceAll(' ', '-'));
  await api(stack).volumes.create(name, { sizeMib: VOLUME_MIB });
  const volumes = [{ name, path: '/data' }];
  const how = { idle: { kind: 'never' }, memoryMib: 512, env: { OWN: name }, volumes };
  const sandbox = await createOne(stack, name, how);
  return { sandbox, kind, kept: await startKeeper(stack, sandbox, MEMORY_MIB) };
}

async function makeReady(subject: Subject, round: number): Promise<void> {
  const { sandbox, kind } = subject;
  const file = (what: string) => sh(stack, sandbox, `echo ${what} ${round} | tee /root/${what} > /data/${what}`);
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
    case 'lean with an image':
      expect(await store(stack, sandbox.name)).toBe('stored');
      await tell(stack, sandbox);
  }
  await file('after');
  if (kind.startsWith('paused')) await api(stack).pause(sandbox.name);
  if (kind.startsWith('lean')) await api(stack).lean(sandbox.name); // paused, on a host without swap
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
  const { stdout } = await sh(
    stack,
    sandbox,
    'for d in /root /data; do cat $d/before $d/after; done; echo $OWN $(hostname)',
  );
  const { reason } = await reportOf(stack, sandbox.name);
  const has = (files: string) => expect(stdout, kind).toBe(`${files}${files}${sandbox.name} ${sandbox.name}\n`);
  if (WITHOUT_IMAGE.includes(kind)) {
    has(`before ${round}\nafter ${round}\n`);
    expect(reason).toMatch(/its memory was lost/);
  } else {
    has(`before ${round}\n`); // the disk and the volume go with the memory
    if (kind === 'stored') expect(reason).toBeUndefined();
    else expect(reason).toMatch(/what happened after .* was lost/);
  }
}

/** By the node-agent that came up after the reboot. */
async function expectCounted(): Promise<void> {
  const lost = (to: string) => nodeMetric(stack, new RegExp(`^torpor_lost_state_total\\{to="${to}"\\} (\\d+)$`, 'm'));
  const count = (...kinds: readonly Kind[]) => subjects.filter(({ kind }) => kinds.includes(kind)).length;
  expect(await lost('image')).toBe(count(...WITH_OLDER_IMAGE));
  expect(await lost('files')).toBe(count(...WITHOUT_IMAGE));
}
