/**
 * What the set-up has to do, decided purely. A *step* makes one thing that the machine lacks (a binary, a package, a
 * template). `needs` are steps whose result it must have to run; `after` are steps it only does better to follow (the
 * Go build cache they fill, say). A step whose result is present is left out, and so is what only it needed.
 */
export interface StepShape {
  readonly id: string;
  readonly needs: readonly string[];
  readonly after: readonly string[];
  /** Heavy steps keep a processor busy; few run at a time. */
  readonly heavy: boolean;
}

export type Plan =
  | { readonly kind: 'plan'; readonly run: readonly string[] }
  | { readonly kind: 'unknown-step'; readonly id: string; readonly neededBy: string }
  | { readonly kind: 'cycle'; readonly path: readonly string[] };

/** Which steps have to run so that everything in `wanted` is there; in an order that respects `needs`. */
export function plan(steps: readonly StepShape[], wanted: readonly string[], present: ReadonlySet<string>): Plan {
  const byId = new Map(steps.map((step) => [step.id, step]));
  const run: string[] = [];
  const open: string[] = [];

  function visit(id: string, neededBy: string): Plan | null {
    if (present.has(id) || run.includes(id)) return null;
    const step = byId.get(id);
    if (step === undefined) return { kind: 'unknown-step', id, neededBy };
    if (open.includes(id)) return { kind: 'cycle', path: [...open.slice(open.indexOf(id)), id] };
    open.push(id);
    for (const need of step.needs) {
      const refusal = visit(need, id);
      if (refusal !== null) return refusal;
    }
    open.pop();
    run.push(id);
    return null;
  }

  for (const id of wanted) {
    const refusal = visit(id, 'the caller');
    if (refusal !== null) return refusal;
  }
  return { kind: 'plan', run };
}

export interface Progress {
  readonly done: ReadonlySet<string>;
  readonly running: ReadonlySet<string>;
}

/** Which of the planned steps may start now: everything before them is done and a place is free. */
export function startable(
  steps: readonly StepShape[],
  run: readonly string[],
  progress: Progress,
  heavyMax: number,
): string[] {
  const byId = new Map(steps.map((step) => [step.id, step]));
  const planned = new Set(run);
  let heavy = [...progress.running].filter((id) => byId.get(id)?.heavy === true).length;
  const starting: string[] = [];
  for (const id of run) {
    const step = byId.get(id);
    if (step === undefined || progress.done.has(id) || progress.running.has(id)) continue;
    const waitsFor = [...step.needs, ...step.after].filter((other) => planned.has(other) && !progress.done.has(other));
    if (waitsFor.length > 0) continue;
    if (step.heavy && heavy >= heavyMax) continue;
    if (step.heavy) heavy += 1;
    starting.push(id);
  }
  return starting;
}
