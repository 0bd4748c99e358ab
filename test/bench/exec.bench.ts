/** What the way through gateway and node-agent adds to the guest's own work: `true`, a 1 KiB file read and a 64 MiB download, beside the guest called directly. */
import { parseArgs } from 'node:util';
import type { Dispatcher } from 'undici';
import { atLeast, atMost, Figures, median, quantile } from './lib/figures.ts';
import { createOne, deleteMany, fileUrl, putFile } from './lib/sandboxes.ts';
import { client, expectOk, stackUp } from './lib/stack.ts';
import { directGuest } from './lib/direct-guest.ts';

const { values } = parseArgs({
  options: { json: { type: 'boolean', default: false }, count: { type: 'string', default: '300' } },
});
const COUNT = Number(values.count);

const stack = await stackUp();
const figures = new Figures('exec');
const sandbox = await createOne(stack, `exec-${process.pid}`, { idle: { kind: 'never' } });
const dispatcher = client(stack.url);
const guest = await directGuest(stack, sandbox);
try {
  await putFile(dispatcher, stack, sandbox, '/dev/shm/small', 'z'.repeat(1024));
  const json = { ...stack.headers, 'content-type': 'application/json' };
  const through = {
    exec: (via: Dispatcher) =>
      expectOk(via, `${sandbox.url}/process`, {
        method: 'POST',
        headers: json,
        body: JSON.stringify({ command: 'true', waitForCompletion: true }),
      }),
    read: (via: Dispatcher) =>
      expectOk(via, fileUrl(stack, sandbox, '/dev/shm/small'), {
        headers: { ...stack.headers, accept: 'application/octet-stream' },
      }),
  };
  const exec = await sideBySide(
    () => through.exec(dispatcher),
    () => guest.exec('true'),
  );
  const read = await sideBySide(
    () => through.read(dispatcher),
    () => guest.read('/dev/shm/small'),
  );
  figures.add('true, through the gateway, p50', {
    value: median(exec.through),
    unit: 'ms',
    floor: median(exec.direct),
  });
  figures.add('true, through the gateway, p99', {
    value: quantile(exec.through, 0.99),
    unit: 'ms',
    floor: quantile(exec.direct, 0.99),
  });
  figures.add('true: added p50', { value: median(exec.through) - median(exec.direct), unit: 'ms' });
  figures.add('1 KiB read, through the gateway, p50', {
    value: median(read.through),
    unit: 'ms',
    floor: median(read.direct),
  });
  figures.add('1 KiB read, through the gateway, p99', {
    value: quantile(read.through, 0.99),
    unit: 'ms',
    floor: quantile(read.direct, 0.99),
  });
  figures.add('1 KiB read: added p50', {
    value: median(read.through) - median(read.direct),
    unit: 'ms',
    goal: atMost(1.5),
  });

  await through.exec(dispatcher);
  await expectOk(dispatcher, `${sandbox.url}/process`, {
    method: 'POST',
    headers: json,
    body: JSON.stringify({ command: 'head -c 67108864 /dev/urandom > /dev/shm/big', waitForCompletion: true }),
  });
  const direct: number[] = [];
  const via: number[] = [];
  for (let n = 0; n < 7; n++) {
    direct.push(64_000 / (await guest.read('/dev/shm/big')).tookMs);
    via.push(
      64_000 /
        (
          await expectOk(dispatcher, fileUrl(stack, sandbox, '/dev/shm/big'), {
            headers: { ...stack.headers, accept: 'application/octet-stream' },
          })
        ).tookMs,
    );
  }
  figures.add('64 MiB download', { value: median(via), unit: 'MiB/s', floor: median(direct) });
  figures.add('64 MiB download: share of the direct rate', {
    value: median(via) / median(direct),
    unit: '',
    goal: atLeast(0.6),
  });
} finally {
  guest.close();
  await deleteMany(stack, [sandbox]);
}
figures.report(values.json);
process.exit();

/** Alternates, so that what else the machine does falls on both alike. */
async function sideBySide(
  through: () => Promise<{ tookMs: number }>,
  direct: () => Promise<{ tookMs: number }>,
): Promise<{ through: number[]; direct: number[] }> {
  const times = { through: [] as number[], direct: [] as number[] };
  for (let n = 0; n < 20; n++) {
    await through();
    await direct();
  }
  for (let n = 0; n < COUNT; n++) {
    times.through.push((await through()).tookMs);
    times.direct.push((await direct()).tookMs);
  }
  return times;
}
