/**
 * The node's record of what is (DESIGN §2): every change on the host is *intended* here and fsynced, then done, then written as done.
 * Pause and wake are not journaled: the kernel can be asked. This file is the only place that makes an `Intent`.
 */
import { InstanceId, VolumeId, type Generation, type InstanceEvent } from '@torpor/contracts';
import type { Clock } from '@torpor/kernel';
import { runSteps, type Intent, type Step } from '@torpor/runtime';
import { fold, type Entry } from './entry.ts';
import { foldVolume, VolumeLine, type VolumeAct, type VolumeEntry } from './volume-lines.ts';
import { noFailpoints, type Failpoints } from './failpoints.ts';
import { historyOf } from './history.ts';
import { readHint, type Hint } from './hint.ts';
import {
  readLines,
  readRows,
  type Claim,
  type DoneLine,
  type IntentLine,
  type Line,
  type Process,
  type Policy,
  type SnapshotNote,
  type Spec,
} from './lines.ts';
import type { JournalStore } from './store.ts';

/** What is done to an instance that somebody has: no birth, and not its end. */
type Keeping = 'store' | 'snapshot' | 'release' | 'restore' | 'boot' | 'forget' | 'leave' | 'stay' | 'copy';
type KeepingIntent = Extract<IntentLine, { operation: Keeping }>;
type Without<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
type KeepingDone = Exclude<DoneLine, { operation: 'create' | 'claim' }>;
/** The same in the words of whoever asks: the journal adds the rest. */
export type IntentWords = Without<KeepingIntent, 'kind' | 'atMs' | 'steps'>;
export type ArrivedWords = Omit<Extract<Line, { kind: 'arrived' }>, 'kind' | 'atMs'>;
export type DoneWords = Without<KeepingDone, 'kind' | 'atMs'>;

export class Journal {
  readonly #store: JournalStore;
  readonly #clock: Clock;
  readonly #failpoints: Failpoints;

  constructor(options: { store: JournalStore; clock: Clock; failpoints?: Failpoints }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#failpoints = options.failpoints ?? noFailpoints;
  }

  intendCreate(hostId: InstanceId, spec: Spec, steps: readonly Step[]): Promise<Intent> {
    const line = { kind: 'intent', operation: 'create', atMs: this.#clock.nowMs(), steps: names(steps), spec } as const;
    return this.#intend(hostId, line, true);
  }

  intendClaim(hostId: InstanceId, claim: Claim): Promise<Intent> {
    const line = {
      kind: 'intent',
      operation: 'claim',
      atMs: this.#clock.nowMs(),
      steps: [] as string[],
      claim,
    } as const;
    return this.#intend(hostId, line, false);
  }

  /** Written again after a restart: twice is once. Makes the journal of an instance that has none. */
  intendDestroy(
    hostId: InstanceId,
    reason: string,
    steps: readonly Step[],
    keep: readonly string[] = [],
  ): Promise<Intent> {
    const line = {
      kind: 'intent',
      operation: 'destroy',
      atMs: this.#clock.nowMs(),
      steps: names(steps),
      reason,
      ...(keep.length > 0 ? { keep: [...keep] } : {}),
    } as const;
    return this.#intend(hostId, line, true);
  }

  intendArrive(hostId: InstanceId, spec: Spec, images: readonly string[], steps: readonly Step[]): Promise<Intent> {
    const what = { atMs: this.#clock.nowMs(), steps: names(steps), spec, images: [...images] };
    return this.#intend(hostId, { kind: 'intent', operation: 'arrive', ...what }, true);
  }

  /** From here on it is one of this node's. */
  async arrived(hostId: InstanceId, what: ArrivedWords): Promise<Line> {
    const line: Line = { kind: 'arrived', atMs: this.#clock.nowMs(), ...what };
    await this.#failpoints.hit('journal:arrive:done:before-fsync');
    await this.#append(hostId, line, { durable: true, first: false });
    await this.#failpoints.hit('journal:arrive:done:after-fsync');
    return line;
  }

  async createDone(hostId: InstanceId, process: Process): Promise<void> {
    await this.#done(hostId, { kind: 'done', operation: 'create', atMs: this.#clock.nowMs(), process });
  }

  async claimDone(hostId: InstanceId): Promise<void> {
    await this.#done(hostId, { kind: 'done', operation: 'claim', atMs: this.#clock.nowMs() });
  }

  /** Intends an operation on an instance that is whose it is. The line is what the shelf is to be told. */
  async intend(
    hostId: InstanceId,
    what: IntentWords,
    steps: readonly Step[],
  ): Promise<{ intent: Intent; line: KeepingIntent }> {
    // What Omit left out is put back, which TypeScript cannot see.
    const line = { kind: 'intent', atMs: this.#clock.nowMs(), steps: names(steps), ...what } as KeepingIntent;
    return { intent: await this.#intend(hostId, line, false), line };
  }

  /** `durable`: only what lets go of something, or may not be told twice, waits for the disk. */
  async done(hostId: InstanceId, what: DoneWords, { durable }: { durable: boolean }): Promise<KeepingDone> {
    const line = { kind: 'done', atMs: this.#clock.nowMs(), ...what } as KeepingDone; // as above
    await this.#done(hostId, line, durable);
    return line;
  }

  async damaged(
    hostId: InstanceId,
    image: string,
    { reason, isWhole }: { reason: string; isWhole: boolean },
  ): Promise<Line> {
    const line = { kind: 'damaged', atMs: this.#clock.nowMs(), image, reason, isWhole } as const;
    await this.#append(hostId, line, { durable: true, first: false });
    return line;
  }

  async unmade(hostId: InstanceId, image: string, reason: string): Promise<Line> {
    const line = { kind: 'unmade', atMs: this.#clock.nowMs(), image, reason } as const;
    await this.#append(hostId, line, { durable: true, first: false });
    return line;
  }

  async kept(hostId: InstanceId, image: string, note: SnapshotNote): Promise<Line> {
    const line = { kind: 'kept', atMs: this.#clock.nowMs(), image, note } as const;
    await this.#append(hostId, line, { durable: true, first: false });
    return line;
  }

  async unkept(hostId: InstanceId, image: string): Promise<Line> {
    const line = { kind: 'unkept', atMs: this.#clock.nowMs(), image } as const;
    await this.#append(hostId, line, { durable: true, first: false });
    return line;
  }

  async rewound(hostId: InstanceId, image: string): Promise<Line> {
    const line = { kind: 'rewound', atMs: this.#clock.nowMs(), image } as const;
    await this.#append(hostId, line, { durable: true, first: false });
    return line;
  }

  /** Before anything can happen in an instance whose images were said to be all of it. */
  async lives(hostId: InstanceId, process?: Process): Promise<Line> {
    const line: Line = { kind: 'lives', atMs: this.#clock.nowMs(), ...(process ? { process } : {}) };
    await this.#append(hostId, line, { durable: true, first: false });
    return line;
  }

  async died(hostId: InstanceId, reason: string, ofItself: boolean): Promise<Line> {
    const line = { kind: 'died', atMs: this.#clock.nowMs(), reason, ofItself } as const;
    await this.#append(hostId, line, { durable: true, first: false });
    return line;
  }

  /** Resolves when no older generation can be mistaken for this one any more. */
  raised(hostId: InstanceId, generation: Generation): Promise<void> {
    const line = { kind: 'raised', atMs: this.#clock.nowMs(), generation } as const;
    return this.#append(hostId, line, { durable: true, first: false });
  }

  policyChanged(hostId: InstanceId, policy: Policy): Promise<void> {
    const line = { kind: 'policy', atMs: this.#clock.nowMs(), ...policy } as const;
    return this.#append(hostId, line, { durable: true, first: false });
  }

  failed(hostId: InstanceId, reason: string): Promise<void> {
    return this.#append(hostId, { kind: 'failed', atMs: this.#clock.nowMs(), reason }, { durable: true, first: false });
  }

  hint(hostId: InstanceId, hint: Hint): Promise<void> {
    return this.#store.putHint(hostId, JSON.stringify(hint));
  }

  /** Runs the steps of an intent, in the order they ask for, writing each one down when it has ended. */
  async carryOut(
    intent: Intent,
    steps: readonly Step[],
    observed?: (step: Step, error: unknown) => void,
  ): Promise<void> {
    const written = steps.map((step) => ({
      ...step,
      run: async (proof: Intent) => {
        const point = `journal:${intent.operation}:step:${step.name}`;
        await this.#failpoints.hit(`${point}:before`);
        await step.run(proof);
        await this.#failpoints.hit(`${point}:after`);
        const line = { kind: 'step', operation: intent.operation, atMs: this.#clock.nowMs(), step: step.name } as const;
        await this.#append(intent.instanceId, line, { durable: false, first: false });
      },
    }));
    await runSteps(written, intent, observed);
  }

  /** The last thing that happens to an instance whose snapshots outlive it. */
  async remains(hostId: InstanceId, images: readonly string[]): Promise<void> {
    const line: Line = { kind: 'remains', atMs: this.#clock.nowMs(), images: [...images] };
    await this.#append(hostId, line, { durable: true, first: false });
  }

  /** The last thing that happens to an instance: it leaves no trace. */
  async forget(hostId: InstanceId): Promise<void> {
    await this.#failpoints.hit('journal:forget:before');
    await this.#store.remove(hostId);
    await this.#failpoints.hit('journal:forget:after');
  }

  /** What befell it, as far as it was written down. */
  async history(hostId: InstanceId): Promise<InstanceEvent[]> {
    const text = await this.#store.read(hostId);
    return text === undefined ? [] : historyOf(readLines(text));
  }

  async read(): Promise<readonly { entry: Entry; hint: Hint | undefined }[]> {
    const journals = await this.#store.readAll();
    return journals.map(({ hostId, text, hint }) => {
      try {
        return { entry: fold(hostId, readLines(text)), hint: readHint(hint) };
      } catch (cause) {
        throw new Error(`reading the journal of ${hostId}; look at it by hand before starting the node-agent`, {
          cause,
        });
      }
    });
  }

  /** Of a journal of volumes. The line is what the volume's entry is to be told. */
  async intendVolume(
    volume: VolumeId,
    act: VolumeAct,
    steps: readonly Step[],
  ): Promise<{ intent: Intent; line: VolumeLine }> {
    const line = { kind: 'intent', atMs: this.#clock.nowMs(), steps: names(steps), act } as const;
    const { operation } = act;
    await this.#failpoints.hit(`journal:${operation}:before-fsync`);
    await this.#append(keyOf(volume), line, { durable: true, first: true });
    await this.#failpoints.hit(`journal:${operation}:after-fsync`);
    return { intent: new JournaledIntent(keyOf(volume), operation, line.steps), line };
  }

  /** `operation`: what has ended. */
  async volumeSettled(volume: VolumeId, kind: 'done' | 'left', operation: string): Promise<VolumeLine> {
    const line: VolumeLine = { kind, atMs: this.#clock.nowMs() };
    await this.#failpoints.hit(`journal:${operation}:done:before-fsync`);
    await this.#append(keyOf(volume), line, { durable: true, first: false });
    await this.#failpoints.hit(`journal:${operation}:done:after-fsync`);
    return line;
  }

  forgetVolume(volume: VolumeId): Promise<void> {
    return this.#store.remove(keyOf(volume));
  }

  async readVolumes(): Promise<readonly VolumeEntry[]> {
    const journals = await this.#store.readAll();
    return journals.flatMap(({ hostId, text }) => {
      try {
        const lines = readRows(text).map((row) => VolumeLine.parse(row));
        return foldVolume(VolumeId.parse(hostId), lines) ?? [];
      } catch (cause) {
        throw new Error(`reading the journal of volume ${hostId}; look at it by hand before starting the node-agent`, {
          cause,
        });
      }
    });
  }

  async #intend(hostId: InstanceId, line: IntentLine, first: boolean): Promise<Intent> {
    await this.#failpoints.hit(`journal:${line.operation}:before-fsync`);
    await this.#append(hostId, line, { durable: true, first });
    await this.#failpoints.hit(`journal:${line.operation}:after-fsync`);
    return new JournaledIntent(hostId, line.operation, line.steps);
  }

  async #done(hostId: InstanceId, line: DoneLine, durable = true): Promise<void> {
    await this.#failpoints.hit(`journal:${line.operation}:done:before-fsync`);
    await this.#append(hostId, line, { durable, first: false });
    await this.#failpoints.hit(`journal:${line.operation}:done:after-fsync`);
  }

  #append(hostId: InstanceId, line: Line | VolumeLine, options: { durable: boolean; first: boolean }): Promise<void> {
    return this.#store.append(hostId, `${JSON.stringify(line)}\n`, options);
  }
}

/** Journals are kept by ids of one alphabet; those of volumes lie apart from those of instances. */
function keyOf(volume: VolumeId): InstanceId {
  return InstanceId.parse(volume);
}

function names(steps: readonly Step[]): string[] {
  return steps.map((step) => step.name);
}

class JournaledIntent implements Intent {
  readonly instanceId: InstanceId;
  readonly operation: string;
  readonly #steps: ReadonlySet<string>;

  constructor(instanceId: InstanceId, operation: string, steps: readonly string[]) {
    this.instanceId = instanceId;
    this.operation = operation;
    this.#steps = new Set(steps);
  }

  covers(step: string): boolean {
    return this.#steps.has(step);
  }
}
