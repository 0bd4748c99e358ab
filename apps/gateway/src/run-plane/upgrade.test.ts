/** Upgrades that the program inside refuses: its plain answer arrives whole, or the caller hears that it did not. */
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { Generation, newInstanceId, NodeId } from '@torpor/contracts';
import { systemChance, systemClock } from '@torpor/kernel';
import { silentTelemetry } from '@torpor/telemetry';
import { expect, it } from 'vitest';
import type { Ending } from '../front/exchange.ts';
import { NodeConnections } from './node-connections.ts';
import { beginning, listening, open, saying } from './raw-servers.ts';
import { carryUpgrade } from './upgrade.ts';

const HEAD = 'GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n';

/** As much of a gateway as carries upgrades; `endings` are theirs. */
async function gateway(nodePort: number): Promise<{ port: number; endings: Ending[] }> {
  const endings: Ending[] = [];
  const nodes = new NodeConnections({ connectMs: 2_000, keepMs: 10_000 });
  open.push(() => nodes.close());
  const timers = { bodyIdleMs: 10_000, drainMs: 10_000, reachMs: 5_000, lingerMs: 1_000 };
  const carrier = { nodes, clock: systemClock, dataKey: 'key', timers };
  const route = {
    instanceId: newInstanceId(systemChance),
    generation: Generation.parse(1),
    nodeId: NodeId.parse('node-1'),
    nodeUrl: `http://127.0.0.1:${nodePort}`,
  };
  const load = { way: { find: () => route, readAnew: async () => route }, part: 'blaxel', rest: '/x' } as const;
  const server = createServer().on('upgrade', (request, socket, head) => {
    const gone = new AbortController();
    socket.on('error', () => gone.abort()).once('close', () => gone.abort());
    void silentTelemetry().span('test', {}, async (span) => {
      const upgrade = { id: 'r1', span, request, socket, head, signal: gone.signal, notes: {} };
      endings.push(await carryUpgrade(carrier, upgrade, load));
    });
  });
  return { port: await listening(server), endings };
}

/** What a caller hears of its upgrade until its connection is over, and how that came. */
async function upgrade(port: number, heard: (said: string) => void = () => {}) {
  const caller = connect(port, '127.0.0.1');
  open.push(() => caller.destroy());
  let said = '';
  let ended = 'open';
  caller
    .on('data', (bytes: Buffer) => heard((said += bytes.toString())))
    .once('end', () => (ended = 'ended'))
    .once('error', () => (ended = 'broken'));
  caller.write(HEAD);
  await expect.poll(() => ended).not.toBe('open');
  return { said, ended };
}

it.each([
  ['sized', 'FIN'],
  ['chunked', 'FIN'],
  ['sized', 'RST'],
  ['chunked', 'RST'],
  ['ended by the close', 'RST'],
] as const)('a refusal, %s, that breaks off by a %s breaks the caller’s connection', async (kind, how) => {
  const some = Promise.withResolvers<void>();
  const node = saying(beginning(kind), (socket) => {
    void some.promise.then(() => (how === 'FIN' ? socket.destroy() : socket.resetAndDestroy()));
  });
  const { port, endings } = await gateway(await listening(node));
  const caller = await upgrade(port, (said) => said.includes('some') && some.resolve());
  expect(caller).toMatchObject({ ended: 'broken', said: expect.stringContaining('some') });
  await expect.poll(() => endings).toEqual([{ status: 200, outcome: 'broken' }]);
});

it('lets go of a caller that does not', async () => {
  const no = saying('HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno', (socket) => socket.end());
  const { port, endings } = await gateway(await listening(no));
  const caller = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  open.push(() => caller.destroy());
  caller.write(HEAD);
  await expect.poll(() => endings, { timeout: 10_000 }).toEqual([{ status: 403, outcome: 'answered' }]);
});

it.each([
  'HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno',
  'HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n',
  'HTTP/1.1 403 Forbidden\r\n\r\nno',
])('%j arrives whole, and ends in order', async (answer) => {
  const { port, endings } = await gateway(await listening(saying(answer, (socket) => socket.end())));
  const { said, ended } = await upgrade(port);
  expect(ended).toBe('ended');
  expect(said).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n[^]*connection: close\r\n\r\nno$/i);
  await expect.poll(() => endings).toEqual([{ status: 403, outcome: 'answered' }]);
});
