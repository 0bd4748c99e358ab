/** File systems that fail as hardware does: `test/faultfs`, built when it is first wanted. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { checkout, torpor } from '../bench/lib/stack.ts';

const exec = promisify(execFile);
const BUILD_MS = 5 * 60_000;
const ANSWER_MS = 30_000;

export interface FaultFs {
  /** As `test/faultfs` documents them; rejects with what it said against one. */
  order(line: string): Promise<void>;
  /** Unmounts it, which wants that nobody uses it any more. */
  close(): Promise<void>;
}

export interface Built {
  mount(kind: 'directory' | 'disk', source: string, mountpoint: string): Promise<FaultFs>;
  remove(): Promise<void>;
}

export async function buildFaultFs(): Promise<Built> {
  const { go } = JSON.parse(await torpor(['setup', 'test', '--json'])) as {
    go: { path: string; env: Record<string, string> } | null;
  }; // printed by our own set-up
  if (!go) throw new Error('faultfs is a Go program, and the set-up found no Go');
  const dir = await mkdtemp(join(tmpdir(), 'torpor-faultfs-'));
  const program = join(dir, 'faultfs');
  const options = { cwd: join(checkout, 'test/faultfs'), env: { ...process.env, ...go.env }, timeout: BUILD_MS };
  await exec(go.path, ['build', '-o', program, '.'], options);
  return {
    mount: (kind, source, mountpoint) => mount(program, [kind, source, mountpoint]),
    remove: () => rm(dir, { recursive: true, force: true }),
  };
}

async function mount(program: string, args: readonly string[]): Promise<FaultFs> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const said = await answer('to be mounted');
  if (said !== 'ready') throw new Error(`faultfs ${args.join(' ')} said ${said}`);
  return {
    async order(line) {
      child.stdin.write(`${line}\n`);
      const reply = await answer(`"${line}"`);
      if (reply !== 'ok') throw new Error(`faultfs answered "${line}" with ${reply}`);
    },
    async close() {
      child.stdin.end();
      const [code] = (await ended) as [number | null]; // what `exit` tells
      if (code !== 0) throw new Error(`faultfs ${args.join(' ')} ended with ${code}`);
    },
  };

  async function answer(what: string): Promise<string> {
    const late = AbortSignal.timeout(ANSWER_MS);
    const { promise, reject } = Promise.withResolvers<never>();
    late.addEventListener('abort', () => reject(new Error(`faultfs did not answer ${what} within ${ANSWER_MS} ms`)));
    const { value } = await Promise.race([lines.next(), promise]);
    return value ?? 'nothing, and ended';
  }
}
