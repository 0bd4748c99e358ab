import { contentKey, exists } from '../cache.ts';
import { CommandFailed, runLogged } from '../../command.ts';
import type { Step, Workplace } from '../step.ts';

/** Packages the host needs, each with a file that proves it is there: cheaper to look at than to ask dpkg. */
const wanted = {
  mmdebstrap: '/usr/bin/mmdebstrap',
  'btrfs-progs': '/usr/bin/btrfs',
  nftables: '/usr/sbin/nft',
  iproute2: '/usr/bin/ip',
  'ca-certificates': '/usr/sbin/update-ca-certificates',
  openssl: '/usr/bin/openssl',
} as const;

async function missing(): Promise<string[]> {
  const found = await Promise.all(
    Object.entries(wanted).map(async ([name, proof]) => ({ name, there: await exists(proof) })),
  );
  return found.filter((each) => !each.there).map((each) => each.name);
}

export function debianPackages(): Step {
  return {
    id: 'debian',
    title: "Debian's packages",
    key: contentKey(Object.keys(wanted)),
    needs: [],
    after: [],
    heavy: false,
    deadlineMs: 600_000,
    next: 'run `apt-get update` and look at its errors, then run this again',
    present: async () => (await missing()).length === 0,
    run: async (place) => {
      const names = await missing();
      place.tell(names.join(', '));
      await aptInstall(names, place);
    },
  };
}

/** Installs packages; fetches the lists first only when apt cannot do with those it has (a fresh image has none). */
export async function aptInstall(names: readonly string[], place: Workplace): Promise<void> {
  try {
    await apt(['install', '--no-install-recommends', ...names], place);
  } catch (error) {
    if (!(error instanceof CommandFailed) || place.signal?.aborted) throw error;
    if (error.tail.includes('dpkg --configure -a')) await finishInterrupted(place);
    place.tell('fetching the package lists first');
    // One unreachable source among several fails the update but not necessarily the install, so the install decides.
    await apt(['update'], place).catch((cause: unknown) => place.tell(`apt-get update: ${String(cause)}`));
    await apt(['install', '--no-install-recommends', ...names], place);
  }
}

/** dpkg was killed at its work, ours or somebody else's, and refuses any other until that is finished. */
async function finishInterrupted(place: Workplace): Promise<void> {
  place.tell('finishing what an interrupted dpkg has left');
  await runLogged(place.logPath, ['dpkg', '--configure', '-a'], {
    env: { DEBIAN_FRONTEND: 'noninteractive' },
    deadlineMs: 300_000,
    signal: place.signal,
  });
}

async function apt(args: readonly string[], place: Workplace): Promise<void> {
  const patience = ['-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
  await runLogged(place.logPath, ['apt-get', '-y', ...patience, ...args], {
    env: { DEBIAN_FRONTEND: 'noninteractive' },
    deadlineMs: 500_000,
    signal: place.signal,
  });
}
