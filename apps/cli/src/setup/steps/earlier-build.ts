import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Step } from '../step.ts';
import { gvisorSourceOf, hostdProgram, runsc, type Built } from './binaries.ts';
import { pins } from './pins.ts';

/**
 * runsc and hostd made with an earlier version of gVisor, for tests of an upgrade: they stand for what a host had before it, and lie in the cache beside
 * today's, as those of an earlier checkout do. Today's hostd is built with the earlier module; `earlier.patch` brings the one function that it calls
 * past gVisor's own interface to the form that it has by now, and changes nothing of the sentry.
 */
export async function earlierBuild(
  cacheDir: string,
  repoDir: string,
): Promise<{ readonly steps: readonly Step[]; readonly runsc: string; readonly hostd: string }> {
  const source = await earlierSource(cacheDir, repoDir);
  const gvisor = named(runsc(cacheDir, repoDir, source), 'runsc-earlier', 'runsc');
  const hostd = named(await hostdProgram(cacheDir, repoDir, source), 'hostd-earlier', 'runsc-earlier');
  return { steps: [source.step, gvisor.step, hostd.step], runsc: gvisor.path, hostd: hostd.path };
}

async function earlierSource(cacheDir: string, repoDir: string): Promise<Built> {
  const hostd = join(repoDir, 'packages', 'hostd');
  const [module = '', version = ''] = pins.gvisor.split('@');
  const [, earlier = ''] = pins.gvisorEarlier.split('@');
  const goMod = await readFile(join(hostd, 'go.mod'), 'utf8');
  const goSum = await readFile(join(hostd, 'go.sum'), 'utf8');
  return gvisorSourceOf(cacheDir, repoDir, {
    id: 'gvisor-source-earlier',
    title: "the source of gVisor's earlier version",
    goMod: goMod.replaceAll(version, earlier),
    goSum: `${goSum}${pins.gvisorEarlierSums.map((sum) => `${module} ${earlier}${sum}\n`).join('')}`,
    patches: ['freezer.patch', 'earlier.patch'],
  });
}

function named(built: Built, id: string, after: string): Built {
  return { ...built, step: { ...built.step, id, title: `${built.step.title}, the earlier version`, after: [after] } };
}
