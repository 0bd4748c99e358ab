/** What is known of one node, for a person. */
import type { NodeDetailView } from '@torpor/api';
import type { SwapArea } from '@torpor/contracts';
import { rows } from './details.ts';
import { ago } from './table.ts';

export function nodeDetails(node: NodeDetailView, nowMs: number): string {
  const { capacity, pool } = node;
  return rows([
    ['node', node.id],
    ['isolation', node.isolation],
    ['templates', node.templates.join(', ')],
    ['memory', `${Math.round(capacity.memoryFreeMib)} of ${Math.round(capacity.memoryMib)} MiB free`],
    ['disk', `${Math.round(capacity.diskFreeMib)} MiB free`],
    ['swap', swapOf(capacity.swap?.areas)],
    [
      'pages out',
      capacity.swap && (capacity.swap.pagesOut ? 'yes' : `no: ${capacity.swap.reason ?? 'it does not say why'}`),
    ],
    ['more instances', String(capacity.slotsFree)],
    ['pool', pool.map(({ template, ready, target }) => `${template} ${ready}/${target}`).join(', ') || 'none'],
    ['sandboxes', `${node.left} live there, ${node.moving} are on their way elsewhere`],
    ['does not travel', staysOf(node)],
    ['takes sandboxes', node.drainingSinceMs === undefined ? 'yes' : 'no: it is being drained'],
    ['data plane', node.url],
    ['heard of', `${ago(node.heardAtMs, nowMs)} ago`],
  ]);
}

/** What a drain leaves there; `undefined`: nothing. */
export function staysOf({ stays: { volumes, snapshots } }: Pick<NodeDetailView, 'stays'>): string | undefined {
  const found = [
    ...(volumes > 0 ? [counted(volumes, 'volume')] : []),
    ...(snapshots > 0 ? [`${counted(snapshots, 'snapshot')} of sandboxes that are no more`] : []),
  ];
  return found.length > 0 ? found.join(', ') : undefined;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** Which kind, how large, and who could read it. */
export function swapOf(areas: readonly SwapArea[] | undefined): string {
  if (areas === undefined) return 'unknown';
  if (areas.length === 0) return 'none';
  return areas
    .map((area) => `${KINDS[area.kind]} at ${area.device}, ${sizeOf(area)}, ${AT_REST[area.atRest]}`)
    .join('; ');
}

const KINDS: Readonly<Record<SwapArea['kind'], string>> = {
  crypt: 'a file under a throw-away key',
  zram: 'zram',
  file: 'a plain file',
  host: "the host's own",
};

const AT_REST: Readonly<Record<SwapArea['atRest'], string>> = {
  encrypted: 'encrypted',
  memory: 'compressed in RAM, never on a disk',
  plain: 'not encrypted',
  unknown: 'not known whether encrypted',
};

function sizeOf({ sizeMib, usedMib }: SwapArea): string {
  return `${(usedMib / 1024).toFixed(1)} of ${(sizeMib / 1024).toFixed(1)} GiB used`;
}
