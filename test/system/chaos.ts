/**
 * Mixed use by two workspaces while processes of the stack are killed at random. A request may be refused or broken off; it may not hang, be answered
 * by somebody else, or lose what an earlier answer promised. The two workspaces give their sandboxes the same names, so that a mix-up would show.
 */
import { createOne, fileUrl } from '../bench/lib/sandboxes.ts';
import { patient, timed, type Answer, type Stack } from '../bench/lib/stack.ts';
import { Counter, Lost } from './counter.ts';
import { follow, talk, type Open } from './follow.ts';
import type { OwnInstallation } from './own-installation.ts';
import { removed } from './removed.ts';
import { until } from './until.ts';
import { setTimeout as after } from 'node:timers/promises';

const NAMES = ['nats', 'postgres', 'hostd', 'sandbox-scheduler', 'node-agent', 'gateway'];
/** The supervisor dies less often: everything else goes down with its successor's start. */
const SUPERVISOR_SHARE = 0.05;
/** What a stream leads through. Any other may die without its notice. */
const ON_THE_WAY = new Set(['node-agent', 'gateway', 'supervisor']);
/** A stream through what died has ended by then. */
const STREAM_END_MS = 5_000;
/** Longer than any outage here may last: what is not over by then hangs. */
const HANG_MS = 45_000;
/** How long every try may be refused: a change needs several processes at once, and they die one after the other. */
const PATIENCE_MS = 120_000;
const BETWEEN_KILLS_MS = 2_000;
/** As often as this the next one dies while the last is still on its way back. */
const HASTE = 0.5;
const MARK = '/tmp/mark';
const TALKER = 'talker';

export interface Chaos {
  readonly installation: OwnInstallation;
  readonly workspaces: readonly [Stack, Stack];
  readonly forMs: number;
}

/** Answers what happened, for a person. Rejects with the first promise that was broken. */
export async function chaos({ installation, workspaces, forMs }: Chaos): Promise<string> {
  const counts = { answers: 0, refusals: 0, creates: 0, refusedCreates: 0, streams: 0, trespasses: 0 };
  const kills: string[] = [];
  const streams = new Set<Open>();
  let deathsOnTheWay = 0;
  let supervisorIsReplaced = false;
  let broken: unknown;

  const twins = (stack: Stack) =>
    Promise.all(
      ['twin-a', 'twin-b'].map((name) => Counter.start(stack, name, { idle: { kind: 'after', idleMs: 500 } })),
    );
  const counters = (await Promise.all(workspaces.map(twins))).flat();
  const [talking] = counters;
  if (!talking) throw new Error('nobody to follow');
  await talk(talking.stack, talking.made, TALKER);

  const endsAt = performance.now() + forMs;
  const isOver = () => performance.now() >= endsAt || broken !== undefined;
  const all = [
    killing(),
    ...counters.map((counter) => asking(counter)),
    ...workspaces.map((stack) => creating(stack)),
    streaming(talking),
    trespassing(),
  ];
  await Promise.all(all.map((work) => work.catch((error: unknown) => (broken ??= error))));
  for (const stream of streams) stream.close();
  if (broken !== undefined)
    throw new Error(`chaos after ${kills.length} kills (${kills.slice(-5).join(', ')})`, { cause: broken });
  for (const counter of counters) {
    await counter.ask('/at-last', HANG_MS);
    await removed(counter.stack, counter.made.name);
  }
  // Were everything refused all the time, no promise would have been tried.
  if (counts.answers < kills.length || counts.creates === 0 || counts.trespasses === 0)
    throw new Error(`chaos proved nothing: ${kills.length} kills, ${JSON.stringify(counts)}`);
  return `chaos: ${kills.length} kills in ${forMs / 1000} s; ${counts.answers} answers, ${counts.refusals} refused or cut; ${counts.creates} creates, ${counts.refusedCreates} refused; ${counts.streams} streams cut in time; ${counts.trespasses} trespasses refused`;

  async function asking(counter: Counter): Promise<void> {
    for (let n = 0; !isOver(); n++) {
      const told = await notHanging(
        `${counter.made.name} /${n}`,
        counter.try(`/${counter.stack.workspace}-${n}`, HANG_MS),
      );
      if (told) counts.answers++;
      else counts.refusals++;
      await after(told ? Math.random() * 900 : 50); // sometimes long enough to fall asleep
    }
  }

  /** What was answered is there until it is deleted; a file in it says whose it is. */
  async function creating(stack: Stack): Promise<void> {
    for (let n = 0; !isOver(); n++) {
      const name = `brief-${n}`;
      const made = await notHanging(`create ${name}`, createOne(stack, name));
      if (made) {
        counts.creates++;
        const mark = `${stack.workspace} ${n}`;
        await untilAnswered(stack, made, 'takes a file', { method: 'PUT', body: JSON.stringify({ content: mark }) });
        await after(300);
        const read = await untilAnswered(stack, made, 'has its file', { method: 'GET' });
        if (read !== mark) throw new Lost(`${name} of ${stack.workspace} says "${read}"`);
      } else counts.refusedCreates++;
      await removed(stack, name, PATIENCE_MS);
    }
  }

  /** Asks of the file until it is answered; refused it may be for a while, gone never. */
  async function untilAnswered(
    stack: Stack,
    made: { name: string },
    what: string,
    request: { method: 'GET' | 'PUT'; body?: string },
  ): Promise<string> {
    const sandbox = `${made.name} of ${stack.workspace}`;
    const headers = { ...stack.headers, accept: 'application/octet-stream', 'content-type': 'application/json' };
    let answer: Answer | undefined;
    const isAnswered = async () => {
      answer = await notHanging(
        `${request.method} in ${sandbox}`,
        timed(patient, fileUrl(stack, made, MARK), { ...request, headers }),
      );
      if (answer?.status === 404 || answer?.status === 410)
        throw new Lost(`${sandbox} or its file is gone: ${answer.body.toString()}`);
      return answer?.status === 200;
    };
    await until(`${sandbox} ${what}`, PATIENCE_MS, isAnswered, () => answer?.body.toString() ?? 'broken off');
    return answer?.body.toString() ?? '';
  }

  /** One process talks through everything. Who reads it is cut off when somebody on the way dies, is told so, and reads on. */
  async function streaming(counter: Counter): Promise<void> {
    while (!isOver()) {
      const deathsBefore = deathsOnTheWay;
      const open = await notHanging('follow', follow(counter.stack, counter.made, TALKER));
      if (!open) {
        await after(100);
        continue;
      }
      streams.add(open);
      await until(
        'the stream ends or all is over',
        forMs + HANG_MS,
        async () => open.ended() !== undefined || isOver(),
      );
      streams.delete(open);
      const end = open.ended();
      if (end === undefined) return open.close();
      if (!end.startsWith('error')) throw new Lost(`a stream of one that talks for ever ${end}`);
      if (deathsOnTheWay === deathsBefore && !supervisorIsReplaced)
        throw new Lost(`a stream broke while nobody on its way died: ${end}`);
    }
  }

  /** With one workspace's key at the other's sandboxes, under either's name. */
  async function trespassing(): Promise<void> {
    for (let n = 0; !isOver(); n++) {
      const [own, other] = n % 2 === 0 ? workspaces : workspaces.toReversed();
      const victim = counters.find(({ stack }) => stack === other);
      const claimed = n % 4 < 2 ? own : other;
      if (!own || !victim || !claimed) throw new Error('nobody to trespass on');
      const headers = { ...own.headers, 'x-blaxel-workspace': claimed.workspace };
      const answer = await notHanging('trespass', timed(patient, `${victim.made.url}/port/3000/trespass`, { headers }));
      if (answer && answer.status < 400)
        throw new Lost(`${own.workspace} reached ${victim.made.name} of ${victim.stack.workspace}`);
      // No answer, or that there is none now, refuses nobody.
      if (answer && [401, 403, 404].includes(answer.status)) counts.trespasses++;
      await after(200);
    }
  }

  async function killing(): Promise<void> {
    for (;;) {
      await after(BETWEEN_KILLS_MS * (0.5 + Math.random()));
      if (isOver()) return;
      const name =
        Math.random() < SUPERVISOR_SHARE ? 'supervisor' : (NAMES[Math.floor(Math.random() * NAMES.length)] ?? '');
      const { pid, services } = await installation.status();
      const victim = name === 'supervisor' ? pid : services.find((each) => each.name === name)?.pid;
      if (victim === undefined) continue; // still on its way back from the kill before
      const open = [...streams];
      if (ON_THE_WAY.has(name)) deathsOnTheWay++;
      supervisorIsReplaced = name === 'supervisor';
      process.kill(victim, 'SIGKILL');
      kills.push(name);
      // Its successor ends what it left, all that streams lead through among it.
      if (name === 'supervisor') {
        await installation.up();
        deathsOnTheWay++;
      }
      if (ON_THE_WAY.has(name)) {
        await until(`streams end after the death of ${name}`, STREAM_END_MS, async () =>
          open.every((stream) => stream.ended() !== undefined),
        );
        counts.streams += open.length;
      }
      supervisorIsReplaced = false;
      if (Math.random() < HASTE) continue;
      await until('all are healthy again', PATIENCE_MS, async () =>
        (await installation.status()).services.every(({ healthy }) => healthy),
      );
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
}
