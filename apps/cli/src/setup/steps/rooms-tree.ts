import { createHash } from 'node:crypto';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import { runLogged } from '../../command.ts';
import { everybodyReaches } from '../reach.ts';
import type { Step } from '../step.ts';

/** What of a checkout the rooms run from. */
const parts = ['package.json', 'pnpm-workspace.yaml', 'tsconfig.json', 'node_modules', 'apps', 'packages'];

/**
 * The sources that the rooms run from. Rooms are started as an unprivileged user, who may not enter a checkout that
 * lies in /root, say; then the cache gets a copy for them, made anew whenever a source changes.
 */
export async function roomsTree(
  cacheDir: string,
  repoDir: string,
): Promise<{ readonly step: Step; readonly dir: string }> {
  const open = await everybodyReaches(repoDir);
  const family = `rooms-${createHash('sha256').update(repoDir).digest('hex').slice(0, 8)}`;
  const key = open ? 'in-place' : await changeKey(repoDir);
  const dir = open ? repoDir : join(cacheDir, `${family}-${key}`);
  const step: Step = {
    id: 'rooms-tree',
    title: 'a copy of the checkout that the rooms may read',
    key,
    needs: [],
    after: [],
    heavy: false,
    deadlineMs: 300_000,
    next: 'put the checkout where every user may enter (not below /root), or see that the cache has 1 GB of space',
    present: () => exists(dir),
    run: async (place) => {
      place.tell(`${repoDir} is closed to other users`);
      await publish(dir, async (aside) => {
        const there = await Promise.all(
          parts.map(async (part) => ((await exists(join(repoDir, part))) ? [join(repoDir, part)] : [])),
        );
        await runLogged(place.logPath, ['cp', '-a', '--reflink=auto', ...there.flat(), aside], {
          deadlineMs: 280_000,
          signal: place.signal,
        });
        await runLogged(place.logPath, ['chmod', '-R', 'go=u-w', aside], { deadlineMs: 60_000, signal: place.signal });
      });
      await removeOld(dirname(dir), family, basename(dir));
    },
  };
  return { step, dir };
}

/** Times and sizes tell a change as well as contents do, and are read at every start. */
async function changeKey(repoDir: string): Promise<string> {
  const roots = ['apps', 'packages'].map((part) => join(repoDir, part));
  const entries = (await Promise.all(roots.map((root) => sourcesBelow(root)))).flat().sort();
  const facts = await Promise.all(entries.map(async (path) => [path, await stat(path)] as const));
  const lockfile = await readFile(join(repoDir, 'pnpm-lock.yaml'), 'utf8');
  return contentKey([lockfile, ...facts.map(([path, { size, mtimeMs }]) => `${path} ${size} ${mtimeMs}`)]);
}

async function sourcesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const found = await Promise.all(
    entries.map(async (entry) => {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) return entry.name === 'node_modules' ? [] : sourcesBelow(path);
      return entry.isFile() ? [path] : [];
    }),
  );
  return found.flat();
}

/** Keeps the newest other copy: rooms that still run from it may load a file late. */
async function removeOld(directory: string, family: string, current: string): Promise<void> {
  const others = (await readdir(directory)).filter((name) => name.startsWith(`${family}-`) && name !== current);
  const aged = await Promise.all(
    others.map(async (name) => ({ name, at: (await stat(join(directory, name))).mtimeMs })),
  );
  for (const { name } of aged.sort((a, b) => b.at - a.at).slice(1))
    await rm(join(directory, name), { recursive: true, force: true });
}
