/** Processes by (pid, start time): a pid alone may have been given to somebody else since. */
import { readFile } from 'node:fs/promises';
import { setTimeout as after } from 'node:timers/promises';

export interface ProcessName {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/<pid>/stat. */
  readonly startTicks: number;
}

/** Undefined when no such process runs; a zombie does not run. */
export async function nameProcess(pid: number): Promise<ProcessName | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined); // no such process
  if (stat === undefined) return undefined;
  // The command, in parentheses, may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return undefined;
  return { pid, startTicks: Number(fields[19]) };
}

export async function isRunning(name: ProcessName): Promise<boolean> {
  const now = await nameProcess(name.pid);
  return now?.startTicks === name.startTicks;
}

/** Asks it to end, and after `graceMs` makes it. Resolves when it is gone. */
export async function endProcess(
  name: ProcessName,
  options: { signal?: NodeJS.Signals; graceMs: number },
): Promise<void> {
  if (!(await isRunning(name))) return;
  signalProcess(name.pid, options.signal ?? 'SIGTERM');
  if (await goneWithin(name, options.graceMs)) return;
  signalProcess(name.pid, 'SIGKILL');
  if (await goneWithin(name, 5_000)) return;
  throw new Error(
    `process ${name.pid} does not end even by SIGKILL; the kernel holds it (see /proc/${name.pid}/stack)`,
  );
}

async function goneWithin(name: ProcessName, ms: number): Promise<boolean> {
  const until = performance.now() + ms;
  while (performance.now() < until) {
    if (!(await isRunning(name))) return true;
    await after(10);
  }
  return false;
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // It ended between our look and our signal: what we wanted.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
