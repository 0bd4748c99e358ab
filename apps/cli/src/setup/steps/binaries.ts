import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import { sourceKey } from '../source-key.ts';
import type { Step } from '../step.ts';
import { runGo } from './go.ts';
import { pins } from './pins.ts';

/** A program made by Go, and the step that makes it. */
export interface Built {
  readonly step: Step;
  readonly path: string;
  readonly key: string;
}

interface Fetched {
  readonly id: string;
  readonly title: string;
  /** Module path and version as `go install` wants them. */
  readonly module: string;
}

const smaller = ['-trimpath', '-ldflags=-s -w'];

export function runsc(cacheDir: string): Built {
  return fetched(cacheDir, { id: 'runsc', title: "gVisor's runsc", module: pins.runsc });
}

export function natsServer(cacheDir: string): Built {
  return fetched(cacheDir, { id: 'nats-server', title: 'nats-server', module: pins.natsServer });
}

function fetched(cacheDir: string, { id, title, module }: Fetched): Built {
  const key = contentKey([module, process.arch, ...smaller]);
  const directory = join(cacheDir, `${id}-${key}`);
  const path = join(directory, id);
  const step: Step = {
    id,
    title,
    key,
    needs: ['go'],
    after: [],
    heavy: true,
    deadlineMs: 1_500_000,
    next: 'check that Go reaches its module proxy (GOPROXY), then run this again',
    present: () => exists(path),
    run: (place) =>
      publish(directory, async (aside) => {
        await runGo(cacheDir, ['install', ...smaller, module], place, { bin: aside });
        await chmod(join(aside, id), 0o755);
      }),
  };
  return { step, path, key };
}

/** The Go program in packages/<name>, command <name>. The linker writes its key into `main.version`, where there is one. */
export async function ownProgram(cacheDir: string, repoDir: string, name: 'guest' | 'hostd'): Promise<Built> {
  const source = join(repoDir, 'packages', name);
  const key = contentKey([await sourceKey(source), process.arch, pins.goMin, ...smaller]);
  const directory = join(cacheDir, `${name}-${key}`);
  const path = join(directory, name);
  const step: Step = {
    id: name,
    title: name,
    key,
    needs: ['go'],
    // hostd links gVisor's packages: once runsc is built they lie in Go's build cache.
    after: name === 'hostd' ? ['runsc'] : [],
    heavy: true,
    deadlineMs: 900_000,
    next: `look at the compiler's message; the source is ${source}`,
    present: () => exists(path),
    run: (place) =>
      publish(directory, async (aside) => {
        const flags = ['-trimpath', `-ldflags=-s -w -X main.version=${key}`];
        await runGo(cacheDir, ['build', ...flags, '-o', join(aside, name), `./cmd/${name}`], place, { cwd: source });
        await chmod(join(aside, name), 0o755);
      }),
  };
  return { step, path, key };
}
