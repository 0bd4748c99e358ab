/** What is known of one sandbox, for a person: times as dates, sizes with units, what it uses apart from what it may. */
import type { SandboxView } from '@torpor/api';
import { budgetOf, tierRows } from './budgets.ts';
import { inUnits } from './copy-progress.ts';
import { ago } from './table.ts';
import { tierOf, wakesFrom } from './tiers.ts';

export function details(view: SandboxView, nowMs: number): string {
  return rows(rowsOf(view, nowMs));
}

/** A line for each that has a text, names and texts below each other. */
export function rows(all: readonly (readonly [name: string, text: string | undefined])[]): string {
  const told = all.filter(([, text]) => text !== undefined);
  const width = Math.max(...told.map(([name]) => name.length)) + 2;
  return told.map(([name, text]) => `${name.padEnd(width)}${text}`).join('\n');
}

function rowsOf(view: SandboxView, nowMs: number): readonly (readonly [string, string | undefined])[] {
  const { shape } = view;
  return [
    ['name', view.name],
    ['display name', view.displayName],
    ['workspace', view.workspace],
    ['state', stateOf(view)],
    ['tier', tierOf(view)],
    ['reason', view.reason],
    ['lost', view.lost && `${view.lost.reason}; found out ${when(view.lost.atMs, nowMs)}`],
    ['wakes from RAM', view.state && wakesFrom('paused', view)],
    ['wakes from swap', view.wakes?.lean && wakesFrom('lean', view)],
    ['wakes from disk', view.state && wakesFrom('stored', view)],
    ['wake budget', budgetOf(view)],
    ...tierRows(view),
    ['memory in use', memoryOf(view)],
    ['images on disk', imagesOf(view, nowMs)],
    [
      'limits',
      `${mib(shape.memoryMib)} memory, ${shape.cpus} CPUs, ${mib(shape.diskMib)} disk, ${shape.pids} processes`,
    ],
    ['sleeps', asleepAfter(view)],
    ['ends', endingOf(view.expiry, nowMs)],
    ['image', view.image],
    ['forked from', view.origin && `${view.origin.name}, ${view.origin.snapshot}`],
    ['template', view.template === view.image.replace(/:[^:/]*$/, '') ? undefined : view.template],
    ['environment', view.envNames.length === 0 ? undefined : view.envNames.join(', ')],
    ['labels', pairs(view.labels)],
    ['url', view.url],
    ['node', view.nodeId],
    ['isolation', view.isolation],
    ['instance', `${view.instanceId}, generation ${view.generation}`],
    ['on the host', view.hostId],
    ['created', `${when(view.createdAtMs, nowMs)}, by ${view.createdBy}`],
    ['last used', when(view.lastUsedAtMs, nowMs)],
  ];
}

export function asleepAfter({ idle }: Pick<SandboxView, 'idle'>): string {
  return idle.kind === 'never' ? 'only when told to' : `after ${span(idle.idleMs)} without use`;
}

function stateOf({ phase, state, because }: SandboxView): string {
  if (phase !== 'ready' || state === undefined) return phase;
  return because === undefined ? state : `${state} (${because})`;
}

function memoryOf({ memoryMib, swapMib = 0 }: SandboxView): string | undefined {
  if (memoryMib === undefined) return undefined;
  return swapMib < 1 ? mib(memoryMib) : `${mib(memoryMib)}, and ${mib(swapMib)} in swap`;
}

function imagesOf({ imageBytes, imageAtMs }: SandboxView, nowMs: number): string | undefined {
  if (imageBytes === undefined || imageAtMs === undefined) return undefined;
  return `${inUnits(imageBytes)}, the newest of ${when(imageAtMs, nowMs)}`;
}

function endingOf({ atMs, maxAgeMs, idleMs }: SandboxView['expiry'], nowMs: number): string {
  const ends = [
    ...(atMs === undefined ? [] : [when(atMs, nowMs)]),
    ...(maxAgeMs === undefined ? [] : [`at the age of ${span(maxAgeMs)}`]),
    ...(idleMs === undefined ? [] : [`after ${span(idleMs)} without use`]),
  ];
  return ends.length === 0 ? 'never by itself' : ends.join(', or ');
}

function pairs(labels: Readonly<Record<string, string>>): string | undefined {
  const all = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  return all.length === 0 ? undefined : all.join(', ');
}

function mib(size: number): string {
  return size >= 1024 ? `${+(size / 1024).toFixed(1)} GiB` : `${Math.round(size)} MiB`;
}

export function span(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : ago(0, ms);
}

function when(atMs: number, nowMs: number): string {
  const date = `${new Date(atMs).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
  return atMs > nowMs ? `${date} (in ${ago(nowMs, atMs)})` : `${date} (${ago(atMs, nowMs)} ago)`;
}
