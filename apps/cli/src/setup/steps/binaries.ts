import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import { z } from 'zod';
import { runLogged } from '../../command.ts';
import { sourceKey } from '../source-key.ts';
import type { Step, Workplace } from '../step.ts';
import { runGo } from './go.ts';
import { pins } from './pins.ts';

/** A product that Go makes, and the step that makes it. */
export interface Built {
  readonly step: Step;
  readonly path: string;
  readonly key: string;
}

const smaller = ['-trimpath', '-ldflags=-s -w'];

/**
 * What runsc and hostd are both built from: gVisor's module with the changes that `infra/gvisor` explains, and beside it hostd's go.mod with that module
 * in gVisor's place, which is `path`. Both are built by that go.mod, so that the compiler sees the same packages twice and works once. The module cache
 * is read-only: a copy is changed.
 */
export async function gvisorSource(cacheDir: string, repoDir: string): Promise<Built> {
  const hostd = join(repoDir, 'packages', 'hostd');
  const goMod = await readFile(join(hostd, 'go.mod'), 'utf8');
  const goSum = await readFile(join(hostd, 'go.sum'), 'utf8');
  return gvisorSourceOf(cacheDir, repoDir, {
    id: 'gvisor-source',
    title: "gVisor's source",
    goMod,
    goSum,
    patches: ['freezer.patch', 'precompiled.patch'],
    precompiles: true,
  });
}

interface GvisorSource {
  readonly id: string;
  readonly title: string;
  readonly goMod: string;
  readonly goSum: string;
  /** In `infra/gvisor`. */
  readonly patches: readonly string[];
  /** The patched source brings the program that writes sentries' seccomp filter into it. */
  readonly precompiles?: boolean;
}

export async function gvisorSourceOf(
  cacheDir: string,
  repoDir: string,
  { id, title, goMod, goSum, patches, precompiles = false }: GvisorSource,
): Promise<Built> {
  const hostd = join(repoDir, 'packages', 'hostd');
  const paths = patches.map((name) => join(repoDir, 'infra', 'gvisor', name));
  const key = contentKey([goMod, goSum, ...(await Promise.all(paths.map((path) => readFile(path, 'utf8'))))]);
  const directory = join(cacheDir, `gvisor-source-${key}`);
  const path = join(directory, 'go.mod');

  async function build(aside: string, place: Workplace): Promise<void> {
    const { signal, logPath } = place;
    const modfile = join(aside, 'go.mod');
    await writeFile(modfile, goMod);
    await writeFile(join(aside, 'go.sum'), goSum);
    const module = pins.gvisor.slice(0, pins.gvisor.indexOf('@'));
    await runGo(cacheDir, ['mod', 'download', '-json', `-modfile=${modfile}`, module], place, { cwd: hostd });
    const { Dir } = z.object({ Dir: z.string() }).parse(lastObject(await readFile(logPath, 'utf8')));
    const source = join(aside, 'module');
    await runLogged(logPath, ['cp', '-r', '--no-preserve=mode', Dir, source], { deadlineMs: 120_000, signal });
    await runLogged(logPath, ['git', '-C', source, 'apply', ...paths], {
      env: { GIT_CEILING_DIRECTORIES: aside }, // a repository above would make git pass the files over in silence
      deadlineMs: 30_000,
      signal,
    });
    const replacedBy = (at: string) => writeFile(modfile, `${goMod}\nreplace ${module} => ${at}\n`);
    if (precompiles) {
      await replacedBy(source);
      const filter = 'runsc/boot/filter';
      const target = join(source, filter, 'filter_precompiled.go');
      const args = ['run', '-trimpath', `-modfile=${modfile}`, `${module}/${filter}/gen`, target];
      await runGo(cacheDir, args, place, { cwd: hostd });
    }
    await replacedBy(join(directory, 'module'));
  }

  const step: Step = {
    id,
    title,
    key,
    needs: ['go'],
    after: [],
    heavy: precompiles,
    deadlineMs: 600_000,
    next: 'check that Go reaches its module proxy (GOPROXY), then run this again',
    present: () => exists(path),
    run: (place) => publish(directory, (aside) => build(aside, place)),
  };
  return { step, path, key };
}

/** The last JSON object that stands in lines of its own, from `{` to `}`. */
function lastObject(text: string): unknown {
  const from = text.lastIndexOf('\n{\n');
  return JSON.parse(text.slice(from < 0 ? text.indexOf('{') : from + 1, text.lastIndexOf('}') + 1));
}

export function runsc(cacheDir: string, repoDir: string, gvisor: Built): Built {
  const flags = [...smaller, `-modfile=${gvisor.path}`];
  return program(cacheDir, {
    id: 'runsc',
    title: "gVisor's runsc",
    key: contentKey([gvisor.key, process.arch, ...smaller]),
    needs: ['go', gvisor.step.id],
    after: [],
    next: 'check that Go reaches its module proxy (GOPROXY), then run this again',
    build: (aside, place) =>
      runGo(cacheDir, ['build', ...flags, '-o', join(aside, 'runsc'), 'gvisor.dev/gvisor/runsc'], place, {
        cwd: join(repoDir, 'packages', 'hostd'),
      }),
  });
}

export function natsServer(cacheDir: string): Built {
  const module = pins.natsServer;
  return program(cacheDir, {
    id: 'nats-server',
    title: 'nats-server',
    key: contentKey([module, process.arch, ...smaller]),
    needs: ['go'],
    after: [],
    next: 'check that Go reaches its module proxy (GOPROXY), then run this again',
    build: (aside, place) => runGo(cacheDir, ['install', ...smaller, module], place, { bin: aside }),
  });
}

export function guestProgram(cacheDir: string, repoDir: string): Promise<Built> {
  return ownProgram(cacheDir, join(repoDir, 'packages', 'guest'), { name: 'guest' });
}

export function hostdProgram(cacheDir: string, repoDir: string, gvisor: Built): Promise<Built> {
  return ownProgram(cacheDir, join(repoDir, 'packages', 'hostd'), { name: 'hostd', gvisor });
}

/** The Go program in `source`, command cmd/<name>. The linker writes its key into `main.version`, where there is one. */
async function ownProgram(cacheDir: string, source: string, what: { name: string; gvisor?: Built }): Promise<Built> {
  const { name, gvisor } = what;
  const madeOf = [await sourceKey(source), process.arch, pins.goMin, ...smaller];
  const key = contentKey(gvisor === undefined ? madeOf : [...madeOf, gvisor.key]);
  const flags = ['-trimpath', `-ldflags=-s -w -X main.version=${key}`];
  if (gvisor !== undefined) flags.push(`-modfile=${gvisor.path}`);
  return program(cacheDir, {
    id: name,
    title: name,
    key,
    needs: gvisor === undefined ? ['go'] : ['go', gvisor.step.id],
    // Once runsc is built, gVisor's packages lie in Go's build cache.
    after: gvisor === undefined ? [] : ['runsc'],
    next: `look at the compiler's message; the source is ${source}`,
    build: (aside, place) =>
      runGo(cacheDir, ['build', ...flags, '-o', join(aside, name), `./cmd/${name}`], place, { cwd: source }),
  });
}

interface Program extends Pick<Step, 'id' | 'title' | 'key' | 'needs' | 'after' | 'next'> {
  /** Leaves the program in `aside`, under its id. */
  readonly build: (aside: string, place: Workplace) => Promise<void>;
}

function program(cacheDir: string, { build, ...shape }: Program): Built {
  const { id, key } = shape;
  const directory = join(cacheDir, `${id}-${key}`);
  const path = join(directory, id);
  const step: Step = {
    ...shape,
    heavy: true,
    deadlineMs: 1_500_000,
    present: () => exists(path),
    run: (place) =>
      publish(directory, async (aside) => {
        await build(aside, place);
        await chmod(join(aside, id), 0o755);
      }),
  };
  return { step, path, key };
}
