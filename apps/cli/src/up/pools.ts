import type { NodeAgentConfig } from '@torpor/config';

/** The shape that a Blaxel create without sizes asks for; the pool is kept for it. Must equal what `dialects` asks for (a test holds them together). */
export function defaultPools(size: number): NodeAgentConfig['pools'] {
  return [{ template: 'base', shape: { memoryMib: 4096, cpus: 2, diskMib: 4096, pids: 1024 }, size }];
}
