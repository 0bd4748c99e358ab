/** What it costs to count what runs and listens in a sandbox, as is done before each of its sleeps for the receipt of a wake. */
import { directGuest } from './direct-guest.ts';
import { cpuUsageNs } from './host.ts';
import { createOne, deleteMany, type Made } from './sandboxes.ts';
import { expectOk, patient, type Stack } from './stack.ts';

const TIMES = 100;

export interface CensusCost {
  readonly tookMs: readonly number[];
  /** Of the sandbox, for one. */
  readonly cpuMs: number;
}

/** Of a sandbox in which so many processes run, each started by itself and listening at a port of its own. */
export async function censusCost(stack: Stack, processes: number): Promise<CensusCost> {
  const sandbox = await createOne(stack, `census-${process.pid}-${processes}`, { idle: { kind: 'never' } });
  const guest = await directGuest(stack, sandbox);
  try {
    for (let n = 0; n < processes; n++) await startListener(stack, sandbox, 4_000 + n);
    await guest.census(); // the first opens the connection
    const tookMs: number[] = [];
    const before = await cpuUsageNs(stack.scope, sandbox.hostId);
    for (let n = 0; n < TIMES; n++) tookMs.push((await guest.census()).tookMs);
    const usedNs = (await cpuUsageNs(stack.scope, sandbox.hostId)) - before;
    return { tookMs, cpuMs: usedNs / 1e6 / TIMES };
  } finally {
    guest.close();
    await deleteMany(stack, [sandbox]);
  }
}

async function startListener(stack: Stack, sandbox: Made, port: number): Promise<void> {
  const command = `exec python3 -c 'import socket, time; s = socket.create_server(("127.0.0.1", ${port})); time.sleep(1e6)'`;
  await expectOk(patient, `${sandbox.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ name: `listens-${port}`, command, waitForPorts: [port] }),
  });
}
