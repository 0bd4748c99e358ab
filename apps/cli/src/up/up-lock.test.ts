import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { takeUpLock } from './up-lock.ts';

let runDir: string;
beforeEach(async () => {
  runDir = await mkdtemp(join(tmpdir(), 'torpor-lock-'));
});
afterEach(() => rm(runDir, { recursive: true, force: true }));

describe('the lock of an installation', () => {
  it('is held by one of those who want it at the same time, until that one lets go', async () => {
    const taken = await Promise.all([1, 2, 3].map(() => takeUpLock({ runDir })));
    const held = taken.filter((lock) => lock !== undefined);
    expect(held).toHaveLength(1);
    await held[0]?.close();
    const next = await takeUpLock({ runDir });
    expect(next).toBeDefined();
    await next?.close();
  });

  it('is free when its holder was killed, though the children of the holder live on', async () => {
    const script = `const { takeUpLock } = await import(${JSON.stringify(join(import.meta.dirname, 'up-lock.ts'))});
      globalThis.lock = await takeUpLock({ runDir: ${JSON.stringify(runDir)} });
      const child = (await import('node:child_process')).spawn('sleep', ['600'], { detached: true, stdio: 'ignore' });
      console.log(child.pid); setInterval(() => {}, 1000);`;
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [said] = await once(holder.stdout, 'data');
    expect(await takeUpLock({ runDir })).toBeUndefined();
    const ended = once(holder, 'exit');
    holder.kill('SIGKILL');
    await ended;
    const next = await takeUpLock({ runDir });
    process.kill(Number(said), 'SIGKILL');
    expect(next).toBeDefined();
    await next?.close();
  });

  it('is that of the directory that is there, when a purge has removed the one before', async () => {
    const purging = await takeUpLock({ runDir });
    await rm(runDir, { recursive: true });
    const next = await takeUpLock({ runDir });
    expect(next).toBeDefined();
    await purging?.close();
    expect(await takeUpLock({ runDir })).toBeUndefined();
    await next?.close();
  });
});
