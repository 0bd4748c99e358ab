/** One structured log for all processes: NDJSON, a line per event, turned over at a size so that it cannot fill the disk. */
import { createWriteStream, renameSync, statSync, type WriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

const LARGEST_BYTES = 64 << 20;

/** After a failure to write, how long lines are let go before the file is tried again. */
const TRY_AGAIN_MS = 5_000;

export class LogFile {
  readonly path: string;
  readonly #largestBytes: number;
  #stream: WriteStream | undefined;
  #bytes: number;
  #letGo = 0;
  #failedAtMs = -Infinity;

  constructor(path: string, { largestBytes = LARGEST_BYTES }: { largestBytes?: number } = {}) {
    this.path = path;
    this.#largestBytes = largestBytes;
    this.#bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    this.#stream = this.#open();
  }

  /** Collects a child's output. Lines that are JSON objects already stay as they are; others are wrapped. */
  collect(room: string, output: Readable): void {
    createInterface({ input: output, crlfDelay: Infinity }).on('line', (line) => this.#write(asJsonLine(room, line)));
  }

  event(event: string, attributes: Record<string, unknown>): void {
    this.#write(JSON.stringify({ level: 30, time: Date.now(), room: 'supervisor', ...attributes, event }));
  }

  close(): Promise<void> {
    const stream = this.#stream;
    if (!stream) return Promise.resolve();
    return new Promise((resolve) => stream.once('close', resolve).end());
  }

  /** A full disk costs lines of the log, and not the stack: whoever writes here keeps everything else running. */
  #open(): WriteStream {
    const stream = createWriteStream(this.path, { flags: 'a', mode: 0o640 });
    stream.on('error', () => {
      if (this.#stream === stream) this.#stream = undefined;
      this.#failedAtMs = performance.now();
    });
    return stream;
  }

  #write(line: string): void {
    if (!this.#stream && performance.now() - this.#failedAtMs >= TRY_AGAIN_MS) this.#takeUpAgain();
    if (!this.#stream) {
      this.#letGo++;
      return;
    }
    this.#stream.write(`${line}\n`);
    this.#bytes += line.length + 1;
    if (this.#bytes > this.#largestBytes) this.#turnOver();
  }

  #takeUpAgain(): void {
    this.#stream = this.#open();
    const lines = this.#letGo;
    this.#letGo = 0;
    this.event('lines of the log were lost: the file could not be written', { lines });
  }

  #turnOver(): void {
    this.#stream?.end();
    try {
      renameSync(this.path, `${this.path}.1`);
    } catch {
      // It goes on growing in its place, which the next turn-over ends.
    }
    this.#bytes = 0;
    this.#stream = this.#open();
  }
}

export function asJsonLine(room: string, line: string): string {
  if (line.startsWith('{') && line.endsWith('}'))
    return line.includes('"room"') ? line : `{"room":${JSON.stringify(room)},${line.slice(1)}`;
  return JSON.stringify({ level: 30, time: Date.now(), room, event: line });
}
