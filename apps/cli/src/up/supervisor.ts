/**
 * Keeps the services of an installation running: starts them in the order of their needs, restarts what ends, or does no work, with growing pauses;
 * writes one log.
 *
 * Children are sessions of their own, so that a Ctrl-C in the terminal reaches only the supervisor. Their pids are written down: a supervisor that
 * was killed leaves them running; `endOrphans` ends them before the next one starts its own. Sandboxes are nobody's children here; they stay.
 */
import { spawn } from 'node:child_process';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import { explain, withDeadline } from '@torpor/kernel';
import type { LogFile } from './log-file.ts';
import { endProcess, isRunning, nameProcess, type ProcessName } from './processes.ts';
import { countsAsQuick, pauseBeforeRestart, startOrder, type Running, type Service } from './service.ts';
import { PATIENCE, watchOver, type Patience, type Run } from './watch.ts';

/** Who has not answered for so long will hardly end well; those who need it wait. */
const GIVEN_UP_GRACE_MS = 5_000;

export interface ServiceStatus {
  readonly name: string;
  readonly pid: number | undefined;
  readonly restarts: number;
  readonly healthy: boolean;
}

interface Kept {
  readonly service: Service;
  running: Running | undefined;
  restarts: number;
  quickFailures: number;
  lastExit: string | undefined;
}

export class Supervisor {
  readonly #kept: Map<string, Kept>;
  readonly #services: readonly Service[];
  readonly #log: LogFile;
  readonly #pidFile: string;
  readonly #patience: Patience;
  readonly #stopping = new AbortController();
  #writing: Promise<void> = Promise.resolve();
  #stopped: Promise<void> | undefined;

  constructor(services: readonly Service[], options: { log: LogFile; runDir: string; patience?: Patience }) {
    this.#services = services;
    this.#kept = new Map(
      services.map((service) => [
        service.name,
        { service, running: undefined, restarts: 0, quickFailures: 0, lastExit: undefined },
      ]),
    );
    this.#log = options.log;
    this.#pidFile = pidFileOf(options);
    this.#patience = options.patience ?? PATIENCE;
  }

  /**
   * Starts everything; resolves when all is healthy. `told` hears of each service as it becomes so; `afterFoundations` runs once those that need
   * nobody are healthy, before the others start.
   */
  async start({
    told,
    afterFoundations,
  }: {
    told: (name: string, tookMs: number) => void;
    afterFoundations: () => Promise<void>;
  }): Promise<void> {
    for (const [index, group] of startOrder(this.#services).entries()) {
      if (index === 1) await afterFoundations();
      await Promise.all(
        group.map(async (name) => {
          const began = performance.now();
          const kept = this.#keptOf(name);
          this.#spawn(kept);
          await this.#untilHealthy(kept);
          told(name, performance.now() - began);
        }),
      );
    }
    void watchOver(
      () => this.#runs(),
      (run, reason) => void this.#giveUp(run, reason),
      { patience: this.#patience, signal: this.#stopping.signal },
    );
  }

  async status(): Promise<ServiceStatus[]> {
    return Promise.all(
      [...this.#kept.values()].map(async ({ service, running, restarts }) => ({
        name: service.name,
        pid: running?.child.pid,
        restarts,
        healthy: running !== undefined && (await service.isHealthy().catch(() => false)), // unreachable is unhealthy
      })),
    );
  }

  /** Ends the services, those that others need last; also while they still start. Stopping twice is once. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stopAll();
    return this.#stopped;
  }

  async #stopAll(): Promise<void> {
    this.#stopping.abort(new Error('the supervisor is stopping'));
    for (const group of startOrder(this.#services).toReversed()) {
      await Promise.all(group.map((name) => this.#end(this.#keptOf(name))));
    }
    await this.#writing;
  }

  #keptOf(name: string): Kept {
    const kept = this.#kept.get(name);
    if (!kept) throw new Error(`no service is called ${name}`);
    return kept;
  }

  #spawn(kept: Kept): void {
    const { service } = kept;
    const child = spawn(service.command, [...service.args], {
      env: { ...service.env },
      cwd: service.cwd ?? '/',
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...service.user,
    });
    const ended = new Promise<void>((resolve) => {
      for (const event of ['exit', 'error'] as const) child.once(event, () => resolve());
    });
    const running = { child, startedAtMs: performance.now(), ended };
    kept.running = running;
    this.#log.collect(service.name, child.stdout);
    this.#log.collect(service.name, child.stderr);
    child.once('error', (error) => this.#ended(kept, running, `it did not start: ${explain(error)}`));
    child.once('exit', (code, signal) => this.#ended(kept, running, signal ? `signal ${signal}` : `exit code ${code}`));
    this.#log.event('service started', { service: service.name, pid: child.pid });
    this.#writePids();
  }

  #ended(kept: Kept, running: Running, how: string): void {
    if (kept.running !== running) return;
    kept.running = undefined;
    kept.lastExit = how;
    this.#log.event('service ended', { service: kept.service.name, how, pid: running.child.pid });
    if (this.#stopping.signal.aborted) return;
    kept.quickFailures = countsAsQuick(performance.now() - running.startedAtMs) ? kept.quickFailures + 1 : 0;
    void this.#restartLater(kept);
  }

  #runs(): Run[] {
    return [...this.#kept.values()].flatMap(({ service, running }) => (running ? [{ service, running }] : []));
  }

  /** Its end is then met like any other: by a start. */
  async #giveUp({ service, running }: Run, reason: string): Promise<void> {
    const { pid } = running.child;
    this.#log.event('service given up: it runs, but does not work', { service: service.name, pid, reason });
    const name = pid === undefined ? undefined : await nameProcess(pid);
    const failed = (error: unknown) =>
      this.#log.event('service could not be ended', { service: service.name, pid, reason: explain(error) });
    const graceMs = Math.min(service.stop.graceMs, GIVEN_UP_GRACE_MS);
    if (name) await endProcess(name, { ...service.stop, graceMs }).catch(failed);
  }

  async #restartLater(kept: Kept): Promise<void> {
    await after(pauseBeforeRestart(kept.quickFailures), undefined, { ref: true });
    if (this.#stopping.signal.aborted || kept.running) return;
    kept.restarts++;
    this.#spawn(kept);
  }

  async #untilHealthy(kept: Kept): Promise<void> {
    const { service } = kept;
    const work = async (signal: AbortSignal) => {
      while (!signal.aborted) {
        if (kept.running && (await service.isHealthy().catch(() => false))) return; // not yet is no failure
        await after(15);
      }
    };
    try {
      await withDeadline({ name: `${service.name} start`, ms: service.startMs, outer: this.#stopping.signal }, work);
    } catch (error) {
      const last = kept.lastExit ? `; it last ended by ${kept.lastExit}` : '';
      throw new Error(`${service.name} did not become healthy${last}. Its log: ${this.#log.path}`, { cause: error });
    }
  }

  async #end(kept: Kept): Promise<void> {
    const { running } = kept;
    const pid = running?.child.pid;
    const name = pid === undefined ? undefined : await nameProcess(pid);
    const { stop, restSignal } = kept.service;
    if (name) await endProcess(name, restSignal === undefined ? stop : { ...stop, signal: restSignal });
    await running?.ended;
  }

  /** One write after another, each whole: a half-written list would hide an orphan. */
  #writePids(): void {
    const write = async () => {
      const children = await Promise.all([...this.#kept.values()].map(nameChild));
      const aside = `${this.#pidFile}.new`;
      await writeFile(aside, JSON.stringify(children.filter((child) => child !== undefined)));
      await rename(aside, this.#pidFile);
    };
    const failed = (error: unknown) =>
      this.#log.event('the list of children could not be written; it is written again with the next start', {
        reason: explain(error),
      });
    this.#writing = this.#writing.then(write).catch(failed);
  }
}

/** A child as the next supervisor must know it: which process, and how it is asked to end. */
export interface Child extends ProcessName {
  readonly service: string;
  readonly stop: Service['stop'];
}

async function nameChild({ service, running }: Kept): Promise<Child | undefined> {
  const name = running?.child.pid === undefined ? undefined : await nameProcess(running.child.pid);
  return name && { ...name, service: service.name, stop: service.stop };
}

export function pidFileOf({ runDir }: { readonly runDir: string }): string {
  return join(runDir, 'children.json');
}

/** What a killed supervisor left and still runs, by pid and start time; those that others need first. */
export async function orphansOf(pidFile: string): Promise<Child[]> {
  const text = await readFile(pidFile, 'utf8').catch(() => '[]'); // absent: no supervisor ran since the boot
  const children = JSON.parse(text) as Child[]; // our own file, written whole
  const running = await Promise.all(children.map(isRunning));
  return children.filter((_, index) => running[index]);
}

/** Ends them. They get the time to close well: the database, above all. */
export async function endOrphans(pidFile: string): Promise<number> {
  const orphans = (await orphansOf(pidFile)).toReversed();
  for (const orphan of orphans) await endProcess(orphan, orphan.stop);
  return orphans.length;
}
