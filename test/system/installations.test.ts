/** Two installations on one machine are strangers: the end of one is not noticed by the other, and leaves nothing behind. */
import { execFile } from 'node:child_process';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Stack } from '../bench/lib/stack.ts';
import { Counter } from './counter.ts';
import { mountPoints, namesIn, readHost, runs } from './host-sets.ts';
import { ownInstallation, type OwnInstallation } from './own-installation.ts';
import { settled } from './settled.ts';
import { freshName, isFull } from './test-stack.ts';
import { until } from './until.ts';

const exec = promisify(execFile);
const POOL = 1;
const ARGS = ['--pool', String(POOL), '--disk', '4'];

describe.skipIf(!isFull)('two installations side by side', () => {
  let kept: OwnInstallation;
  let purged: OwnInstallation;
  let keptStack: Stack;
  let purgedStack: Stack;
  let counter: Counter;

  beforeAll(async () => {
    kept = await ownInstallation('kept', ARGS);
    purged = await ownInstallation('purged', ARGS);
    [keptStack, purgedStack] = [await kept.up(), await purged.up()];
    counter = await Counter.start(keptStack, freshName('kept'));
  });

  afterAll(async () => {
    await Promise.all([kept?.purge(), purged?.purge()]);
  });

  it('share no name, port or address', () => {
    for (const each of ['installation', 'scope', 'url', 'stateDir'] as const)
      expect(keptStack[each]).not.toBe(purgedStack[each]);
  });

  it('start a second time while the sandboxes sleep', async () => {
    await purged.down();
    const began = performance.now();
    await purged.up();
    process.stdout.write(
      `second start ready after ${((performance.now() - began) / 1000).toFixed(2)} s, by ./torpor up --detach\n`,
    );
  });

  it('down --purge of one says how many sandboxes it ended, leaves nothing of it, and the other whole', async () => {
    await Counter.start(purgedStack, freshName('purged'));
    await settled(purgedStack, POOL);
    const { pid, services } = await purged.status();
    const processes = [pid, ...services.flatMap((service) => service.pid ?? [])];
    const before = await traces(purgedStack);
    expect(
      Object.entries(before).filter(([, found]) => found.length === 0),
      'the search finds what there is',
    ).toEqual([]);

    expect(await purged.purge()).toContain(`Purged: ${POOL + 1} sandboxes ended`);

    // The kernel takes a namespace down, and buries a process, in its own time.
    let left = '';
    const isNothingLeft = async () => {
      left = JSON.stringify(Object.entries(await traces(purgedStack)).filter(([, found]) => found.length > 0));
      return left === '[]';
    };
    await until('nothing of it is left', 10_000, isNothingLeft, () => left);
    for (const each of processes) expect(await runs(each), `process ${each}`).toBe(false);
    expect(Object.values(await readHost(purgedStack)).flat()).toEqual([]);
    expect(await counter.try('/still-here')).toBeDefined();
  });
});

/** Everything on the host that bears the installation's or its node's name, by kind. */
async function traces({ installation, scope, stateDir }: Stack): Promise<Record<string, readonly string[]>> {
  const ours = (text: string) => text.includes(scope) || text.includes(installation);
  const [links, netns, tables, loops, mounts, processes, cgroups] = await Promise.all([
    namesIn('/sys/class/net'),
    namesIn('/run/netns'),
    exec('nft', ['list', 'tables']).then(({ stdout }) => stdout.split('\n')),
    exec('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE']).then(({ stdout }) => stdout.split('\n')),
    mountPoints(),
    commandLines(),
    exec('find', ['/sys/fs/cgroup', '-maxdepth', '2', '-name', `torpor-${scope}`]).then(({ stdout }) =>
      stdout.split('\n').filter(Boolean),
    ),
  ]);
  return {
    links: links.filter(ours),
    netns: netns.filter(ours),
    tables: tables.filter(ours),
    loops: loops.filter(ours),
    mounts: mounts.filter(ours),
    processes: processes.filter(ours),
    cgroups,
    directories: [stateDir, `/run/torpor/${scope}`, `/run/torpor/up-${installation}`].filter((path) =>
      existsSync(path),
    ),
  };
}

/** Of every process of the machine, with where it is: a sandbox's processes have our run directory among their arguments. */
async function commandLines(): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  const lines = await Promise.all(
    pids.map(async (pid) => {
      const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''); // it has ended since
      const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => '');
      return `${pid} ${line.replaceAll('\0', ' ')} ${cwd}`;
    }),
  );
  return lines.filter((line) => !line.includes('losetup') && !line.includes('find /sys'));
}
