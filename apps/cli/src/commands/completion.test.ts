import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { completionScript } from './completion.ts';
import { program } from './program.ts';

const exec = promisify(execFile);

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'torpor-completion-'));
  await writeFile(join(dir, 'script'), completionScript(program()));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** What bash offers after these words, with a `torpor` that answers its question for names like this. */
async function offered(words: readonly string[], torpor = 'printf "web\\nworker\\n"'): Promise<string[]> {
  const stub = join(dir, 'torpor');
  await writeFile(stub, `#!/bin/sh\n${torpor}\n`);
  await chmod(stub, 0o755);
  const ask =
    'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _torpor; printf "%s\\n" "${COMPREPLY[@]}"';
  const { stdout } = await exec('bash', ['-c', ask, 'bash', join(dir, 'script'), stub, ...words]);
  return stdout.split('\n').filter((line) => line !== '');
}

it('offers commands, and the names of sandboxes where one is expected', async () => {
  expect(await offered(['sandbox', 'pa'])).toEqual(['pause']);
  expect(await offered(['sandbox', 'pause', 'w'])).toEqual(['web', 'worker']);
  expect(await offered(['sbx', 'rm', 'web', 'wo'])).toEqual(['worker']);
  expect(await offered(['sandbox', 'cp', './x', 'we'])).toEqual(['web:']);
  expect(await offered(['snapshot', 'list', 'w'])).toEqual(['web', 'worker']);
  expect(await offered(['fork', 'w'])).toEqual(['web', 'worker']);
  expect(await offered(['sandbox', 'create', 'w'])).toEqual([]);
});

it('says nothing of a stack that does not answer', async () => {
  expect(await offered(['sandbox', 'pause', ''], 'echo "torpor: no stack is known" >&2; exit 1')).toEqual(['--json']);
});
