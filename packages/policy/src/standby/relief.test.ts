import { InstanceId } from '@torpor/contracts';
import { array, assert, boolean, constantFrom, double, integer, property, record } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { relieve, type HostMemory, type Slumber } from './relief.ts';

const NOW = 10 * 3_600_000;
const MINUTE = 60_000;

function host(free: number, more: Partial<HostMemory> = {}): HostMemory {
  return { memoryMib: 1_000, memoryFreeMib: free * 1_000, memoryPressure: 0, pagesOut: true, ...more };
}

function sleeper(id: string, idleMs: number, more: Partial<Slumber> = {}): Slumber {
  const instanceId = InstanceId.parse(`i${id.padEnd(11, '0')}`);
  return { instanceId, depth: 'paused', lastUsedAtMs: NOW - idleMs, leanFailed: false, ...more };
}

const young = sleeper('young', 2 * MINUTE);
const old = sleeper('old', 60 * MINUTE);

describe('relief', () => {
  it('leaves sleepers alone while there is enough', () => {
    expect(relieve(host(0.5), [young, old], NOW)).toBeUndefined();
  });

  it('pages out who was not used for longest, when memory is short or somebody waits for it', () => {
    expect(relieve(host(0.1), [young, old], NOW)).toBe(old.instanceId);
    expect(relieve(host(0.5, { memoryPressure: 0.2 }), [young, old], NOW)).toBe(old.instanceId);
  });

  it('takes the one that is quicker to wake of two that slept about as long', () => {
    const slow = sleeper('slow', 65 * MINUTE, { leanWakeMs: 40 });
    const quick = sleeper('quick', 60 * MINUTE, { leanWakeMs: 4 });
    expect(relieve(host(0.1), [slow, quick, old], NOW)).toBe(quick.instanceId);
  });

  it('asks nobody who is paged out already, nor on a host that pages nothing out', () => {
    const lean = sleeper('lean', 60 * MINUTE, { depth: 'lean' });
    expect(relieve(host(0.05), [lean], NOW)).toBeUndefined();
    expect(relieve(host(0.05), [lean, young], NOW)).toBe(young.instanceId);
    expect(relieve(host(0.05, { pagesOut: false }), [young, old], NOW)).toBeUndefined();
  });

  it('never asks one that was tried in vain, nor for what is no relief', () => {
    const sleepers = array(
      record({
        instanceId: constantFrom(young.instanceId, old.instanceId),
        depth: constantFrom('paused' as const, 'lean' as const),
        lastUsedAtMs: integer({ min: 0, max: NOW + 1_000 }),
        leanFailed: boolean(),
      }),
      { maxLength: 6 },
    );
    const memory = record({
      memoryMib: integer({ min: 1, max: 100_000 }),
      memoryFreeMib: integer({ min: 0, max: 100_000 }),
      memoryPressure: double({ min: 0, max: 1, noNaN: true }),
      pagesOut: boolean(),
    });
    assert(
      property(memory, sleepers, (at, all) => {
        const asked = relieve(at, all, NOW);
        if (asked === undefined) return;
        const chosen = all.filter(({ instanceId }) => instanceId === asked);
        expect(chosen.some(({ depth, leanFailed }) => depth === 'paused' && !leanFailed)).toBe(true);
        expect(at.pagesOut).toBe(true);
      }),
    );
  });
});
