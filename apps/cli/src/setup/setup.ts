/**
 * Everything that this machine must have before the stack can run, made sure of. Callers say what they want and get the
 * paths; what is there already costs a few file look-ups, what is missing is made with its progress told.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { onInterruption } from '../interruption.ts';
import { cacheDirectory } from './cache.ts';
import type { Out } from './progress.ts';
import { everybodyReaches } from './reach.ts';
import { runSteps, SetupFailed } from './run-steps.ts';
import type { Step } from './step.ts';
import { systemAccounts } from './steps/accounts.ts';
import { gvisorSource, guestProgram, hostdProgram, natsServer, runsc } from './steps/binaries.ts';
import { debianPackages } from './steps/debian.ts';
import { earlierBuild } from './steps/earlier-build.ts';
import { goToolchain, usableGo, type UsableGo } from './steps/go.ts';
import { guestLayer } from './steps/guest-layer.ts';
import { hostLayer, type HostFacts } from './steps/host-layer.ts';
import { runscVersion } from './steps/pins.ts';
import { roomsTree } from './steps/rooms-tree.ts';
import { roomsNode } from './steps/rooms-node.ts';
import { template, type Template } from './steps/template.ts';

/** `up`, `demo` and `test` want the whole stack, `earlier-build` what only tests of an upgrade need; the rest are parts of the stack. */
export const WANTS = [
  'up',
  'demo',
  'test',
  'earlier-build',
  'runsc',
  'nats-server',
  'guest',
  'hostd',
  'templates',
] as const;
export type Want = (typeof WANTS)[number];

export interface Toolchain {
  readonly cacheDir: string;
  /** The checkout as the rooms' accounts can read it: the checkout itself, or a copy of it in the cache. */
  readonly roomsDir: string;
  /** A Node that the rooms' accounts can run. */
  readonly node: string;
  readonly runsc: string;
  /** gVisor's module version; goes into every checkpoint's manifest. */
  readonly runscVersion: string;
  readonly natsServer: string;
  readonly hostd: string;
  readonly guest: string;
  /** There only when `earlier-build` was wanted. */
  readonly earlier: { readonly runsc: string; readonly hostd: string };
  /** For the tests of guest and hostd; null unless `test` was wanted or the machine has one. */
  readonly go: UsableGo | null;
  /** An instance's lower layers, top first: `[guestLayerDir, hostLayerDir, templates.<name>.dir]`. */
  readonly guestLayerDir: string;
  readonly hostLayerDir: string;
  readonly host: HostFacts;
  readonly templates: Readonly<Record<string, Template>>;
}

export interface SetupOptions {
  readonly want: readonly Want[];
  readonly out: Out;
  readonly signal?: AbortSignal | undefined;
}

const repoDir = join(import.meta.dirname, '../../../..');
const templateNames = ['base'];

/** Makes what is wanted present and says where it is. Throws `SetupFailed`, whose message is for a person. */
export async function ensureSetup(options: SetupOptions): Promise<Toolchain> {
  const cacheDir = cacheDirectory();
  await mkdir(cacheDir, { recursive: true, mode: 0o755 });
  if (!(await everybodyReaches(cacheDir))) throw new SetupFailed('cache', closedCache(cacheDir));
  const parts = await defineParts(cacheDir);
  const wanted = options.want.flatMap((want) => stepsOf(want, parts.steps));
  const own = onInterruption('the set-up was interrupted; the next run takes it up again');
  try {
    const signal = options.signal ?? own.signal;
    await runSteps(parts.steps, wanted, { cacheDir, out: options.out, signal });
    signal.throwIfAborted();
  } finally {
    own.close();
  }
  return parts.toolchain();
}

function closedCache(cacheDir: string): string {
  return `The cache ${cacheDir} cannot be entered by every user, but the rooms run under accounts of their own and read what is in it.
Next: set TORPOR_CACHE to a directory that is open all the way (not below /root), or open it: chmod a+rx`;
}

async function defineParts(cacheDir: string): Promise<{ steps: Step[]; toolchain: () => Promise<Toolchain> }> {
  const source = await gvisorSource(cacheDir, repoDir);
  const [guest, hostd, base] = await Promise.all([
    guestProgram(cacheDir, repoDir),
    hostdProgram(cacheDir, repoDir, source),
    template(cacheDir, repoDir, 'base'),
  ]);
  const gvisor = runsc(cacheDir, repoDir, source);
  const earlier = await earlierBuild(cacheDir, repoDir);
  const nats = natsServer(cacheDir);
  const above = guestLayer(cacheDir, guest);
  const host = await hostLayer(cacheDir, base.template);
  const node = await roomsNode(cacheDir);
  const tree = await roomsTree(cacheDir, repoDir);
  const steps = [
    debianPackages(),
    systemAccounts(),
    goToolchain(cacheDir),
    source.step,
    gvisor.step,
    base.step,
    nats.step,
    guest.step,
    above.step,
    hostd.step,
    host.step,
    node.step,
    tree.step,
    ...earlier.steps,
  ];
  async function toolchain(): Promise<Toolchain> {
    return {
      cacheDir,
      roomsDir: tree.dir,
      node: node.path,
      runsc: gvisor.path,
      runscVersion,
      natsServer: nats.path,
      hostd: hostd.path,
      guest: guest.path,
      earlier: { runsc: earlier.runsc, hostd: earlier.hostd },
      go: await usableGo(cacheDir),
      guestLayerDir: above.dir,
      hostLayerDir: host.layer.dir,
      host: await readFacts(host.layer.factsPath),
      templates: { [base.template.name]: base.template },
    };
  }
  return { steps, toolchain };
}

function stepsOf(want: Want, steps: readonly Step[]): string[] {
  switch (want) {
    case 'test':
      return idsOf(steps).filter((id) => !isEarlier(id));
    case 'up':
    case 'demo':
      // Go and gVisor's source are means: fetched when something made of them is missing, not for their own sake.
      return idsOf(steps).filter((id) => !isEarlier(id) && id !== 'go' && id !== 'gvisor-source');
    case 'earlier-build':
      return ['runsc-earlier', 'hostd-earlier'];
    case 'templates':
      return ['host-layer', ...templateNames.map((name) => `template-${name}`)];
    case 'runsc':
    case 'nats-server':
    case 'guest':
    case 'hostd':
      return [want];
  }
}

function idsOf(steps: readonly Step[]): string[] {
  return steps.map(({ id }) => id);
}

function isEarlier(id: string): boolean {
  return id.endsWith('-earlier');
}

async function readFacts(path: string): Promise<HostFacts> {
  const nothing: HostFacts = { env: {}, registries: [], extraCertificates: 0 };
  // Absent when only a part was wanted. Written by us in one piece, so its shape is the one we gave it.
  const text = await readFile(path, 'utf8').catch(() => null);
  return text === null ? nothing : (JSON.parse(text) as HostFacts);
}
