/** One soaked sandbox, and what it may be by now: one thing nearly always, several after a request whose outcome nobody has told. */
import { api } from '../../bench/lib/api.ts';
import { createOne, type Made } from '../../bench/lib/sandboxes.ts';
import type { Stack } from '../../bench/lib/stack.ts';
import { Lost } from '../counter.ts';
import { sh } from '../inside.ts';
import { reportOf } from '../node-calls.ts';
import { naming } from '../processes.ts';
import { removed } from '../removed.ts';
import { until } from '../until.ts';
import { after, born, bytesOf, predicted, synced, type Deed, type Known } from './known.ts';
import { directoriesOf, has, startSubject, tells, VOLUME } from './subject.ts';

const REMOVAL_MS = 120_000;
const VOLUME_MIB = 32;

export interface Snapshot {
  readonly name: string;
  readonly holds: readonly Known[];
}

/** A volume that outlives its sandbox, with the files that must be on it, by their hashes. */
export interface Bequest {
  readonly volume: string;
  readonly of: string;
  readonly files: Readonly<Record<string, string>>;
}

export class Sleeper {
  readonly made: Made;
  /** That was made for it. A fork's own is a copy that goes with it. */
  readonly #volume: string | undefined;
  readonly #stack: Stack;
  #maybe: readonly Known[];
  /** What its last image may hold. */
  #image: readonly Known[] = [];
  /** Somebody has said that it has an image. */
  #hasImage = false;
  #snapshots: readonly Snapshot[] = [];
  #serial = 0;

  private constructor(stack: Stack, made: Made, maybe: readonly Known[], volume?: string) {
    this.#stack = stack;
    this.made = made;
    this.#maybe = maybe;
    this.#volume = volume;
  }

  /** One that has done nothing yet, with a new volume or another's. */
  static async create(stack: Stack, name: string, left?: Bequest): Promise<Sleeper> {
    const volume = left?.volume ?? `${name}-data`;
    try {
      if (!left) await api(stack).volumes.create(volume, { sizeMib: VOLUME_MIB });
      const volumes = [{ name: volume, path: VOLUME }];
      const made = await createOne(stack, name, { idle: { kind: 'never' }, memoryMib: 256, diskMib: 1024, volumes });
      if (left) await expectFiles(stack, made, directoriesOf(left.of).volume, left.files);
      await startSubject(stack, made);
      // Whether that can be told or not: what would stay is in nobody's way.
      if (left) await outcome(sh(stack, made, `rm -r ${directoriesOf(left.of).volume}`));
      return new Sleeper(stack, made, [born(name)], volume);
    } catch (error) {
      await removed(stack, name, REMOVAL_MS); // whoever asked again would ask under another name
      if (!left) await dropped(stack, volume);
      throw error;
    }
  }

  get name(): string {
    return this.made.name;
  }

  get snapshots(): readonly Snapshot[] {
    return this.#snapshots;
  }

  /** It has an image, so its gVisor may die. */
  get mayDie(): boolean {
    return this.#hasImage;
  }

  /** What was done last, if that is known. */
  get known(): Known | undefined {
    return this.#maybe.length === 1 ? this.#maybe[0] : undefined;
  }

  /** Answers whether it did: a full disk refuses files. */
  async do(deed: Deed): Promise<boolean> {
    const known = this.known ?? (await this.check()).known;
    const id = `${this.name}.${this.#serial++}`;
    const done = await has(this.#stack, this.made, { id, after: known.id, deed });
    if (done.kind === 'elsewhere') throw new Lost(`${this.name} was ${known.id} and is ${done.last}`);
    if (done.kind === 'done') this.#maybe = [after(known, id, deed)];
    return done.kind === 'done';
  }

  /** Compares everything that it has with what it must have; which wakes it. */
  async check(): Promise<{ known: Known; bytes: number }> {
    const told = await tells(this.#stack, this.made);
    const known = this.#maybe.find(({ id }) => id === told.last);
    if (!known)
      throw new Lost(`${this.name} is ${told.last}, and may be ${this.#maybe.map(({ id }) => id).join(' or ')}`);
    const wanted = JSON.stringify(sorted(predicted(known)));
    const found = JSON.stringify(sorted(told));
    if (found !== wanted) throw new Lost(`${this.name} at ${known.id} has\n${found}\nand must have\n${wanted}`);
    this.#maybe = [known];
    return { known, bytes: bytesOf(known) };
  }

  async pause(): Promise<boolean> {
    return (await outcome(api(this.#stack).pause(this.name))) !== undefined;
  }

  /** Whether it was stored. An answer that comes when nobody is there to hear it binds nobody. */
  async store(isHeard: () => boolean = () => true): Promise<boolean> {
    const holds = this.#maybe;
    const answer = await outcome(api(this.#stack).store(this.name));
    const isStored = answer?.state === 'stored' && isHeard();
    this.#image = isStored ? holds : union(this.#image, holds);
    this.#hasImage ||= isStored;
    return isStored;
  }

  async lean(): Promise<boolean> {
    const answer = await api(this.#stack)
      .lean(this.name)
      .catch(() => ({ state: 'unanswered' }));
    return answer.state === 'lean';
  }

  async snapshot(name: string): Promise<boolean> {
    const holds = this.#maybe;
    const isMade = (await outcome(api(this.#stack).snapshot(this.name, name))) !== undefined;
    if (isMade) this.#snapshots = [...this.#snapshots, { name, holds }];
    return isMade;
  }

  async restore({ name, holds }: Snapshot): Promise<boolean> {
    const isDone = (await outcome(api(this.#stack).restore(this.name, name))) !== undefined;
    // What was there before is stored first, and then what the snapshot holds is its image.
    const images = union(this.#maybe, holds);
    this.#image = union(this.#image, images);
    this.#hasImage ||= isDone;
    this.#maybe = isDone ? holds : images;
    return isDone;
  }

  async drop(snapshot: Snapshot): Promise<boolean> {
    this.#snapshots = this.#snapshots.filter((one) => one !== snapshot);
    return (await outcome(api(this.#stack).deleteSnapshot(this.name, snapshot.name))) !== undefined;
  }

  /** Undefined when it was refused, and then nothing of it is left. */
  async fork(as: string, of: Snapshot | undefined): Promise<Sleeper | undefined> {
    const holds = of?.holds ?? this.#maybe;
    const how = { as, count: 1, ...(of ? { snapshot: of.name } : {}) };
    const [made] = (await outcome(api(this.#stack).fork(this.name, how)))?.forks ?? [];
    if (made?.hostId !== undefined)
      return new Sleeper(this.#stack, { name: made.name, url: made.url, hostId: made.hostId }, holds);
    await removed(this.#stack, as, REMOVAL_MS);
    return undefined;
  }

  /** All that its gVisor is made of on the host, at once. */
  async die(): Promise<void> {
    const all = await naming(this.made.hostId);
    if (all.length === 0) return;
    for (const { pid } of all) kill(pid);
    this.#maybe = union(this.#maybe, this.#image);
  }

  /** The host has gone down, and is back: it must be what its image holds, or have its files where nobody has said that there is one. */
  async checkAfterReboot(): Promise<'image' | 'files'> {
    const { tier, reason = '' } = await reportOf(this.#stack, this.name);
    if (tier === 'stored') {
      this.#maybe = this.#image;
      await this.check();
      return 'image';
    }
    if (tier !== 'files' || this.#hasImage || reason === '')
      throw new Lost(`${this.name} ${this.#hasImage ? 'had an image and ' : ''}is ${tier ?? 'awake'}: ${reason}`);
    const [known] = this.#maybe;
    const directories = directoriesOf(this.name);
    for (const place of ['disk', 'volume'] as const)
      if (known) await expectFiles(this.#stack, this.made, directories[place], synced(known, place));
    return 'files';
  }

  async remove(): Promise<void> {
    await removed(this.#stack, this.name, REMOVAL_MS);
    if (this.#volume !== undefined) await dropped(this.#stack, this.#volume);
  }

  /** It goes, and its volume stays. `undefined`: it has none that could. */
  async bequeath(): Promise<Bequest | undefined> {
    if (this.#volume === undefined) return undefined;
    const known = this.known ?? (await this.check()).known;
    await removed(this.#stack, this.name, REMOVAL_MS);
    return { volume: this.#volume, of: this.name, files: synced(known, 'volume') };
  }
}

async function expectFiles(
  stack: Stack,
  made: Made,
  directory: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  const { stdout } = await sh(stack, made, `cd ${directory} && sha256sum * || true`);
  const found = new Map(stdout.split('\n').map((line) => [line.slice(66), line.slice(0, 64)]));
  for (const [name, hash] of Object.entries(files))
    if (found.get(name) !== hash)
      throw new Lost(`${made.name} must have ${name} in ${directory}, and has there\n${stdout}`);
}

/** However often that must be asked while processes of the stack come back. One that is not there is fine. */
async function dropped(stack: Stack, volume: string): Promise<void> {
  let said = '';
  const isDropped = async () => {
    said = await api(stack)
      .volumes.delete(volume)
      .then(() => '', String);
    return said === '' || / 404: /.test(said);
  };
  await until(`volume ${volume} is deleted`, REMOVAL_MS, isDropped, () => said);
}

function union(some: readonly Known[], others: readonly Known[]): readonly Known[] {
  return [...new Map([...some, ...others].map((known) => [known.id, known])).values()];
}

/** Undefined when it was refused or nobody has answered. */
function outcome<T>(asked: Promise<T>): Promise<T | undefined> {
  return asked.catch(() => undefined);
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, each]) => [key, sorted(each)]),
  );
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error; // it has ended by itself
  }
}
