import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Stack } from './stack.ts';

/** Event-loop delay p99 of each room since the last look, in ms, from its own `/metrics`. */
export async function eventLoopDelays(stack: Stack): Promise<{ room: string; p99: number }[]> {
  const { ports } = JSON.parse(await readFile(join(stack.stateDir, 'places.json'), 'utf8')) as {
    ports: Record<string, number>;
  }; // written by `up`
  const rooms = { gateway: ports.observeGateway, scheduler: ports.observeScheduler, 'node-agent': ports.observeNode };
  return Promise.all(
    Object.entries(rooms).map(async ([room, port]) => {
      const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      return { room, p99: Number(/^torpor_event_loop_delay_ms\{quantile="0.99"\} (\S+)$/m.exec(text)?.[1]) };
    }),
  );
}

/** One number out of the node-agent's `/metrics`; 0 where the metric was never counted. */
export async function nodeMetric(stack: Stack, pattern: RegExp): Promise<number> {
  const { ports } = JSON.parse(await readFile(join(stack.stateDir, 'places.json'), 'utf8')) as {
    ports: Record<string, number>;
  }; // written by `up`
  const text = await (await fetch(`http://127.0.0.1:${ports.observeNode}/metrics`)).text();
  return Number(pattern.exec(text)?.[1] ?? 0);
}
