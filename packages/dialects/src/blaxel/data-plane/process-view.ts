import type { GuestProcess } from './guest-calls.ts';

/** A process as this dialect tells it, without its output. */
export interface BlaxelProcess {
  readonly pid: string;
  readonly name: string;
  readonly command: string;
  readonly status: 'running' | 'completed' | 'failed' | 'killed' | 'stopped';
  readonly startedAt: string;
  /** '' while it runs. */
  readonly completedAt: string;
  /** 0 while it runs, -1 when a signal ended it. */
  readonly exitCode: number;
  readonly workingDir: string;
  readonly keepAlive: boolean;
  readonly stdin: boolean;
  readonly restartCount: number;
}

export function toBlaxelProcess(process: GuestProcess): BlaxelProcess {
  return {
    pid: String(process.pid),
    name: process.name,
    command: process.command,
    status: statusOf(process),
    startedAt: httpDate(process.startedAt),
    completedAt: process.exitedAt ? httpDate(process.exitedAt) : '',
    exitCode: process.status === 'running' ? 0 : process.signal ? -1 : (process.exitCode ?? -1),
    workingDir: process.cwd,
    keepAlive: process.keepAlive,
    stdin: process.stdin,
    restartCount: process.restarts,
  };
}

/** Asked to end: stopped, or killed when nothing but SIGKILL helped. Its time was up: killed. Else by its exit code. */
function statusOf(process: GuestProcess): BlaxelProcess['status'] {
  if (process.status === 'running') return 'running';
  if (process.endReason === 'timeout') return 'killed';
  if (process.endReason === 'signal') return process.signal?.replace(/^SIG/, '') === 'KILL' ? 'killed' : 'stopped';
  return process.exitCode === 0 && !process.signal ? 'completed' : 'failed';
}

/** RFC 1123 in GMT. */
function httpDate(stamp: string): string {
  return new Date(stamp).toUTCString();
}
