import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { withLock } from './cache.ts';
import { CommandFailed } from '../command.ts';
import { plan, startable } from './plan.ts';
import { progressOn, type Out, type Progress } from './progress.ts';
import type { Step } from './step.ts';

/** A step that failed. The message is complete for a person: what failed, the end of the log, what to do. */
export class SetupFailed extends Error {
  readonly stepId: string;
  /** What was thrown. Not `cause`: the message tells it already, in its place. */
  readonly thrown: unknown;

  constructor(stepId: string, message: string, thrown?: unknown) {
    super(message);
    this.name = 'SetupFailed';
    this.stepId = stepId;
    this.thrown = thrown;
  }
}

export interface RunOptions {
  readonly cacheDir: string;
  readonly out: Out;
  readonly heavyMax?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Makes everything in `wanted` present; gives the ids of the steps that had to run. Independent steps run side by side.
 * After a failure no further step starts, those under way end, and the first failure is thrown: what is done stays done.
 */
export async function runSteps(
  steps: readonly Step[],
  wanted: readonly string[],
  options: RunOptions,
): Promise<readonly string[]> {
  const chosen = plan(steps, wanted, await presentOf(steps));
  if (chosen.kind === 'unknown-step')
    throw new Error(`the step "${chosen.id}" that ${chosen.neededBy} needs is not defined`);
  if (chosen.kind === 'cycle') throw new Error(`these steps need each other in a circle: ${chosen.path.join(' → ')}`);
  if (chosen.run.length === 0) return [];

  const byId = new Map(steps.map((step) => [step.id, step]));
  const done = new Set<string>();
  const running = new Map<string, Promise<void>>();
  const failures: SetupFailed[] = [];
  const progress = progressOn(options.out);
  try {
    while (done.size < chosen.run.length) {
      const starting =
        failures.length > 0 || options.signal?.aborted
          ? []
          : startable(steps, chosen.run, { done, running: new Set(running.keys()) }, options.heavyMax ?? 2);
      for (const id of starting) {
        const step = byId.get(id);
        if (step === undefined) throw new Error(`the plan names "${id}", which is no step`);
        const work = runOne(step, options, progress).then(
          () => void done.add(id),
          (error: unknown) => void failures.push(asFailure(step, error)),
        );
        running.set(
          id,
          work.finally(() => void running.delete(id)),
        );
      }
      if (running.size === 0) break;
      await Promise.race(running.values());
    }
  } finally {
    progress.close();
  }
  options.signal?.throwIfAborted();
  if (failures[0] !== undefined) throw failures[0];
  return chosen.run;
}

async function presentOf(steps: readonly Step[]): Promise<Set<string>> {
  const answers = await Promise.all(steps.map(async (step) => ({ id: step.id, present: await step.present() })));
  return new Set(answers.filter((answer) => answer.present).map((answer) => answer.id));
}

async function runOne(step: Step, options: RunOptions, progress: Progress): Promise<void> {
  const logPath = join(options.cacheDir, 'logs', `${step.id}-${step.key}.log`);
  await mkdir(join(options.cacheDir, 'logs'), { recursive: true, mode: 0o755 });
  const tell = (line: string): void => progress.told(step.title, line);
  const { signal } = options;
  const lock = { waiting: () => tell('another torpor is making it; waiting'), deadlineMs: step.deadlineMs, signal };
  progress.started(step.title);
  try {
    await withLock(join(options.cacheDir, 'locks', `${step.id}-${step.key}`), lock, async () => {
      if (await step.present()) return; // whoever held the lock has made it
      await rm(logPath, { force: true });
      await step.run({ logPath, signal, tell });
      if (!(await step.present())) throw new Error('it ended well, but its result is not there');
    });
    progress.ended(step.title, 'done');
  } catch (error) {
    progress.ended(step.title, signal?.aborted ? 'interrupted' : 'failed');
    throw error;
  }
}

function asFailure(step: Step, error: unknown): SetupFailed {
  const found =
    error instanceof CommandFailed ? [indent(error.tail), error.logPath && `Whole log: ${error.logPath}`] : [];
  const why = error instanceof Error ? error.message : String(error);
  const lines = [`${step.title} failed: ${why}`, ...found, `Next: ${step.next}`];
  return new SetupFailed(step.id, lines.filter(Boolean).join('\n'), error);
}

function indent(text: string): string {
  return text.replaceAll(/^/gm, '  | ');
}
