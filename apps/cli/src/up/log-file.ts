/** One structured log for all processes: NDJSON, a line per event, turned over at a size so that it cannot fill the disk. */
import { createWriteStream, renameSync, statSync, type WriteStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

const LARGEST_BYTES = 64 << 20;

export class LogFile {
  readonly path: string;
  #stream: WriteStream;
  #bytes: number;

  constructor(path: string) {
    this.path = path;
    this.#stream = createWriteStream(path, { flags: 'a', mode: 0o640 });
    this.#bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Collects a child's output. Lines that are JSON objects already stay as they are; others are wrapped. */
  collect(room: string, output: Readable): void {
    createInterface({ input: output, crlfDelay: Infinity }).on('line', (line) => this.#write(asJsonLine(room, line)));
  }

  event(event: string, attributes: Record<string, unknown>): void {
    this.#write(JSON.stringify({ level: 30, time: Date.now(), room: 'supervisor', ...attributes, event }));
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#stream.end(resolve));
  }

  #write(line: string): void {
    this.#stream.write(`${line}\n`);
    this.#bytes += line.length + 1;
    if (this.#bytes > LARGEST_BYTES) this.#turnOver();
  }

  #turnOver(): void {
    this.#stream.end();
    renameSync(this.path, `${this.path}.1`);
    this.#stream = createWriteStream(this.path, { flags: 'a', mode: 0o640 });
    this.#bytes = 0;
  }
}

export function asJsonLine(room: string, line: string): string {
  if (line.startsWith('{') && line.endsWith('}'))
    return line.includes('"room"') ? line : `{"room":${JSON.stringify(room)},${line.slice(1)}`;
  return JSON.stringify({ level: 30, time: Date.now(), room, event: line });
}
