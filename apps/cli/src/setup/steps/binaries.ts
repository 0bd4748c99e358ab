import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import { z } from 'zod';
import { runLogged } from '../command.ts';
import { sourceKey } from '../source-key.ts';
import type { Step, Workplace } from '../step.ts';
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
  readonly key: string;
  readonly build: (aside: string, place: Workplace) => Promise<void>;
}

const smaller = ['-trimpath', '-ldflags=-s -w'];

/** gVisor from its module, with the change that `infra/gvisor` explains. The module cache is read-only: a copy is changed. */
export async function runsc(cacheDir: string, repoDir: string): Promise<Built> {
  const patch = join(repoDir, 'infra', 'gvisor', 'freezer.patch');
  const key = contentKey([pins.gvisor, await readFile(patch, 'utf8'), process.arch, ...smaller]);
  return fetched(cacheDir, {
    id: 'runsc',
    title: "gVisor's runsc",
    key,
    build: async (aside, place) => {
      const source = join(aside, 'source');
      const { signal, logPath } = place;
      await mkdir(source);
      await writeFile(join(source, 'go.mod'), 'module fetch\n');
      await runGo(cacheDir, ['mod', 'download', '-json', pins.gvisor], place, { cwd: source });
      await rm(source, { recursive: true });
      const { Dir } = z.object({ Dir: z.string() }).parse(lastObject(await readFile(logPath, 'utf8')));
      await runLogged(logPath, ['cp', '-r', '--no-preserve=mode', Dir, source], { deadlineMs: 120_000, signal });
      await runLogged(logPath, ['git', '-C', source, 'apply', patch], {
        env: { GIT_CEILING_DIRECTORIES: aside }, // a repository above would make git pass the files over in silence
        deadlineMs: 30_000,
        signal,
      });
      await runGo(cacheDir, ['build', ...smaller, '-o', join(aside, 'runsc'), './runsc'], place, { cwd: source });
      await rm(source, { recursive: true, force: true });
    },
  });
}

/** The last JSON object that stands in lines of its own, from `{` to `}`. */
function lastObject(text: string): unknown {
  const from = text.lastIndexOf('\n{\n');
  return JSON.parse(text.slice(from < 0 ? text.indexOf('{') : from + 1, text.lastIndexOf('}') + 1));
}

export function natsServer(cacheDir: string): Built {
  const module = pins.natsServer;
  return fetched(cacheDir, {
    id: 'nats-server',
    title: 'nats-server',
    key: contentKey([module, process.arch, ...smaller]),
    build: (aside, place) => runGo(cacheDir, ['install', ...smaller, module], place, { bin: aside }),
  });
}

/** A program that Go makes from what its module proxy gives; `build` leaves it in `aside`, under its id. */
function fetched(cacheDir: string, { id, title, key, build }: Fetched): Built {
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
        await build(aside, place);
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
