/** Whether sandboxes may be paged out: there must be room, and their secrets must not reach a disk in the clear unless the operator said so. */
import type { SwapArea, SwapKind } from '@torpor/contracts';

/** Less than this is less than any sandbox gives up. */
const FREE_MIB_MIN = 16;

export type Made = Exclude<SwapArea['kind'], 'host'>;

/** What is to be made where the host has no swap: the first that it can do. */
export function swapToMake(kind: SwapKind): readonly Made[] {
  switch (kind) {
    case 'auto':
      return ['crypt', 'zram'];
    case 'crypt':
    case 'zram':
    case 'file':
      return [kind];
    case 'host':
    case 'none':
      return [];
  }
}

export type PageOutVerdict = { readonly kind: 'may' } | { readonly kind: 'may not'; readonly reason: string };

/** The kernel spreads what it swaps over all areas as it likes, so all must do. */
export function mayPageOut(kind: SwapKind, areas: readonly SwapArea[]): PageOutVerdict {
  if (kind === 'none') return mayNot('paging out is turned off (swap: none)');
  if (areas.length === 0) return mayNot('this host has no swap');
  const sizeMib = sum(areas.map((area) => area.sizeMib));
  const usedMib = sum(areas.map((area) => area.usedMib));
  if (sizeMib - usedMib < FREE_MIB_MIN) {
    return mayNot(
      `the swap of this host is full, or nearly: ${Math.round(usedMib)} of ${Math.round(sizeMib)} MiB are used`,
    );
  }
  if (kind === 'host' || kind === 'file') return { kind: 'may' };
  const readable = areas.find(({ atRest }) => atRest === 'plain' || atRest === 'unknown');
  if (!readable) return { kind: 'may' };
  const how = readable.atRest === 'plain' ? 'is not encrypted' : 'may not be encrypted';
  return mayNot(
    `this host swaps to ${readable.device}, which ${how}: secrets of sandboxes would lie readable on its disk. Turn it off, encrypt it, or accept it with "torpor up --swap host"`,
  );
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}

function mayNot(reason: string): PageOutVerdict {
  return { kind: 'may not', reason };
}
