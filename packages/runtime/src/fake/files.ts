import { Failure } from '@torpor/kernel';
import { posix } from 'node:path';

/** A failure as the fake guest tells it over its protocol: the guest's code and HTTP status. */
export function guestError(status: number, code: string, message: string): Failure {
  return new Failure(code, message, { details: { status } });
}

interface Entry {
  type: 'file' | 'directory';
  bytes: Buffer;
  mode: string;
  modifiedAtMs: number;
}

export interface FakeFileFacts {
  readonly path: string;
  readonly name: string;
  readonly type: 'file' | 'directory';
  readonly size: number;
  readonly mode: string;
  readonly owner: string;
  readonly group: string;
  readonly uid: number;
  readonly gid: number;
  readonly modifiedAt: string;
}

/** The files of a fake instance: a map of absolute paths. Everything belongs to root. A volume has files of its own, and may be mounted among others. */
export class FakeFiles {
  readonly #entries = new Map<string, Entry>();
  readonly #mounts = new Map<string, FakeFiles>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number, directories = ['/', '/root', '/tmp', '/run', '/run/torpor', '/etc']) {
    this.#nowMs = nowMs;
    for (const path of directories) this.mkdir(path, '0755');
  }

  /** From now on, what is at this path and below is what the volume has. */
  mount(path: string, volume: FakeFiles): void {
    this.mkdir(path);
    this.#mounts.set(path, volume);
  }

  /** False: nothing was mounted there. */
  unmount(path: string): boolean {
    return this.#mounts.delete(path);
  }

  unmountAll(): void {
    this.#mounts.clear();
  }

  /** The same files, from now on apart; not what is mounted among them. */
  copy(): FakeFiles {
    const copy = new FakeFiles(this.#nowMs, []);
    for (const [path, entry] of this.#entries) copy.#entries.set(path, { ...entry });
    return copy;
  }

  /** Tells whether two disks are the same. */
  fingerprint(): string {
    const rows = [...this.#entries].map(([path, { type, bytes, mode }]) => [
      path,
      type,
      mode,
      bytes.toString('base64'),
    ]);
    return JSON.stringify(rows.sort());
  }

  stat(path: string): FakeFileFacts {
    const at = this.#mounted(path);
    if (at) return { ...at.files.stat(at.path), path };
    const entry = this.#entry(path);
    return {
      path,
      name: posix.basename(path) || '/',
      type: entry.type,
      size: entry.bytes.length,
      mode: entry.mode,
      owner: 'root',
      group: 'root',
      uid: 0,
      gid: 0,
      modifiedAt: new Date(entry.modifiedAtMs).toISOString(),
    };
  }

  exists(path: string): boolean {
    const at = this.#mounted(path);
    return at ? at.files.exists(at.path) : this.#entries.has(path);
  }

  read(path: string): Buffer {
    const at = this.#mounted(path);
    if (at) return at.files.read(at.path);
    const entry = this.#entry(path);
    if (entry.type === 'directory') throw guestError(400, 'bad_request', `${path} is a directory, expected a file`);
    return entry.bytes;
  }

  write(path: string, bytes: Buffer, options: { mode?: string; append?: boolean; parents?: boolean } = {}): void {
    const at = this.#mounted(path);
    if (at) return at.files.write(at.path, bytes, options);
    const before = this.#entries.get(path);
    if (before?.type === 'directory') throw guestError(400, 'bad_request', `${path} is a directory, expected a file`);
    this.#needParent(path, options.parents ?? false);
    const content = options.append && before ? Buffer.concat([before.bytes, bytes]) : Buffer.from(bytes);
    this.#entries.set(path, {
      type: 'file',
      bytes: content,
      mode: options.mode ?? before?.mode ?? '0644',
      modifiedAtMs: this.#nowMs(),
    });
  }

  mkdir(path: string, mode = '0755', parents = true): void {
    const before = this.#entries.get(path);
    if (before?.type === 'file') throw guestError(409, 'exists', `${path} exists and is a file`);
    if (before) return;
    if (path !== '/') this.#needParent(path, parents);
    this.#entries.set(path, { type: 'directory', bytes: Buffer.alloc(0), mode, modifiedAtMs: this.#nowMs() });
  }

  list(path: string, depth: number): FakeFileFacts[] {
    if (this.#entry(path).type !== 'directory') throw guestError(400, 'bad_request', `${path} is not a directory`);
    return this.#below(path)
      .filter((at) => posix.relative(path, at).split('/').length <= depth)
      .map((at) => this.stat(at))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  move(from: string, to: string, overwrite: boolean): void {
    this.#entry(from);
    if (this.#entries.has(to) && !overwrite) throw guestError(409, 'exists', `${to} exists already`);
    this.#needParent(to, false);
    for (const path of [from, ...this.#below(from)]) {
      this.#entries.set(to + path.slice(from.length), this.#entry(path));
      this.#entries.delete(path);
    }
  }

  remove(path: string, recursive: boolean): void {
    this.#entry(path);
    const below = this.#below(path);
    if (below.length > 0 && !recursive) throw guestError(422, 'not_empty', `${path} is not empty`);
    for (const at of [path, ...below]) this.#entries.delete(at);
  }

  get usedBytes(): number {
    return [...this.#entries.values()].reduce((sum, entry) => sum + entry.bytes.length, 0);
  }

  /** The volume that a path is in, and where in it. */
  #mounted(path: string): { files: FakeFiles; path: string } | undefined {
    for (const [target, files] of this.#mounts) {
      if (path === target || path.startsWith(`${target}/`)) return { files, path: path.slice(target.length) || '/' };
    }
    return undefined;
  }

  #entry(path: string): Entry {
    const entry = this.#entries.get(path);
    if (!entry) throw guestError(404, 'not_found', `${path} does not exist`);
    return entry;
  }

  #below(path: string): string[] {
    const prefix = path === '/' ? '/' : `${path}/`;
    return [...this.#entries.keys()].filter((at) => at !== path && at.startsWith(prefix));
  }

  #needParent(path: string, create: boolean): void {
    const parent = posix.dirname(path);
    if (this.#entries.get(parent)?.type === 'directory') return;
    if (!create) throw guestError(404, 'not_found', `the directory ${parent} does not exist`);
    this.mkdir(parent, '0755', true);
  }
}
