/** The depths of sleep, and proof from the kernel that a sandbox has reached one. */
import { existsSync } from 'node:fs';
import { setTimeout as after } from 'node:timers/promises';
import { api } from './api.ts';
import { cgroupFile, isFrozen } from './host.ts';
import type { Made } from './sandboxes.ts';
import type { Stack } from './stack.ts';

export type Tier = 'paused' | 'lean' | 'stored';
export const TIERS: readonly Tier[] = ['paused', 'lean', 'stored'];

const PATIENCE_MS = 60_000;

/** Whether this host can put a sandbox there at all: without swap none becomes lean. */
export async function isOffered(stack: Stack, tier: Tier, probe: Made): Promise<boolean> {
  return tier !== 'lean' || (await api(stack).lean(probe.name)).state === 'lean';
}

/** Puts a sandbox to sleep so deep, and answers how long whoever asked has waited, ms. */
export async function toSleep(stack: Stack, { name, hostId }: Made, tier: Tier): Promise<number> {
  const calls = api(stack);
  const began = performance.now();
  const answer = await { paused: calls.pause, lean: calls.lean, stored: calls.store }[tier](name);
  const tookMs = performance.now() - began;
  const isThere = tier === 'stored' ? !runs(stack, hostId) : await isFrozen(stack.scope, hostId);
  if (!isThere) throw new Error(`${name} did not become ${tier}: ${JSON.stringify(answer)}`);
  return tookMs;
}

/** Resolves as soon as the save of a sandbox has begun, for which it is thawed; false when it is stored already. */
export async function saveBegins(stack: Stack, { name, hostId }: Made): Promise<boolean> {
  const until = performance.now() + PATIENCE_MS;
  while (runs(stack, hostId)) {
    if (!(await isFrozen(stack.scope, hostId).catch(() => true))) return true; // it may be let go just now
    if (performance.now() > until) throw new Error(`the save of ${name} did not begin within ${PATIENCE_MS} ms`);
    await after(1);
  }
  return false;
}

function runs(stack: Stack, hostId: string): boolean {
  return existsSync(cgroupFile(stack.scope, hostId, 'memory', ''));
}
