/** How long the caller of a process waits for it, and how that is told when it was too long. */
import { Failure } from '@torpor/kernel';
import type { Exchange } from './exchange.ts';
import type { GuestProcess } from './guest-calls.ts';

/** What the guest may take to answer, beyond what it was asked to wait. */
export const HEAD_MS = 30_000;
/** The longest single wait that the guest takes; a longer one is several. */
export const WAIT_SLICE_MS = 60 * 60_000;

/** When the caller's patience ends, by the clock that never steps back. */
export interface Deadline {
  readonly atMs: number;
  readonly waitMs: number;
}

export function deadlineOf(exchange: Exchange, waitMs: number | undefined): Deadline | undefined {
  return waitMs === undefined ? undefined : { atMs: exchange.clock.monotonicMs() + waitMs, waitMs };
}

export function leftOf(exchange: Exchange, deadline: Deadline | undefined): number {
  return deadline === undefined ? Number.POSITIVE_INFINITY : Math.max(0, deadline.atMs - exchange.clock.monotonicMs());
}

export function sliceMs(exchange: Exchange, deadline: Deadline | undefined): number {
  return Math.round(Math.min(leftOf(exchange, deadline), WAIT_SLICE_MS));
}

export function timedOut(process: GuestProcess, deadline: Deadline): Failure {
  return new Failure(
    'unprocessable',
    `process '${process.name}' (pid ${process.pid}) did not end within its timeout of ${deadline.waitMs / 1000} s; it is still running`,
  );
}
