import type { StepShape } from './plan.ts';

/** What a running step is given. */
export interface Workplace {
  /** Where the output of its programs goes. */
  readonly logPath: string;
  readonly signal: AbortSignal | undefined;
  /** One line for the person who waits. */
  readonly tell: (line: string) => void;
}

export interface Step extends StepShape {
  /** What a person reads: a thing, not an action ("gVisor's runsc"). */
  readonly title: string;
  /** Changes whenever the result would; names the lock and the log. */
  readonly key: string;
  readonly deadlineMs: number;
  /** What to do when it fails for a reason that its log does not make plain. */
  readonly next: string;
  /** Whether the result is there already: cheap, for it is asked at every start. */
  readonly present: () => Promise<boolean>;
  /** Makes the result, whole or not at all. */
  readonly run: (place: Workplace) => Promise<void>;
}
