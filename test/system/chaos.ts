/**
 * Mixed use by two workspaces while processes of the stack are killed at random. A request may be refused or broken off; it may not hang, be answered
 * by somebody else, or lose what an earlier answer promised. The two workspaces give their sandboxes the same names, so that a mix-up would show.
 */
import { api } from '../bench/lib/api.ts';
import { createOne, fileUrl, putFile } from '../bench/lib/sandboxes.ts';
import { patient, timed, type Stack } from '../bench/lib/stack.ts';
import { Counter, Lost } from './counter.ts';
import { follow, type Open } from './follow.ts';
import type { OwnInstallation } from './own-installation.ts';
import { until } from './until.ts';
import { setTimeout as after } from 'node:timers/promises';

const NAMES = ['nats', 'postgres', 'hostd', 'sandbox-scheduler', 'node-agent', 'gateway'];
/** The supervisor dies less often: everything else goes down with its successor's start. */
const SUPERVISOR_SHARE = 0.05;
/** Longer than any outage here may last: what is not over by then hangs. */
const HANG_MS = 20_000;
/** How long every try may be refused: a change needs several processes at once, and they die one after the other. */
const PATIENCE_MS = 60_000;
const BETWEEN_KILLS_MS = 2_000;

export interface Chaos {
  readonly installation: OwnInstallation;
  readonly workspaces: readonly Stack[];
  readonly forMs: number;
}

/** Answers what happened, for a person. Rejects with the first promise that was broken. */
export async function chaos({ installation, workspaces, forMs }: Chaos): Promise<string> {
  const counts = { answers: 0, refusals: 0, creates: 0, refusedCreates: 0, streams: 0 };
  const kills: string[] = [];
  const streams = new Set<Open>();
  const ended = new AbortController();
  let broken: unknown;
  const endsAt = performance.now() + forMs;
  const isOver = () => performance.now() >= endsAt || broken !== undefined;
  const counters = await Promise.all(
    workspaces.flatMap((stack) =>
      ['twin-a', 'twin-b'].map((name) => Counter.start(stack, name, { idle: { kind: 'after', idleMs: 500 } })),
    ),
  );
  const all = [
    killing(),
    ...counters.map((counter) => asking(counter)),
    ...workspaces.map((stack) => creating(stack)),
    streaming(),
  ];
  await Promise.all(all.map((work) => work.catch((error: unknown) => (broken ??= error))));
  ended.abort();
  for (const stream of streams) stream.close();
  if (broken !== undefined)
    throw new Error(`chaos after ${kills.length} kills (${kills.slice(-5).join(', ')})`, { cause: broken });
  for (const counter of counters) {
    await counter.ask('/at-last', HANG_MS);
    await api(counter.stack).delete(counter.made.name);
  }
  return `chaos: ${kills.length} kills in ${forMs / 1000} s; ${counts.answers} answers, ${counts.refusals} refused or cut; ${counts.creates} creates, ${counts.refusedCreates} refused; ${counts.streams} streams cut in time`;

  async function asking(counter: Counter): Promise<void> {
    for (let n = 0; !isOver(); n++) {
      const told = await notHanging(
        `${counter.made.name} /${n}`,
        counter.try(`/${counter.stack.workspace}-${n}`, HANG_MS),
      );
      if (told) counts.answers++;
      else counts.refusals++;
      await pause(told ? Math.random() * 900 : 50); // sometimes long enough to fall asleep
    }
  }

  /** What was answered is there until it is deleted; a file in it says whose it is. */
  async function creating(stack: Stack): Promise<void> {
    for (let n = 0; !isOver(); n++) {
      const name = `brief-${n}`;
      const mark = `${stack.workspace} ${n}`;
      const made = await notHanging(
        `create ${name}`,
        createOne(stack, name).then((one) => ({ one, wrote: putFile(patient, stack, one, '/tmp/mark', mark) })),
      );
      if (!made) counts.refusedCreates++;
      else {
        counts.creates++;
        const wrote = await notHanging(
          `write to ${name}`,
          made.wrote.then(() => true),
        );
        await pause(300);
        await until(`${name} of ${stack.workspace} is there`, PATIENCE_MS, async () => {
          const read = await notHanging(
            `read ${name}`,
            timed(patient, fileUrl(stack, made.one, '/tmp/mark'), {
              headers: { ...stack.headers, accept: 'application/octet-stream' },
            }),
          );
          if (wrote && read?.status === 404)
            throw new Lost(`${name} of ${stack.workspace} or its file is gone: ${read.body.toString()}`);
          if (read?.status === 200 && read.body.toString() !== mark)
            throw new Lost(`${name} of ${stack.workspace} says "${read.body.toString()}"`);
          return read?.status === 200 || (!wrote && read?.status === 404);
        });
      }
      let refusal = '';
      const remove = async () => {
        const told = await notHanging(
          `delete ${name}`,
          api(stack)
            .delete(name)
            .then(() => '', String),
        );
        refusal = told ?? 'broken off';
        if (refusal !== '' && !/ 404: /.test(refusal)) await pause(200);
        return refusal === '' || / 404: /.test(refusal);
      };
      await until(`${name} of ${stack.workspace} can be deleted`, PATIENCE_MS, remove, () => refusal);
    }
  }

  async function streaming(): Promise<void> {
    const counter = counters[0];
    for (let n = 0; counter && !isOver(); n++) {
      const open = await notHanging('follow', follow(counter.stack, counter.made, `follow-${n}`));
      if (!open) await pause(100);
      else {
        streams.add(open);
        await until(
          'the stream ends or all is over',
          forMs + HANG_MS,
          async () => open.ended() !== undefined || isOver(),
        );
        streams.delete(open);
      }
    }
  }

  async function killing(): Promise<void> {
    while (!isOver()) {
      await pause(BETWEEN_KILLS_MS * (0.5 + Math.random()));
      if (isOver()) return;
      const name =
        Math.random() < SUPERVISOR_SHARE ? 'supervisor' : (NAMES[Math.floor(Math.random() * NAMES.length)] ?? '');
      kills.push(name);
      const { pid, services } = await installation.status();
      if (name === 'supervisor') {
        process.kill(pid, 'SIGKILL');
        await installation.up();
        continue;
      }
      const victim = services.find((each) => each.name === name)?.pid;
      if (victim === undefined) continue; // still on its way back from the kill before
      const open = [...streams];
      process.kill(victim, 'SIGKILL');
      if (name !== 'node-agent' && name !== 'gateway') continue;
      await until(`streams end after the death of ${name}`, 5_000, async () =>
        open.every((stream) => stream.ended() !== undefined),
      );
      counts.streams += open.length;
    }
  }

  /** Undefined when it was refused or broken off. */
  async function notHanging<T>(what: string, asked: Promise<T>): Promise<T | undefined> {
    const late = Symbol();
    const timer = new AbortController();
    try {
      const first = await Promise.race([asked, after(HANG_MS, late, { signal: timer.signal })]);
      if (first === late) throw new Lost(`${what} hangs: nothing within ${HANG_MS} ms`);
      return first as T; // the race has two runners, and the other was just looked at
    } catch (error) {
      if (error instanceof Lost || (error instanceof Error && error.name === 'TimeoutError')) throw error;
      return undefined;
    } finally {
      timer.abort();
    }
  }

  function pause(ms: number): Promise<void> {
    return after(ms, undefined, { signal: ended.signal });
  }
}
