import { copyFile, chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import { everybodyReaches } from '../reach.ts';
import type { Step } from '../step.ts';

/** A Node for the rooms: the one that runs us, or a copy of it where it lies in somebody's home that they may not enter. */
export async function roomsNode(cacheDir: string): Promise<{ readonly step: Step; readonly path: string }> {
  const shared = await everybodyReaches(process.execPath);
  const directory = join(cacheDir, `node-${process.arch}-${process.versions.node}`);
  const path = shared ? process.execPath : join(directory, 'node');
  const step: Step = {
    id: 'node',
    title: 'a Node that the rooms may run',
    key: contentKey([process.arch, process.versions.node]),
    needs: [],
    after: [],
    heavy: false,
    deadlineMs: 60_000,
    next: `see that ${cacheDir} can be written and has 130 MB of space`,
    present: () => exists(path),
    run: () =>
      publish(directory, async (aside) => {
        await copyFile(process.execPath, join(aside, 'node'));
        await chmod(join(aside, 'node'), 0o755);
      }),
  };
  return { step, path };
}
