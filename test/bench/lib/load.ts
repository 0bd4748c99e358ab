/** The load that wakes are measured under: 200 file reads a second on other sandboxes, one create a second, one download paced at 10 MiB/s. */
import { setTimeout as after } from 'node:timers/promises';
import { request } from 'undici';
import { api } from './api.ts';
import { createMany, createOne, deleteMany, fileUrl, putFile } from './sandboxes.ts';
import { client, expectOk, patient, type Stack } from './stack.ts';

const READS_PER_S = 200;
const BYTES_PER_S = 10 << 20;
const BIG = '/dev/shm/big';

export async function load<T>(stack: Stack, work: () => Promise<T>): Promise<{ result: T; said: string }> {
  const others = await createMany(stack, 5, 'load');
  const dispatcher = client(stack.url);
  for (const each of others) await putFile(dispatcher, stack, each, '/dev/shm/small', 'y'.repeat(1024));
  const first = others[0];
  if (!first) throw new Error('no sandbox to load');
  await expectOk(dispatcher, `${first.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ command: `head -c 67108864 /dev/urandom > ${BIG}`, waitForCompletion: true }),
  });
  const ended = new AbortController();
  const counts = { reads: 0, creates: 0, bytes: 0 };
  const began = performance.now();
  const loads = [reads(), creates(), download()];
  try {
    const result = await work();
    const s = (performance.now() - began) / 1000;
    const rate = (n: number) => (n / s).toFixed(1);
    return {
      result,
      said: `${rate(counts.reads)} reads/s, ${rate(counts.creates)} creates/s, ${rate(counts.bytes / 2 ** 20)} MiB/s down, for ${s.toFixed(0)} s`,
    };
  } finally {
    ended.abort();
    await Promise.all(loads);
    await deleteMany(stack, others);
    await dispatcher.close();
  }

  /** Open loop: a slow answer does not hold the next request back. */
  async function reads(): Promise<void> {
    const flying = new Set<Promise<unknown>>();
    let failure: unknown;
    const start = performance.now();
    for (let n = 0; !ended.signal.aborted && failure === undefined; n++) {
      await until(start + (n * 1000) / READS_PER_S);
      const each = others[n % others.length];
      if (!each) continue;
      const one = expectOk(dispatcher, fileUrl(stack, each, '/dev/shm/small'), {
        headers: { ...stack.headers, accept: 'application/octet-stream' },
      })
        .then(() => counts.reads++)
        .catch((error: unknown) => {
          failure = error;
        });
      flying.add(one);
      void one.finally(() => flying.delete(one));
    }
    await Promise.all(flying);
    if (failure !== undefined) throw failure;
  }

  async function creates(): Promise<void> {
    const start = performance.now();
    for (let n = 0; !ended.signal.aborted; n++) {
      await until(start + n * 1000);
      if (ended.signal.aborted) return;
      const { name } = await createOne(stack, `load-new-${process.pid}-${n}`);
      counts.creates++;
      await api(stack).delete(name);
    }
  }

  async function download(): Promise<void> {
    if (!first) return;
    while (!ended.signal.aborted) {
      const { body } = await request(fileUrl(stack, first, BIG), {
        dispatcher: patient,
        headers: { ...stack.headers, accept: 'application/octet-stream' },
      });
      const start = performance.now();
      let got = 0;
      for await (const bytes of body) {
        got += (bytes as Buffer).length;
        counts.bytes += (bytes as Buffer).length;
        await until(start + (got / BYTES_PER_S) * 1000);
        if (ended.signal.aborted) break;
      }
    }
  }
}

async function until(at: number): Promise<void> {
  const ms = at - performance.now();
  if (ms > 0) await after(ms);
}
