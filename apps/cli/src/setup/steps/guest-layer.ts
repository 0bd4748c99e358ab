import { copyFile, chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import type { Step } from '../step.ts';
import type { Built } from './binaries.ts';

/**
 * What every instance has above its template, whatever the template is: the guest, and the places that it and the host
 * fill in. A small directory, used as the topmost lower layer, so that a new guest needs no new template.
 */
export function guestLayer(cacheDir: string, guest: Built): { readonly step: Step; readonly dir: string } {
  const key = contentKey([guest.key, JSON.stringify(places), JSON.stringify(files)]);
  const dir = join(cacheDir, `guest-layer-${key}`);
  const step: Step = {
    id: 'guest-layer',
    title: 'the layer with the guest',
    key,
    needs: ['guest'],
    after: [],
    heavy: false,
    deadlineMs: 60_000,
    next: `see that ${cacheDir} can be written and has space`,
    present: () => exists(dir),
    run: () =>
      publish(dir, async (aside) => {
        for (const [path, mode] of places) {
          await mkdir(join(aside, path), { recursive: true });
          await chmod(join(aside, path), mode);
        }
        for (const [path, text] of files) await writeFile(join(aside, path), text, { mode: 0o644 });
        await copyFile(guest.path, join(aside, 'torpor/guest'));
        await chmod(join(aside, 'torpor/guest'), 0o755);
      }),
  };
  return { step, dir };
}

const places = [
  ['torpor', 0o755],
  ['torpor/vol', 0o755],
  ['etc', 0o755],
  ['run', 0o755],
  ['run/torpor', 0o755],
  ['proc', 0o555],
  ['sys', 0o555],
  ['dev', 0o755],
  ['tmp', 0o1777],
] as const;

/** Empty until the instance gets its identity; never the host's, nor the builder's. */
const files = [
  ['etc/resolv.conf', ''],
  ['etc/hostname', ''],
  ['etc/hosts', '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n'],
] as const;
