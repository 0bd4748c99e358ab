/**
 * What a node's report means, held against the record. Pure: it decides, and `heartbeat.ts` acts.
 *
 * An instance is *unwanted* only if the record says so: there is an ending for it. One that no record knows is an *orphan* and is left alone, and one of a
 * greater generation than the record has is the record's to catch up with: a database restored from an older copy must not cost anybody a sandbox.
 */
import type { Generation, InstanceId, InstanceReport, WakeBudget } from '@torpor/contracts';
import type { Ending, Holding, Incarnation } from '@torpor/store';
import { isDueForRecord } from './use-steps.ts';

export interface Verdict {
  readonly unwanted: readonly (Incarnation & { readonly why: string; readonly keep?: readonly string[] })[];
  readonly orphans: readonly InstanceReport[];
  /** Ready in the record, and not on the node. */
  readonly missing: readonly Holding[];
  /** Ready in the record; the node says that it is broken. */
  readonly broken: readonly { readonly sandbox: Holding; readonly reason: string }[];
  /** They go by another idle policy or wake budget than the record, or have not heard of the generation that it has given them. */
  readonly misled: readonly Holding[];
  /** They have heard of a greater generation than the record has. Only the record gives these, so it has forgotten one. */
  readonly ahead: readonly { readonly sandbox: Holding; readonly generation: Generation }[];
  /** Their latest use is to be written down. */
  readonly used: readonly (Incarnation & { readonly lastUsedAtMs: number })[];
}

/** Reported instances that are not what the record wants here: only of these need the endings be known. */
export function strangers(reported: readonly InstanceReport[], onNode: readonly Holding[]): InstanceId[] {
  const wanted = new Map(onNode.map((one) => [one.instanceId, one.generation]));
  return reported.filter((one) => wanted.get(one.instanceId) !== one.generation).map((one) => one.instanceId);
}

export function judge(
  reported: readonly InstanceReport[],
  record: { readonly onNode: readonly Holding[]; readonly endings: readonly Ending[]; readonly nowMs: number },
): Verdict {
  const wanted = new Map(record.onNode.map((sandbox) => [sandbox.instanceId, sandbox]));
  const endings = new Map(record.endings.map((ending) => [keyOf(ending), ending]));
  const present = reported.filter((report) => report.state !== 'deleting' && report.state !== 'deleted');
  const known = present.flatMap((report) => {
    const sandbox = wanted.get(report.instanceId);
    return sandbox && isHeld(report, sandbox, endings) ? [{ report, sandbox }] : [];
  });
  const held = new Set(known.map(({ report }) => report));
  const strange = present.filter((report) => !held.has(report));
  const ids = new Set(known.map(({ sandbox }) => sandbox.instanceId));
  return {
    unwanted: strange.flatMap((report) => {
      const ending = endings.get(keyOf(report));
      if (!ending) return [];
      const { instanceId, generation, reason: why, keep } = ending;
      return [{ instanceId, generation, why, ...(keep ? { keep } : {}) }];
    }),
    orphans: strange.filter((report) => !endings.has(keyOf(report))),
    missing: record.onNode.filter((sandbox) => sandbox.phase === 'ready' && !ids.has(sandbox.instanceId)),
    broken: known
      .filter(({ report, sandbox }) => report.state === 'failed' && sandbox.phase === 'ready')
      .map(({ report, sandbox }) => ({ sandbox, reason: report.reason ?? 'its node says that it has failed' })),
    misled: known
      .filter(({ sandbox }) => sandbox.phase !== 'failed')
      .filter(({ report, sandbox }) => isBehind(report, sandbox))
      .map(({ sandbox }) => sandbox),
    ahead: known
      .filter(({ report, sandbox }) => sandbox.phase === 'ready' && report.generation > sandbox.generation)
      .map(({ report: { generation }, sandbox }) => ({ sandbox, generation })),
    used: known
      .filter(({ report, sandbox }) => isDueForRecord(report.lastUsedAtMs, sandbox, record.nowMs))
      .map(({ report, sandbox: { instanceId, generation } }) => ({
        instanceId,
        generation,
        lastUsedAtMs: report.lastUsedAtMs,
      })),
  };
}

/** Of another generation it is the same instance: either the record or the node is behind. One that was replaced has an ending, and an id of its own besides. */
function isHeld(report: InstanceReport, sandbox: Holding, endings: ReadonlyMap<string, Ending>): boolean {
  return report.generation === sandbox.generation || !endings.has(keyOf(report));
}

function isBehind(report: InstanceReport, sandbox: Holding): boolean {
  if (report.generation !== sandbox.generation) return report.generation < sandbox.generation;
  return report.idle !== undefined && !isSamePolicy(report, sandbox);
}

function keyOf(who: Incarnation): string {
  return `${who.instanceId}/${who.generation}`;
}

type Policy = Pick<InstanceReport, 'idle' | 'wakeBudget'>;

function isSamePolicy(a: Policy, b: Policy): boolean {
  return a.idle?.kind === b.idle?.kind && idleMs(a) === idleMs(b) && isSameBudget(a.wakeBudget, b.wakeBudget);
}

function idleMs({ idle }: Policy): number | undefined {
  return idle?.kind === 'after' ? idle.idleMs : undefined;
}

function isSameBudget(a: WakeBudget | undefined, b: WakeBudget | undefined): boolean {
  return a?.kind === b?.kind && (a?.kind !== 'p99' || b?.kind !== 'p99' || a.ms === b.ms);
}
