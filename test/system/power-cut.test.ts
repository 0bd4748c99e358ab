/**
 * The power of the host is cut. Everything that an installation keeps (pool, images, journal, database, keys) lies on one disk of our own, which then loses
 * any part of what was written since its last flush. After the reboot every sandbox is what its last whole image holds, or has the files that it had
 * synced; what was answered as made is there, what was answered as deleted is not; and database, journal and host agree.
 */
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { chmod, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { api } from '../bench/lib/api.ts';
import type { Stack } from '../bench/lib/stack.ts';
import { buildFaultFs, type Built, type FaultFs } from './faultfs.ts';
import { readJournal } from './host-sets.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { reboot } from './reboot.ts';
import { settled } from './settled.ts';
import { chanceOf } from './soak/chance.ts';
import { Sleeper } from './soak/sleeper.ts';
import { isFull } from './test-stack.ts';
import { until } from './until.ts';

const exec = promisify(execFile);
const POOL = 1;
const DISK_GIB = 8;
const PATIENCE_MS = 60_000;
const ROUNDS = process.env.TORPOR_TEST_TIER === 'soak' ? 12 : 2;
const SEED = Number(process.env.TORPOR_CUT_SEED ?? randomInt(2 ** 31));
/** At some moment in which the power goes, while stores are under way. */
const CUT_WITHIN_MS = 1_200;

describe.runIf(isFull)(`a cut of the power (TORPOR_CUT_SEED=${SEED})`, () => {
  const chance = chanceOf(`cut ${SEED}`);
  let built: Built;
  let dir: string;
  let disk: { faulty: FaultFs; loop: string };
  let installation: OwnInstallation;
  let stack: Stack;
  let serial = 0;
  let hasPower = true;

  beforeAll(async () => {
    built = await buildFaultFs();
    dir = await mkdtemp('/var/tmp/torpor-power-');
    await chmod(dir, 0o755); // rooms run as another user
    await Promise.all(['fuse', 'state'].map((name) => mkdir(join(dir, name))));
    await writeFile(join(dir, 'file'), '');
    await truncate(join(dir, 'file'), DISK_GIB * 2 ** 30);
    await plugIn({ isNew: true });
    installation = await ownInstallation('power', ['--pool', String(POOL), '--disk', '3'], {
      TORPOR_STATE: join(dir, 'state'),
    });
    stack = await installation.up();
  });

  afterAll(async () => {
    await installation?.purge();
    await unplug();
    await rm(dir, { recursive: true });
    await built?.remove();
  });

  async function plugIn({ isNew }: { isNew: boolean }): Promise<void> {
    const faulty = await built.mount('disk', join(dir, 'file'), join(dir, 'fuse'));
    const { stdout } = await exec('losetup', ['--find', '--show', join(dir, 'fuse/disk')]);
    disk = { faulty, loop: stdout.trim() };
    if (isNew) await exec('mkfs.ext4', ['-q', '-E', 'nodiscard', disk.loop]);
    await exec('mount', [disk.loop, join(dir, 'state')]);
  }

  async function unplug(): Promise<void> {
    await exec('umount', [join(dir, 'state')]);
    await exec('losetup', ['--detach', disk.loop]);
    // The kernel lets go of it when the last who looks at it has gone.
    await until(
      'the disk has no device',
      PATIENCE_MS,
      async () => (await exec('losetup', ['--list'])).stdout.includes(dir) === false,
    );
    await disk.faulty.close();
  }

  async function cutPower(): Promise<void> {
    hasPower = false; // until all has been ended it still runs, and answers: to nobody
    await disk.faulty.order(`cut ${chance.below(2 ** 31)}`);
    await reboot(stack, installation);
    await unplug();
    await plugIn({ isNew: false });
    stack = await installation.up();
    hasPower = true;
  }

  async function made(): Promise<Sleeper> {
    const one = await Sleeper.create(stack, `power-${serial++}`);
    for (let n = 0; n < 6; n++) {
      const word = `${one.name}/${n}`;
      await one.do({
        kind: 'write',
        place: n < 3 ? 'disk' : 'volume',
        name: `file-${n}`,
        word,
        bytes: chance.below(1 << 20),
        sync: n % 2 === 0,
      });
      await one.do({ kind: 'remember', block: n, word });
    }
    return one;
  }

  /** Stored, used again, and what of that is to be lost. */
  async function usedSince(one: Sleeper): Promise<void> {
    await one.do({ kind: 'remember', block: 99, word: `since ${one.name}` });
    await one.do({ kind: 'write', place: 'disk', name: 'since', word: 'since', bytes: 4096, sync: true });
  }

  it.for(Array.from({ length: ROUNDS }, (_, n) => n + 1))(
    'loses nothing that it may not, time %i',
    { timeout: 600_000 },
    async () => {
      const asleep = await made();
      expect(await asleep.store()).toBe(true);
      const awake = await made();
      expect(await awake.store()).toBe(true);
      await usedSince(awake);
      const restored = await made();
      expect(await restored.store()).toBe(true);
      await usedSince(restored);
      const first = await made();
      const never = await made();
      const gone = await made();
      await gone.remove();
      const storing = [restored, first].map((one) => one.store(() => hasPower));
      await wait(chance.next() * CUT_WITHIN_MS);
      await cutPower();
      await Promise.all(storing);
      expect(await asleep.checkAfterReboot()).toBe('image');
      expect(await awake.checkAfterReboot()).toBe('image');
      expect(await restored.checkAfterReboot()).toBe('image');
      await first.checkAfterReboot();
      expect(await never.checkAfterReboot()).toBe('files');
      expect((await api(stack).get(gone.name)).phase).toBe('terminated');
      const all = [asleep, awake, restored, first, never];
      const names = (await readJournal(stack)).flatMap(({ name }) => name ?? []);
      expect(names.toSorted(), 'the journal has what the database has').toEqual(all.map(({ name }) => name).toSorted());
      for (const { name } of all) expect((await api(stack).get(name)).phase).toBe('ready');
      for (const one of all) await one.remove();
      await settled(stack, POOL);
    },
  );
});
