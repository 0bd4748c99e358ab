/** HTTP as bytes on a socket: what no client library would send. */
import { connect } from 'node:net';

export interface RawAnswer {
  /** 0 when the connection ended without an answer, −1 when nothing came in time. */
  readonly status: number;
  readonly headers: string;
  readonly body: string;
  readonly tookMs: number;
}

export interface SendOptions {
  /** Close our half behind the last byte. */
  readonly half?: boolean;
  /** Bytes, one at a time, this far apart, behind the rest, for as long as the socket lives. */
  readonly trickle?: { readonly byte: string; readonly everyMs: number };
  readonly limitMs?: number;
}

/** Longer than any timer that a single request may meet, on a busy machine. */
const LIMIT_MS = 45_000;

/** Sends the text (signs are bytes) and gathers the answer until the connection ends; of a stream only what came at first. */
export function send(
  origin: string,
  text: string,
  { half = false, trickle, limitMs = LIMIT_MS }: SendOptions = {},
): Promise<RawAnswer> {
  const { hostname, port } = new URL(origin);
  return new Promise((resolve) => {
    const began = performance.now();
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    let said = '';
    const drip = trickle && setInterval(() => socket.write(trickle.byte), trickle.everyMs);
    const end = (silent: boolean) => {
      clearTimeout(bell);
      clearInterval(drip);
      socket.destroy();
      resolve({ ...parse(said, silent), tookMs: performance.now() - began });
    };
    const bell = setTimeout(() => end(true), limitMs);
    socket.on('data', (bytes: Buffer) => {
      said += bytes.toString('latin1');
      if (
        /^content-type: (text\/event-stream|text\/plain.*\r\n(?:.*\r\n)*transfer-encoding)/im.test(said) &&
        said.includes('\r\n\r\n')
      )
        end(false);
    });
    socket.on('error', () => end(false)).once('end', () => end(false));
    socket.write(Buffer.from(text, 'latin1'));
    if (half) socket.end();
  });
}

function parse(heard: string, silent: boolean): Omit<RawAnswer, 'tookMs'> {
  const said = heard.replace(/^(HTTP\/1\.1 102 [^\r]*\r\n\r\n)+/, ''); // how one that has closed its half is asked whether it still listens
  const cut = said.indexOf('\r\n\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(said)?.[1] ?? (silent ? -1 : 0));
  const headers = said.slice(0, Math.max(cut, 0));
  const body = cut < 0 ? '' : said.slice(cut + 4);
  const length = /^content-length: (\d+)/im.exec(headers)?.[1];
  // What follows answers bytes that followed the request.
  if (length !== undefined) return { status, headers, body: body.slice(0, Number(length)) };
  return { status, headers, body: /^transfer-encoding: chunked/im.test(headers) ? joined(body) : body };
}

/** The chunks of a body as one text. */
function joined(chunks: string): string {
  let text = '';
  for (let rest = chunks; ;) {
    const size = Number.parseInt(rest, 16);
    if (!(size > 0)) return text;
    const begin = rest.indexOf('\r\n') + 2;
    text += rest.slice(begin, begin + size);
    rest = rest.slice(begin + size + 2);
  }
}
