/**
 * Sleep on the disk (DESIGN §4.4–§4.8) on the true host: nothing of a stored sandbox runs, and a request brings back all of it. Whatever dies or is full
 * meanwhile, it goes on in RAM, or from its newest image that is whole, and says what was lost.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import { cgroupFile, cpuUsageNs, isFrozen } from '../bench/lib/host.ts';
import { nodeMetric } from '../bench/lib/observe.ts';
import { createOne, type Made } from '../bench/lib/sandboxes.ts';
import { client, loadBlaxel, timed, type Stack } from '../bench/lib/stack.ts';
import { askHostd, isProcess, namesIn, readJournal } from './host-sets.ts';
import { sh } from './inside.ts';
import { commandOf, expectWhole, KEEPER, startKeeper, tell, tellPatiently, type Kept } from './keeper.ts';
import { reportOf, store } from './node-calls.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { naming } from './processes.ts';
import { isBeingRestored, isBeingSaved, scribes, standingStill } from './scribes.ts';
import { settled } from './settled.ts';
import { freshName, isFull } from './test-stack.ts';
import { until } from './until.ts';

const exec = promisify(execFile);
const POOL = 1;
const MEMORY_MIB = 32;
const RESUMES = isFull ? 10 : 3;
const PATIENCE_MS = 60_000;
const isSoak = process.env.TORPOR_TEST_TIER === 'soak';

let installation: OwnInstallation;
let stack: Stack;
const made: string[] = [];

beforeAll(async () => {
  installation = await ownInstallation('stored', ['--pool', String(POOL), '--disk', '4']);
  stack = await installation.up();
});

afterAll(() => installation?.purge());

afterEach(async () => {
  await allHealthy();
  for (const name of made.splice(0)) await api(stack).delete(name);
});

async function keeper(label: string): Promise<{ sandbox: Made; before: Kept }> {
  const sandbox = await createOne(stack, freshName(label), { idle: { kind: 'never' }, memoryMib: 512 });
  made.push(sandbox.name);
  return { sandbox, before: await startKeeper(stack, sandbox, MEMORY_MIB) };
}

/** Nothing of it is in the host's memory. */
async function expectNothingRuns({ hostId }: Pick<Made, 'hostId'>): Promise<void> {
  expect(existsSync(cgroupFile(stack.scope, hostId, 'memory', ''))).toBe(false);
  expect(await naming(hostId)).toEqual([]);
}

async function stored(sandbox: Made): Promise<void> {
  expect(await store(stack, sandbox.name)).toBe('stored');
  await expectNothingRuns(sandbox);
}

describe('a sandbox of the Blaxel SDK', () => {
  it(`comes back from the disk with all that it had, ${RESUMES} times`, async () => {
    const blaxel = await loadBlaxel(stack);
    const name = freshName('sdk');
    made.push(name);
    const sandbox = await blaxel.SandboxInstance.create({ name, image: 'blaxel/base-image:latest', memory: 1024 });
    await sandbox.fs.write('/blaxel/keeper.py', KEEPER);
    await sandbox.process.exec({ name: 'keeper', command: commandOf(MEMORY_MIB), waitForPorts: [3000] });
    const told = async () => (await (await sandbox.fetch(3000, '/')).json()) as Kept; // our own program's answer
    const { hostId = '' } = await api(stack).get(name);
    let before = await told();
    for (let resume = 1; resume <= RESUMES; resume++) {
      await sandbox.fs.write(`/root/before-${resume}`, `written before resume ${resume}`);
      expect(await store(stack, name)).toBe('stored');
      await expectNothingRuns({ hostId });
      expect(await reportOf(stack, name)).toMatchObject({ state: 'stored', tier: 'stored' });
      const after = await told();
      expectWhole(before, after);
      expect(after.added).toBe(before.added + 1);
      before = after;
      expect(await sandbox.fs.read(`/root/before-${resume}`)).toBe(`written before resume ${resume}`);
      expect((await sandbox.process.get('keeper')).status).toBe('running');
      expect((await reportOf(stack, name)).reason).toBeUndefined();
    }
  });
});

it('says in Server-Timing that it was stored, and is woken once by many', async () => {
  const { sandbox, before } = await keeper('many');
  await stored(sandbox);
  const via = client(stack.url, 50);
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => timed(via, `${sandbox.url}/port/3000/`, { headers: { ...stack.headers } })),
  );
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  for (const { headers } of answers) expect(headers['server-timing']).toMatch(/^wake;desc="(stored|restoring)";dur=\d/);
  const after = await tell(stack, sandbox);
  expectWhole(before, after);
  expect(after.added).toBe(before.added + 51);
});

it('a request that meets a store waits for the save alone, and nothing is let go', async () => {
  const { sandbox, before } = await keeper('queued');
  await api(stack).pause(sandbox.name);
  const old = (await readJournal(stack)).find(({ id }) => id === sandbox.hostId)?.process;
  const telling = await standingStill(stack, async () => {
    const storing = store(stack, sandbox.name);
    await isBeingSaved(stack, sandbox.hostId);
    const asked = tell(stack, sandbox);
    await until('the wake is queued', PATIENCE_MS, async () => {
      const { state, queuedWake } = await reportOf(stack, sandbox.name);
      return state === 'storing' && queuedWake === true;
    });
    return { asked, storing };
  });
  expectWhole(before, await telling.asked);
  expect(await telling.storing).toMatch(/^(waking|running)$/);
  expect(await isProcess(old)).toBe(true);
});

describe('an image of which a byte was flipped', () => {
  it('gives way to the one before it, and says what was lost', async () => {
    const { sandbox, before } = await keeper('flipped');
    const lost = await lostStates('image');
    await stored(sandbox);
    await tell(stack, sandbox);
    await sh(stack, sandbox, 'echo later > /root/later');
    await stored(sandbox);
    await flipByte(await newestImage(sandbox));
    const after = await tell(stack, sandbox);
    expectWhole(before, after);
    expect(after.added, 'as it was at the first store').toBe(before.added + 1);
    expect((await sh(stack, sandbox, 'cat /root/later')).exitCode, 'its disk too').not.toBe(0);
    expect((await reportOf(stack, sandbox.name)).reason).toMatch(/what happened after .* was lost/);
    expect(await lostStates('image')).toBe(lost + 1);
    await expectLogged('instance came back without its last state', sandbox);
    expect(await namesIn(join(stack.stateDir, 'pool/s')), 'the disk that was replaced').toContainEqual(
      expect.stringMatching(`^${sandbox.hostId}-disk-`),
    );
  });

  it('and has none before it gives way to the files, and says that memory was lost', async () => {
    const { sandbox } = await keeper('alone');
    const lost = await lostStates('files');
    await sh(stack, sandbox, 'echo kept > /root/kept');
    await stored(sandbox);
    await flipByte(await newestImage(sandbox));
    expect((await sh(stack, sandbox, 'cat /root/kept')).stdout).toBe('kept\n');
    expect((await reportOf(stack, sandbox.name)).reason).toMatch(/its memory was lost/);
    expect(await lostStates('files')).toBe(lost + 1);
    await expectLogged('instance came back without its last state', sandbox);
  });
});

describe('a store that finds no space', () => {
  const filler = () => join(stack.stateDir, 'pool/filler');
  const images = () => join(stack.stateDir, 'pool/m');

  it('is refused early, and the sandbox sleeps on in RAM', async () => {
    const { sandbox, before } = await keeper('full');
    const { pool } = await askHostd<{ pool: { freeMib: number; reserveMib: number } }>(stack.scope, 'node.usage');
    await exec('fallocate', ['--length', `${pool.freeMib - pool.reserveMib - 16}M`, filler()]);
    try {
      expect(await store(stack, sandbox.name)).toBe('paused');
      await expectAsleepInRam(sandbox, /free above the reserve/);
    } finally {
      await rm(filler());
    }
    expectWhole(before, await tell(stack, sandbox));
    const probe = freshName('probe');
    // The scheduler hears of it with the next heartbeat.
    await until('there is room again', PATIENCE_MS, () =>
      api(stack)
        .create({ name: probe })
        .then(
          () => true,
          () => false,
        ),
    );
    made.push(probe);
  });

  it('in its middle leaves the sandbox asleep in RAM as well, and is made good by the next', async () => {
    const { sandbox, before } = await keeper('quota');
    await stored(sandbox); // so that there is something to limit
    const first = await tell(stack, sandbox);
    expectWhole(before, first);
    await limitImages('1M');
    try {
      expect(await store(stack, sandbox.name)).toBe('paused');
      await expectAsleepInRam(sandbox, /quota|space/i);
      expect(await namesIn(images()), 'half an image').toHaveLength(1);
    } finally {
      await limitImages('none');
    }
    const second = await tell(stack, sandbox);
    expectWhole(first, second);
    await stored(sandbox);
    expectWhole(second, await tell(stack, sandbox));
  });

  /** By number at the pool's own root: what is over its limit cannot be asked for itself. */
  async function limitImages(to: string): Promise<void> {
    const { stdout } = await exec('btrfs', ['inspect-internal', 'rootid', images()]);
    await exec('btrfs', ['qgroup', 'limit', to, `0/${stdout.trim()}`, join(stack.stateDir, 'pool')]);
  }

  async function expectAsleepInRam(sandbox: Made, why: RegExp): Promise<void> {
    expect(await reportOf(stack, sandbox.name)).toMatchObject({
      state: 'paused',
      tier: 'paused',
      reason: expect.stringMatching(why),
    });
    expect(await isFrozen(stack.scope, sandbox.hostId)).toBe(true);
    await expectLogged('instance not stored', sandbox);
  }
});

describe('SIGKILL in the middle of a store', () => {
  async function amidStore(label: string, kill: (sandbox: Made) => Promise<void>) {
    const { sandbox, before } = await keeper(label);
    await api(stack).pause(sandbox.name);
    const storing = await standingStill(stack, async () => {
      const outcome = store(stack, sandbox.name).catch(() => 'unanswered');
      await isBeingSaved(stack, sandbox.hostId);
      await kill(sandbox);
      return { outcome };
    });
    await storing.outcome;
    await allHealthy();
    return { sandbox, before };
  }

  it.for(['hostd', 'node-agent'])('of %s leaves it asleep in RAM, frozen, and it can be stored', async (name) => {
    const { sandbox, before } = await amidStore('amid', () => killService(name));
    await until('it is frozen again', PATIENCE_MS, () => isFrozen(stack.scope, sandbox.hostId));
    const used = await cpuUsageNs(stack.scope, sandbox.hostId);
    await stored(sandbox);
    expect(used).toBeGreaterThan(0);
    expectWhole(before, await tellPatiently(stack, sandbox));
  });

  it('of a scribe leaves it asleep in RAM, frozen, and it can be stored', async () => {
    const { sandbox, before } = await amidStore('scribe', async () => {
      for (const pid of await scribes(stack)) process.kill(pid, 'SIGKILL');
    });
    expect(await isFrozen(stack.scope, sandbox.hostId)).toBe(true);
    await stored(sandbox);
    expectWhole(before, await tell(stack, sandbox));
  });

  it('of gVisor leaves its files, and says so', async () => {
    const { sandbox } = await amidStore('sentry', killSentry);
    expect(await reportOf(stack, sandbox.name)).toMatchObject({
      state: 'stored',
      tier: 'files',
      reason: expect.stringMatching(/files/),
    });
    expect((await sh(stack, sandbox, 'wc -c < /root/held')).stdout.trim()).toBe('4096');
    expect((await reportOf(stack, sandbox.name)).reason).toMatch(/its memory was lost/);
  });

  it('of gVisor leaves the image that it had, and says so', async () => {
    const { sandbox, before } = await keeper('again');
    await stored(sandbox);
    await tell(stack, sandbox);
    await api(stack).pause(sandbox.name);
    const { outcome } = await standingStill(stack, async () => {
      const storing = store(stack, sandbox.name);
      await isBeingSaved(stack, sandbox.hostId);
      await killSentry(sandbox);
      return { outcome: storing };
    });
    expect(await outcome).toBe('stored');
    expect(await reportOf(stack, sandbox.name)).toMatchObject({
      tier: 'stored',
      reason: expect.stringMatching(/image/),
    });
    const after = await tell(stack, sandbox);
    expectWhole(before, after);
    expect(after.added).toBe(before.added + 1);
    expect((await reportOf(stack, sandbox.name)).reason).toMatch(/what happened after .* was lost/);
  });
});

describe.runIf(isFull)('SIGKILL in the middle of a restore', () => {
  it.for(['hostd', 'node-agent', 'gVisor'])('of %s loses nothing', async (name) => {
    const { sandbox, before } = await keeper('restored');
    await stored(sandbox);
    const { telling } = await standingStill(stack, async () => {
      const asked = tellPatiently(stack, sandbox);
      asked.catch(() => {}); // it is looked at below
      await isBeingRestored(stack, sandbox.hostId);
      await (name === 'gVisor' ? killSentry(sandbox) : killService(name));
      return { telling: asked };
    });
    expectWhole(before, await telling);
    expect((await reportOf(stack, sandbox.name)).reason).toBeUndefined();
  });
});

const edges = (name: string) => [`${name}:before`, `${name}:after`];
const fsync = (name: string) => [`${name}:before-fsync`, `${name}:after-fsync`];
const ofJournal = (operation: string, steps: readonly string[]) => [
  ...fsync(`journal:${operation}`),
  ...steps.flatMap((step) => edges(`journal:${operation}:step:${step}`)),
  ...fsync(`journal:${operation}:done`),
];
const STORE_STEPS = ['image.save', 'disk.snapshot', 'image.seal', 'image.verify'];
const RESTORE_STEPS = ['sandbox.delete', 'net.create', 'sandbox.create', 'sandbox.restore', 'guest.health'];

const points = isSoak
  ? {
      store: [
        ...ofJournal('store', STORE_STEPS),
        ...ofJournal('release', ['sandbox.delete']),
        ...STORE_STEPS.flatMap(edges),
        ...edges('sandbox.delete'),
      ],
      wake: [
        ...ofJournal('restore', RESTORE_STEPS),
        ...['net.create', 'sandbox.create', 'sandbox.restore'].flatMap(edges),
      ],
    }
  : {
      store: ['journal:store:done:before-fsync', 'journal:release:after-fsync', 'disk.snapshot:after'],
      wake: ['journal:restore:step:sandbox.restore:after', 'sandbox.restore:after'],
    };

describe.runIf(isFull)('a death', () => {
  it.for(points.store)('at %s while it is stored loses nothing', async (point) => {
    const { sandbox, before } = await keeper('dies');
    await settled(stack, POOL);
    await diesAt(point, () => store(stack, sandbox.name));
    expectWhole(before, await tellPatiently(stack, sandbox));
    await expectFoundAgain(sandbox);
  });

  it.for(points.wake)('at %s while it wakes loses nothing', async (point) => {
    const { sandbox, before } = await keeper('dies');
    await settled(stack, POOL);
    await stored(sandbox);
    const { acted } = await diesAt(point, () => tellPatiently(stack, sandbox));
    expectWhole(before, await acted);
    await expectFoundAgain(sandbox);
  });

  async function expectFoundAgain({ name }: Made): Promise<void> {
    expect((await reportOf(stack, name)).reason).toBeUndefined();
    await settled(stack, POOL);
  }

  /** Until whoever died is back. */
  async function diesAt<T>(point: string, act: () => Promise<T>): Promise<{ acted: Promise<T> }> {
    const armed = join(installation.failpointsDir, point);
    await writeFile(armed, '', { mode: 0o666 });
    const acted = act();
    acted.catch(() => {}); // who asked may not be answered
    try {
      await until(`somebody comes by ${point}`, PATIENCE_MS, async () => !existsSync(armed));
    } finally {
      await rm(armed, { force: true });
    }
    await acted.catch(() => {});
    await allHealthy();
    return { acted };
  }
});

describe('a node that is told to store soon', () => {
  it('does so by itself, and leaves nothing of what is deleted', async () => {
    const config = join(stack.stateDir, 'config/node-agent.json');
    const before = JSON.parse(await readFile(config, 'utf8')) as object; // written by `up`
    await writeFile(config, JSON.stringify({ ...before, storeAfterMs: 500 }));
    await killService('node-agent');
    await allHealthy();
    const { sandbox, before: kept } = await keeper('soon');
    await api(stack).pause(sandbox.name);
    await until('it is stored', PATIENCE_MS, async () => (await reportOf(stack, sandbox.name)).state === 'stored');
    await expectNothingRuns(sandbox);
    expectWhole(kept, await tell(stack, sandbox));
    for (const name of made.splice(0)) await api(stack).delete(name);
    await until('no image and no snapshot is left', PATIENCE_MS, async () => (await keptOnDisk()).length === 0);
  });
});

async function keptOnDisk(): Promise<string[]> {
  const found = await Promise.all(['m', 's'].map((kind) => namesIn(join(stack.stateDir, 'pool', kind))));
  return found.flat();
}

async function newestImage({ hostId }: Made): Promise<string> {
  const numbers = (await readdir(join(stack.stateDir, 'pool/m'))).flatMap((name) => {
    const [owner, number] = name.split('-');
    return owner === hostId ? [Number(number)] : [];
  });
  return join(stack.stateDir, 'pool/m', `${hostId}-${Math.max(...numbers)}`);
}

async function flipByte(image: string): Promise<void> {
  const file = await open(join(image, 'pages.img'), 'r+');
  try {
    const middle = Math.floor((await file.stat()).size / 2);
    const { buffer } = await file.read(Buffer.alloc(1), 0, 1, middle);
    await file.write(Buffer.from([(buffer[0] ?? 0) ^ 1]), 0, 1, middle);
  } finally {
    await file.close();
  }
}

function lostStates(to: 'image' | 'files'): Promise<number> {
  return nodeMetric(stack, new RegExp(`^torpor_lost_state_total\\{to="${to}"\\} (\\d+)$`, 'm'));
}

/** The supervisor writes down what a room says a moment later. */
function expectLogged(what: string, { name }: Made): Promise<number> {
  return until(`the log says "${what}" of ${name}`, PATIENCE_MS, async () => {
    const lines = (await readFile(join(stack.stateDir, 'torpor.log'), 'utf8')).split('\n');
    return lines.some((line) => line.includes(what) && line.includes(name));
  });
}

/** All of it: what gVisor is made of on the host. */
async function killSentry({ hostId }: Made): Promise<void> {
  for (const { pid } of await naming(hostId)) process.kill(pid, 'SIGKILL');
}

async function killService(name: string): Promise<void> {
  const { restarts, pid } = await service(name);
  process.kill(pid ?? Number.NaN, 'SIGKILL');
  await until(`${name} is started again`, PATIENCE_MS, async () => (await service(name)).restarts > restarts);
}

async function service(name: string) {
  const found = (await installation.status()).services.find((each) => each.name === name);
  if (!found) throw new Error(`no service is called ${name}`);
  return found;
}

async function allHealthy(): Promise<void> {
  await until('all are healthy', PATIENCE_MS, async () =>
    (await installation.status()).services.every(({ healthy, pid }) => healthy && pid !== undefined),
  );
}
