import type { SwapArea } from '@torpor/contracts';
import { describe, expect, it } from 'vitest';
import { mayPageOut, swapToMake } from './swap.ts';

function area(atRest: SwapArea['atRest'], kind: SwapArea['kind'] = 'host'): SwapArea {
  return { kind, device: `/dev/${atRest}`, sizeMib: 1024, usedMib: 0, atRest };
}

describe('paging out', () => {
  it('is allowed where nothing readable reaches a disk', () => {
    for (const kind of ['auto', 'zram', 'crypt'] as const) {
      expect(mayPageOut(kind, [area('memory', 'zram'), area('encrypted')])).toEqual({ kind: 'may' });
    }
  });

  it('wants consent for a disk that can be read, or that nobody knows of, even beside one that cannot', () => {
    for (const atRest of ['plain', 'unknown'] as const) {
      const verdict = mayPageOut('auto', [area('memory', 'zram'), area(atRest)]);
      expect(verdict).toMatchObject({ kind: 'may not', reason: expect.stringContaining(`/dev/${atRest}`) });
      expect(mayPageOut('host', [area(atRest)])).toEqual({ kind: 'may' });
      expect(mayPageOut('file', [area(atRest, 'file')])).toEqual({ kind: 'may' });
    }
  });

  it('does not take what somebody else has consented to for its own', () => {
    expect(mayPageOut('auto', [area('plain', 'file')]).kind).toBe('may not');
  });

  it('says so where the swap is full, all areas together', () => {
    const full = { ...area('encrypted'), usedMib: 1020 };
    const reason = 'the swap of this host is full, or nearly: 1020 of 1024 MiB are used';
    for (const kind of ['auto', 'host', 'file'] as const)
      expect(mayPageOut(kind, [full])).toEqual({ kind: 'may not', reason });
    expect(mayPageOut('auto', [full, area('memory', 'zram')])).toEqual({ kind: 'may' });
  });

  it('says so where there is no swap, or it is turned off', () => {
    expect(mayPageOut('auto', [])).toMatchObject({ reason: 'this host has no swap' });
    expect(mayPageOut('none', [area('encrypted')]).kind).toBe('may not');
  });
});

describe('swap to make', () => {
  it('is never a plain file unless that was asked for', () => {
    expect(swapToMake('auto')).toEqual(['crypt', 'zram']);
    expect(swapToMake('file')).toEqual(['file']);
    expect([swapToMake('host'), swapToMake('none')]).toEqual([[], []]);
  });
});
