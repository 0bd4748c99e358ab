import { Receipt, type InstanceId, type SignedReceipt } from '@torpor/contracts';
import type { FakeProgram } from '@torpor/runtime';
import { createPublicKey, verify } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { rehearse, stage, startAsk, StillClock, type Rehearsal, type Stage } from '../rehearsal.ts';
import type { Instance } from '../standby/instance.ts';

/** Dies at its first wake, as a program does that meets what it cannot bear. */
const frail: FakeProgram = async ({ memory, process, nowMs, sleep }) => {
  if (memory['began']) process.signal('KILL', nowMs());
  memory['began'] = true;
  for (;;) await sleep(3_600_000);
};
/** Ends at its first wake, as one does whose timer has rung meanwhile. */
const brief: FakeProgram = async ({ memory, sleep }) => {
  if (memory['began']) return 0;
  memory['began'] = true;
  for (;;) await sleep(3_600_000);
};
/** Runs on after a wake, and listens no more. */
const shy: FakeProgram = async ({ args, memory, listen, sleep }) => {
  if (!memory['began']) listen(Number(args[0]), (connection) => connection.end());
  memory['began'] = true;
  for (;;) await sleep(3_600_000);
};

let clock: StillClock;
let set: Stage;
let room: Rehearsal;
let instance: Instance;

beforeEach(async () => {
  clock = new StillClock();
  set = stage(clock, { programs: { frail, brief, shy }, latencyMs: { 'sandbox.restore': [120, 120] } });
  room = rehearse(set);
  await room.standby.start(startAsk());
  instance = room.standby.at(startAsk().instanceId, 1);
});

async function go<T>(work: Promise<T>): Promise<T> {
  const watched = { over: false };
  const over = () => void (watched.over = true);
  work.then(over, over);
  while (!watched.over) await clock.go(10);
  return await work;
}

async function exec(shell: string, more: object = {}): Promise<string> {
  const stay = await go(Promise.resolve(instance.enter('request')));
  try {
    return (await go(stay.guest.json<{ stdout: string }>('POST', '/v1/processes', { shell, ...more }))).stdout;
  } finally {
    stay.leave();
  }
}

async function stored(): Promise<void> {
  await go(instance.store('asked'));
  expect(instance.state).toBe('stored');
}

async function wake(): Promise<void> {
  await go(instance.wake());
  await clock.go(300);
}

const hostId = (): InstanceId => instance.body?.hostId ?? expect.fail('something carries it');
const images = () => [...set.host.images.keys()];
const restores = () => set.host.calls.filter(({ verb }) => verb === 'sandbox.restore').length;

async function receipts(): Promise<Receipt[]> {
  return (await room.parts.receipts.of(hostId())).map(opened);
}

function opened({ signed, signature }: SignedReceipt): Receipt {
  const x = Buffer.from(room.parts.receipts.publicKey, 'base64').toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  expect(verify(null, Buffer.from(signed), key, Buffer.from(signature, 'base64'))).toBe(true);
  return Receipt.parse(JSON.parse(signed));
}

/** Two images: what the second one lacks, the first one has not. */
async function storedTwice(meanwhile: string): Promise<void> {
  await exec('echo first > /root/file', { waitMs: 1_000 });
  await stored();
  await wake();
  await exec(`echo second > /root/file; ${meanwhile}`);
  await stored();
}

describe('a wake from disk', () => {
  it('is signed for, with what was expected, what it took, and what was looked at', async () => {
    await exec('http-server 3000', { name: 'web' });
    await stored();
    await wake();
    await stored();
    await wake();
    const [first, second] = await receipts();
    expect(first).toMatchObject({
      version: 1,
      nodeId: 'n1',
      name: 'box',
      tier: 'stored',
      tookMs: 120,
      verdict: 'whole',
      refused: [],
      checks: [
        { what: 'processes', outcome: 'passed', found: '1 of 1 run' },
        { what: 'listeners', outcome: 'passed', found: '1 of 1 listen' },
        { what: 'generation', outcome: 'passed' },
        { what: 'clock', outcome: 'passed' },
      ],
    });
    expect(first).not.toHaveProperty('predictedMs');
    expect(second).toMatchObject({ predictedMs: 120, verdict: 'whole' });
  });

  it('from RAM needs none', async () => {
    await go(instance.pause());
    await wake();
    expect(await receipts()).toEqual([]);
  });

  it('after which programs end by themselves lost nothing, and says that they did', async () => {
    await exec('brief', { name: 'nap' });
    await stored();
    await wake();
    const [receipt] = await receipts();
    expect(receipt).toMatchObject({ verdict: 'whole', checks: [{ outcome: 'passed' }, {}, {}, {}] });
    expect(receipt?.checks[0]?.found).toBe('0 of 1 run; "nap" ended by itself at the wake (exit code 0)');
    expect(instance.reason).toBeUndefined();
  });

  it('writes the generation again where its file is gone', async () => {
    await exec('echo nonsense > /run/torpor/generation', { waitMs: 1_000 });
    await stored();
    await wake();
    expect((await receipts())[0]).toMatchObject({ verdict: 'whole' });
    expect(await exec('cat /run/torpor/generation', { waitMs: 1_000 })).toBe('1\n');
  });

  it('is checked against what there was before a restart of the node-agent, too', async () => {
    await exec('http-server 3000', { name: 'web' });
    await stored();
    room.die();
    room = rehearse(set);
    await go(room.standby.adopt());
    instance = room.standby.at(startAsk().instanceId, 1);
    await wake();
    expect((await receipts())[0]).toMatchObject({ verdict: 'whole', checks: [{ found: '1 of 1 run' }, {}, {}, {}] });
  });
});

describe('a wake that did not bring back everything', () => {
  /** What stood in the way, and how its receipt says so. */
  const troubles: Record<string, { meanwhile: string; harm: () => void; says: RegExp }> = {
    'a process that was killed': {
      meanwhile: 'frail',
      harm: () => {},
      says: /was killed at the wake \(exit code 137\)/,
    },
    'a process that is gone without a trace': {
      meanwhile: 'count 1000',
      harm: () => {
        const name = images().at(-1) ?? '';
        const image = set.host.images.get(name);
        if (!image?.memory) return expect.fail('there is an image');
        const memory = {
          ...image.memory,
          processes: image.memory.processes.filter(({ exit }) => exit.exitCode !== undefined),
        };
        set.host.images.set(name, { ...image, memory });
      },
      says: /is gone without a trace/,
    },
    'a flipped byte': {
      meanwhile: 'count 1000',
      harm: () => set.host.damage(images().at(-1) ?? ''),
      says: /is not whole/,
    },
  };

  it.each(Object.entries(troubles))(
    'for %s goes back to the image before, before anybody is let in',
    async (what, trouble) => {
      await storedTwice(trouble.meanwhile);
      const [, newest = ''] = images();
      trouble.harm();
      expect(await exec('cat /root/file', { waitMs: 1_000 })).toBe('first\n');
      await clock.go(300);
      const receipt = (await receipts()).at(-1);
      expect(receipt).toMatchObject({ verdict: 'fell back', tier: 'stored', refused: [{ image: newest }] });
      expect(receipt?.refused[0]?.reason).toMatch(trouble.says);
      expect(receipt?.lost).toMatch(/^what happened after .* was lost: its newest image would not do: /);
      expect(instance.report()).toMatchObject({ state: 'running', lost: { to: 'image', reason: receipt?.lost } });
      // What is whole may be worth something to somebody.
      expect(images().includes(newest)).toBe(what !== 'a flipped byte');
    },
  );

  it('and has no image before it goes on as it is, and says what is missing', async () => {
    await exec('frail');
    await exec('echo first > /root/file', { waitMs: 1_000 });
    await stored();
    await wake();
    expect((await receipts()).at(-1)).toMatchObject({
      verdict: 'flawed',
      refused: [],
      lost: expect.stringMatching(/^not all of it came back: processes: .*was killed at the wake/),
    });
    expect(await exec('cat /root/file', { waitMs: 1_000 })).toBe('first\n');
    expect(instance.report()).toMatchObject({ state: 'running', lost: { to: 'flawed' } });
    expect(restores()).toBe(2); // it was tried again
  });

  it('for a listener that is closed says so and goes on: its program may have closed it, and memory and files are the newest', async () => {
    await storedTwice('shy 3000');
    const [, newest] = images();
    const before = restores();
    expect(await exec('cat /root/file', { waitMs: 1_000 })).toBe('second\n');
    await clock.go(300);
    const receipt = (await receipts()).at(-1);
    expect([receipt, restores() - before]).toMatchObject([{ verdict: 'flawed', image: newest, refused: [] }, 1]);
    expect(receipt?.checks.filter(({ outcome }) => outcome === 'failed')).toMatchObject([{ what: 'listeners' }]);
    expect(receipt?.lost).toMatch(/^not all of it came back: listeners: .*3000 any more$/);
    expect(instance.report()).toMatchObject({ state: 'running', lost: { to: 'flawed' } });
  });
});

it('keeps the last receipts of an instance, as long as that is there', async () => {
  const id = hostId();
  const { instanceId, generation, workspace, name } = instance.claim;
  const wake = { tier: 'stored', refused: [], checks: [], loss: undefined } as const;
  for (let tookMs = 1; tookMs <= 40; tookMs++) {
    const who = { instanceId, generation, workspace, name };
    await room.parts.receipts.write(id, { ...who, ...wake, refused: [], checks: [], wokeAtMs: 1, tookMs });
  }
  const kept = (await receipts()).map(({ tookMs }) => tookMs);
  expect([kept.length, kept[0], kept.at(-1)]).toEqual([32, 9, 40]);
  await go(room.standby.stop(startAsk().instanceId, startAsk().generation, 'asked'));
  await clock.go(1_000);
  expect(await room.parts.receipts.of(id)).toEqual([]);
});
