import type { InstanceId } from '@torpor/contracts';
import { rm } from 'node:fs/promises';
import { mkdtempSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { hostdClient, type HostdClient } from './hostd-client.ts';
import { needsIntent, type FreeVerb, type JournaledVerb } from './hostd-verbs.ts';
import type { Intent } from './port.ts';

interface Request {
  readonly id: number;
  readonly verb: string;
  readonly args: Record<string, unknown>;
}

type Reply = (request: Request, answer: (answer: object) => void) => void;

let directory: string;
let path: string;
let client: HostdClient;
const standIns: StandIn[] = [];

/** hostd's stand-in: says hello by itself, the rest is `reply`'s affair. */
class StandIn {
  readonly seen: Request[] = [];
  readonly sockets = new Set<Socket>();
  readonly server: Server;

  constructor(reply: Reply, scope = 'abc123') {
    this.server = createServer((socket) => {
      this.sockets.add(socket);
      socket.on('error', () => {});
      createInterface(socket).on('line', (line) => {
        const request = JSON.parse(line) as Request; // the client's own lines
        const answer = (more: object) => socket.write(`${JSON.stringify({ id: request.id, ...more })}\n`);
        const runsc = { path: '/runsc', version: 'v1' };
        if (request.verb === 'hello') return answer({ ok: true, result: { protocol: 1, scope, pid: 1, runsc } });
        this.seen.push(request);
        reply(request, answer);
      });
    });
    standIns.push(this);
  }

  async listen(): Promise<this> {
    await rm(path, { force: true });
    this.server.listen(path);
    await once(this.server, 'listening');
    return this;
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    if (this.server.listening) await new Promise((resolve) => this.server.close(resolve));
  }
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'hostd-client-'));
  path = join(directory, 'hostd.sock');
  client = hostdClient({ socket: path, scope: 'abc123' });
});

afterEach(async () => {
  client.close();
  for (const standIn of standIns.splice(0)) await standIn.stop();
  await rm(directory, { recursive: true });
});

const id = 'instance1' as InstanceId; // has the shape of one
const slept = { frozen: true, cpuUsageNs: 1, tookUs: 900 };

function intent(covered: readonly string[], instanceId = id): Intent {
  return { instanceId, operation: 'test', covers: (step) => covered.includes(step) };
}

it('gives each caller its own answer, whatever the order they come in', async () => {
  const waiting: (() => void)[] = [];
  await new StandIn((request, answer) => {
    waiting.push(() => answer({ ok: true, result: { ...slept, tookUs: Number(request.args['id']) } }));
    if (waiting.length === 3) for (const reply of waiting.toReversed()) reply();
  }).listen();
  const asked = ['1', '2', '3'].map((id) => client.ask('sandbox.pause', { id }, 5000));
  expect((await Promise.all(asked)).map((slept) => slept.tookUs)).toEqual([1, 2, 3]);
});

it('fails a journaled verb in flight as retryable when hostd is killed', async () => {
  const first = await new StandIn(() => {}).listen();
  const asked = client.change(intent(['sandbox.start']), 'sandbox.start', { id }, 5000).catch((e: unknown) => e);
  await expect.poll(() => first.seen.length).toBe(1);
  await first.stop();
  expect(await asked).toMatchObject({ code: 'unavailable', retryable: true });
  const second = await new StandIn((_request, answer) => answer({ ok: true, result: {} })).listen();
  await client.change(intent(['sandbox.start']), 'sandbox.start', { id }, 5000);
  expect(second.seen.length).toBe(1);
});

it('asks the successor of a killed hostd again for what needs no intent, so that no wake fails by a restart', async () => {
  const first = await new StandIn(() => {}).listen();
  const asked = client.ask('sandbox.resume', { id }, 5000);
  await expect.poll(() => first.seen.length).toBe(1);
  await first.stop();
  const second = await new StandIn((_request, answer) => answer({ ok: true, result: { already: true } })).listen();
  expect(await asked).toEqual({ already: true });
  expect(second.seen.map(({ verb }) => verb)).toEqual(['sandbox.resume']);
});

it('gives up at the caller’s own deadline when no hostd is there, and says where it looked', async () => {
  const error = await client.ask('sandbox.pause', { id }, 100).catch((e: unknown) => e);
  expect(error).toMatchObject({ code: 'unavailable', retryable: true, message: expect.stringContaining(path) });
});

it('names the timer when hostd says nothing', async () => {
  await new StandIn(() => {}).listen();
  const expected = { code: 'deadline_exceeded', details: { timer: 'hostd sandbox.resume' } };
  await expect(client.ask('sandbox.resume', { id }, 50)).rejects.toMatchObject(expected);
});

it('refuses the hostd of another node', async () => {
  await new StandIn(() => {}, 'ffffff').listen();
  const asked = client.ask('sandbox.resume', { id }, 1000);
  await expect(asked).rejects.toMatchObject({
    retryable: false,
    cause: { message: expect.stringContaining('serves scope ffffff') },
  });
});

it('tells hostd’s errors in our words', async () => {
  const table = [
    ['bad_request', 'internal'],
    ['not_found', 'not_found'],
    ['already_exists', 'conflict'],
    ['busy', 'unavailable'],
    ['no_space', 'no_capacity'],
    ['deadline', 'deadline_exceeded'],
    ['unsupported', 'not_implemented'],
    ['host_error', 'internal'],
  ] as const;
  await new StandIn(({ args }, answer) =>
    answer({ ok: false, error: { code: args['id'], message: 'why', retryable: true } }),
  ).listen();
  for (const [hostdCode, code] of table) {
    const expected = { code, retryable: true, message: 'hostd sandbox.pause: why', details: { hostdCode } };
    await expect(client.ask('sandbox.pause', { id: hostdCode }, 1000)).rejects.toMatchObject(expected);
  }
});

const journaled: readonly JournaledVerb[] = [
  'disk.create',
  'disk.delete',
  'net.create',
  'net.delete',
  'sandbox.create',
  'sandbox.start',
  'sandbox.kill',
  'sandbox.delete',
];
const args = { id, slot: 1 } as never; // the stand-in does not look at arguments

it.each(journaled)('does not send %s without a journaled intent that covers it', async (verb) => {
  const standIn = await new StandIn((_request, answer) => answer({ ok: true, result: {} })).listen();
  const others = journaled.filter((other) => other !== verb);
  await expect(client.change(intent(others), verb, args, 1000)).rejects.toThrow(/without a journaled intent/);
  await expect(client.change(intent([verb], 'instance2' as InstanceId), verb, args, 1000)).rejects.toThrow(
    /with an intent for instance/,
  );
  await expect(client.ask(verb as unknown as FreeVerb, args, 1000)).rejects.toThrow(/without a journaled intent/); // the types forbid it already
  expect(standIn.seen).toEqual([]);
});

it('lets no verb pass without an intent but those that read, ready the node, pause and wake', () => {
  expect(needsIntent('sandbox.pause')).toBe(false);
  expect(needsIntent('volume.attach')).toBe(true);
  expect(needsIntent('host.purge')).toBe(true);
  expect(needsIntent('a verb of a later hostd')).toBe(true);
});
