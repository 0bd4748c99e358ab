/** Text that is too big to hold: read from the guest in pieces, decoded and escaped piece by piece. */
import { StringDecoder } from 'node:string_decoder';

/** Text as it becomes known. */
export type TextSource = string | (() => AsyncIterable<string>);

/** Decodes UTF-8 whose characters may be cut anywhere by the chunks. */
export async function* decodeChunks(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new StringDecoder('utf8');
  for await (const chunk of chunks) {
    const text = decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    if (text !== '') yield text;
  }
  const rest = decoder.end();
  if (rest !== '') yield rest;
}

/** Writes `{...fields, ...texts}` as JSON; the texts come one after another, never whole. */
export async function* jsonWithTexts(
  fields: Readonly<Record<string, unknown>>,
  texts: Readonly<Record<string, TextSource>>,
): AsyncGenerator<string> {
  const head = JSON.stringify(fields).slice(0, -1);
  let separator = head === '{' ? '' : ',';
  yield head;
  for (const [name, source] of Object.entries(texts)) {
    yield `${separator}${JSON.stringify(name)}:"`;
    if (typeof source === 'string') yield escape(source);
    else for await (const piece of source()) yield escape(piece);
    yield '"';
    separator = ',';
  }
  yield '}';
}

/** A piece of text as it stands between the quotes of JSON. */
export function escape(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** Cuts a stream of bytes at its line ends. A line longer than `bytesMax` ends the reading: its writer is no program of ours. */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>, bytesMax = 4 * 1024 * 1024): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    let from = 0;
    const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let at = buffer.indexOf(10); at >= 0; at = buffer.indexOf(10, from)) {
      rest.push(buffer.subarray(from, at));
      yield Buffer.concat(rest).toString('utf8');
      rest = [];
      bytes = 0;
      from = at + 1;
    }
    if (from < buffer.length) {
      rest.push(buffer.subarray(from));
      bytes += buffer.length - from;
      if (bytes > bytesMax) throw new Error(`a line of the guest is longer than ${bytesMax} bytes`);
    }
  }
  if (bytes > 0) yield Buffer.concat(rest).toString('utf8');
}
