/** `/health` and `/network/process/{pid}/ports`. */
import { Failure } from '@torpor/kernel';
import { z } from 'zod';
import { processPath } from './addresses.ts';
import { answerJson, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { ask, GuestProcess } from './guest-calls.ts';

const Health = z.object({ ready: z.boolean(), version: z.string(), uptimeMs: z.number() });

export async function health(exchange: Exchange): Promise<DataPlaneAnswer> {
  const { ready, version, uptimeMs } = await ask(exchange.guest, Health, 'GET', '/v1/health', undefined, {
    signal: exchange.request.signal,
  });
  const uptimeSeconds = Math.floor(uptimeMs / 1000);
  return answerJson({
    status: ready ? 'ok' : 'starting',
    version,
    gitCommit: '',
    buildTime: '',
    goVersion: '',
    os: 'linux',
    arch: 'amd64',
    startedAt: new Date(exchange.clock.nowMs() - uptimeMs).toISOString(),
    uptime: `${uptimeSeconds}s`,
    uptimeSeconds,
    upgradeCount: 0,
    lastUpgrade: { status: 'none', step: 'none', version: '' },
  });
}

const Ports = z.object({
  ports: z.array(
    z.object({ port: z.number(), address: z.string(), pid: z.number().nullish(), processId: z.string().nullish() }),
  ),
});

/** The ports that a process listens on, by its pid or name, those of its children included. */
export async function listPorts(exchange: Exchange): Promise<DataPlaneAnswer> {
  const asked = exchange.parameters['pid'] ?? '';
  const { signal } = exchange.request;
  const [owner, { ports }] = await Promise.all([
    findOwner(exchange, asked),
    ask(exchange.guest, Ports, 'GET', '/v1/ports', undefined, { signal }),
  ]);
  const pid = owner?.pid ?? Number(asked);
  const theirs = ports.filter((port) => port.pid === pid || (owner !== undefined && port.processId === owner.id));
  return answerJson({
    pid,
    ports: theirs.map((port) => ({
      port: port.port,
      localPort: port.port,
      localAddr: port.address,
      pid: port.pid ?? pid,
      protocol: 'tcp',
      state: 'LISTEN',
    })),
  });
}

/** The process of ours with that pid or name. A pid that is not ours may still be a child's. */
async function findOwner(exchange: Exchange, asked: string): Promise<GuestProcess | undefined> {
  try {
    return await ask(exchange.guest, GuestProcess, 'GET', processPath(asked), undefined, {
      signal: exchange.request.signal,
    });
  } catch (error) {
    if (error instanceof Failure && error.code === 'not_found' && /^\d{1,9}$/.test(asked)) return undefined;
    throw error;
  }
}
