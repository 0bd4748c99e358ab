import { mkdtemp, readdir, readFile, rm, writeFile, access } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { isRunning, nameProcess } from '../up/processes.ts';
import { exists, publish, withLock } from './cache.ts';
import { runLogged, runRead } from '../command.ts';
import { runSteps } from './run-steps.ts';
import type { Step, Workplace } from './step.ts';

let cacheDir: string;
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'torpor-setup-'));
});
afterEach(async () => {
  await rm(cacheDir, { recursive: true, force: true });
});

function listener(): { out: { write: (text: string) => void }; text: () => string } {
  let text = '';
  return { out: { write: (more) => void (text += more) }, text: () => text };
}

/** A step whose result is a file of its own. */
function step(id: string, run: (place: Workplace) => Promise<void>, needs: readonly string[] = []): Step {
  const target = join(cacheDir, id);
  return {
    id,
    title: `the ${id}`,
    key: 'k',
    needs,
    after: [],
    heavy: false,
    deadlineMs: 10_000,
    next: `mend the ${id}`,
    present: () => exists(target),
    run: async (place) => {
      await run(place);
      await writeFile(target, '');
    },
  };
}

describe('runSteps', () => {
  it('runs what is missing in the order of needs, and nothing the second time', async () => {
    const order: string[] = [];
    const steps = [step('b', async () => void order.push('b'), ['a']), step('a', async () => void order.push('a'))];
    const { out } = listener();
    expect(await runSteps(steps, ['b'], { cacheDir, out })).toEqual(['a', 'b']);
    expect(await runSteps(steps, ['b'], { cacheDir, out })).toEqual([]);
    expect(order).toEqual(['a', 'b']);
  });

  it('ends what runs and what waits when it is interrupted, and starts nothing more', async () => {
    const interruption = new AbortController();
    const reason = new Error('interrupted');
    const neighbour = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    const lock = { waiting: () => {}, deadlineMs: 10_000 };
    const holding = withLock(join(cacheDir, 'locks', 'waits-k'), lock, async () => {
      held.resolve();
      await neighbour.promise;
    });
    await held.promise;
    const sleeps = step('sleeps', async ({ logPath, signal }) => {
      setTimeout(() => interruption.abort(reason), 50);
      await runLogged(logPath, ['sleep', '60'], { deadlineMs: 60_000, signal });
    });
    const steps = [sleeps, step('waits', async () => {}), step('later', async () => {}, ['sleeps'])];
    const options = { cacheDir, out: listener().out, signal: interruption.signal };
    await expect(runSteps(steps, ['later', 'waits'], options)).rejects.toBe(reason);
    expect(await Promise.all(['sleeps', 'waits', 'later'].map((id) => exists(join(cacheDir, id))))).toEqual([
      false,
      false,
      false,
    ]);
    neighbour.resolve();
    await holding;
  });

  it('runs independent steps side by side', async () => {
    const both = Promise.withResolvers<void>();
    let inside = 0;
    const meet = async (): Promise<void> => {
      inside += 1;
      if (inside === 2) both.resolve();
      await both.promise; // would never end if they ran one after the other
    };
    await runSteps([step('a', meet), step('b', meet)], ['a', 'b'], { cacheDir, out: listener().out });
    expect(inside).toBe(2);
  });

  it('says what failed, the end of its log and what to do; keeps what was done; starts nothing more', async () => {
    const later: string[] = [];
    const steps = [
      step('good', async () => undefined),
      step(
        'bad',
        ({ logPath }) => runLogged(logPath, ['sh', '-c', 'echo the compiler is sad; exit 3'], { deadlineMs: 5_000 }),
        ['good'],
      ),
      step('later', async () => void later.push('later'), ['bad']),
    ];
    const failure = await runSteps(steps, ['later'], { cacheDir, out: listener().out }).catch(
      (error: unknown) => error,
    );
    expect(String(failure)).toMatch(
      /the bad failed: sh ended with 3\n.*\n?.*\| the compiler is sad\nWhole log: .*bad-k\.log\nNext: mend the bad/s,
    );
    expect(later).toEqual([]);
    expect(await exists(join(cacheDir, 'good'))).toBe(true);
  });

  it('does not believe a step that ends well without its result', async () => {
    const liar: Step = { ...step('liar', async () => undefined), run: async () => undefined };
    await expect(runSteps([liar], ['liar'], { cacheDir, out: listener().out })).rejects.toThrow(
      'its result is not there',
    );
  });

  it('lets two processes that want the same thing make it once', async () => {
    const made: string[] = [];
    const shared = (who: string): Step => step('shared', async () => void made.push(who));
    await Promise.all(
      ['one', 'two'].map((who) => runSteps([shared(who)], ['shared'], { cacheDir, out: listener().out })),
    );
    expect(made).toHaveLength(1);
  });

  it('names the deadline that ended a program', async () => {
    const slow = step('slow', ({ logPath }) => runLogged(logPath, ['sleep', '60'], { deadlineMs: 100 }));
    await expect(runSteps([slow], ['slow'], { cacheDir, out: listener().out })).rejects.toThrow(
      'sleep was not done after 0.1 s and was ended',
    );
  });

  it('is done with a program that was cut off when its children have ended too, by force if they must', async () => {
    const childFile = join(cacheDir, 'child');
    const stubborn = `const script = 'process.on("SIGTERM", () => {}); require("fs").writeFileSync(process.argv[1], String(process.pid)); setInterval(() => {}, 1000)';
      require('child_process').spawn(process.execPath, ['-e', script, ${JSON.stringify(childFile)}], { stdio: 'ignore' }); setInterval(() => {}, 1000)`;
    const interruption = new AbortController();
    const options = { deadlineMs: 60_000, signal: interruption.signal };
    const running = runRead([process.execPath, '-e', stubborn], options).catch(String);
    const child = await vi.waitFor(
      async () => {
        const name = await nameProcess(Number(await readFile(childFile, 'utf8')));
        if (!name) throw new Error('its child does not run yet');
        return name;
      },
      { timeout: 20_000 },
    );
    interruption.abort();
    expect(await running).toContain('was interrupted');
    expect(await isRunning(child)).toBe(false);
  });

  it('tells a person each start and end with its time', async () => {
    const { out, text } = listener();
    await runSteps([step('a', async () => undefined)], ['a'], { cacheDir, out });
    expect(text()).toMatch(/the a …\n.*the a: done in \d+\.\d s\n/);
  });
});

describe('runLogged', () => {
  it('ends a program together with its children', async () => {
    const interruption = new AbortController();
    const pidFile = join(cacheDir, 'pid');
    const running = runLogged(
      join(cacheDir, 'log'),
      ['sh', '-c', `sleep 60 & echo $! >${pidFile}.new; mv ${pidFile}.new ${pidFile}; wait`],
      {
        deadlineMs: 30_000,
        signal: interruption.signal,
      },
    );
    await vi.waitFor(() => access(pidFile), { timeout: 10_000 });
    const child = await nameProcess(Number(await readFile(pidFile, 'utf8')));
    interruption.abort();
    await expect(running).rejects.toThrow('sh was interrupted');
    await vi.waitFor(async () => expect(child && (await isRunning(child))).toBe(false), { timeout: 10_000 });
  });
});

describe('publish', () => {
  it('leaves no target and no left-over for the next try when the build dies half way', async () => {
    const target = join(cacheDir, 'product-1');
    await expect(
      publish(target, async (aside) => {
        await writeFile(join(aside, 'half'), '');
        throw new Error('power cut');
      }),
    ).rejects.toThrow('power cut');
    expect(await exists(target)).toBe(false);
    await publish(target, (aside) => writeFile(join(aside, 'whole'), ''));
    expect(await readdir(cacheDir)).toEqual(['product-1']);
    expect(await readdir(target)).toEqual(['whole']);
  });
});

describe('withLock', () => {
  it('is let go when its holder is killed', async () => {
    const lock = join(cacheDir, 'lock');
    const script = `import { withLock } from ${JSON.stringify(join(import.meta.dirname, 'cache.ts'))};
      await withLock(${JSON.stringify(lock)}, { waiting() {}, deadlineMs: 5000 }, async () => { console.log('held'); await new Promise((done) => setTimeout(done, 60000)); });`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    await expect(withLock(lock, { waiting() {}, deadlineMs: 1_000 }, async () => 'mine')).rejects.toThrow(
      'was not free within 1 s',
    );
    holder.kill('SIGKILL');
    expect(await withLock(lock, { waiting() {}, deadlineMs: 5_000 }, async () => 'mine')).toBe('mine');
    await access(lock);
  });
});
