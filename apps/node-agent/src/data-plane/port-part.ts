/** A port inside, as a reverse proxy: HTTP/1.1 over a tunnel of its own, streaming both ways, nothing buffered, nothing rewritten. */
import { Failure } from '@torpor/kernel';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { pipeline, type Duplex } from 'node:stream';
import type { Stay } from '../standby/stay.ts';
import { piped, type Exchange } from './exchange.ts';
import { passedOn, wakeHeaders } from './headers.ts';
import type { Part } from './target.ts';

export async function servePort(
  exchange: Exchange,
  { port, isPreview }: Extract<Part, { kind: 'port' }>,
): Promise<void> {
  const { stay, response } = exchange;
  const tunnel = await tunnelTo(port, exchange);
  const answer = await answerFrom(exchange, tunnel);
  // From here on a preview counts by its bytes: an event stream in a forgotten tab holds nothing awake. Who asked by a key waits for the answer's end.
  if (isPreview) stay.become('preview');
  answer.on('data', (chunk: Buffer) => stay.moved({ fromClient: 0, fromInstance: chunk.length }));
  const status = answer.statusCode ?? 502;
  const wake = Object.entries(wakeHeaders(stay)).flat();
  response.writeHead(status, answer.statusMessage, [...passedOn(answer.rawHeaders), ...wake]);
  exchange.answered(status);
  response.flushHeaders();
  await piped(answer, response);
}

/** A connection to a port inside. Where nobody listens, says so in words that a person who has only the address understands. */
export async function tunnelTo(
  port: number,
  { stay, instance, signal }: Pick<Exchange, 'stay' | 'instance' | 'signal'>,
): Promise<Duplex> {
  try {
    return await stay.guest.tunnel(port, signal);
  } catch (error) {
    if (!(error instanceof Failure) || error.details?.['guestStatus'] !== 502) throw error;
    const { name } = instance.claim;
    const message = `nobody listens on port ${port} of sandbox "${name}"; start a server on it, then ask again`;
    throw new Failure('bad_gateway', message, { retryable: true, cause: error });
  }
}

function answerFrom({ request, target, signal, stay }: Exchange, tunnel: Duplex): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const upstream = httpRequest({
      // One tunnel, one request: a tunnel that slept may have lost its far end.
      createConnection: () => tunnel,
      method: request.method,
      path: target.rest,
      headers: framed(request),
      setDefaultHeaders: false,
      signal,
    });
    const broke = (error: Error) => {
      tunnel.destroy();
      reject(
        new Failure('bad_gateway', `what listens on the port broke off: ${error.message}`, {
          retryable: true,
          cause: error,
        }),
      );
    };
    upstream.once('response', (answer) => {
      // Before Node takes the end of a broken tunnel for the end of an answer that nothing else frames.
      upstream.once('error', (error) => answer.destroy(error));
      resolve(answer);
    });
    upstream.on('error', broke); // stays: an error after the head must not be unhandled
    // Without an answer by now, and without an error: the program has changed to another protocol that nobody asked for.
    upstream.once('close', () => broke(new Error('it ended without an answer')));
    request.on('data', (chunk: Buffer) => stay.moved({ fromClient: chunk.length, fromInstance: 0 }));
    pipeline(request, upstream, () => {}); // both ends tell of their own errors
  });
}

/** The caller's headers, with the framing of the body as it came. */
function framed(request: IncomingMessage): string[] {
  const headers = passedOn(request.rawHeaders);
  if (request.headers['transfer-encoding'] !== undefined) headers.push('transfer-encoding', 'chunked');
  headers.push('connection', 'close');
  return headers;
}

/** Another protocol on the same port, such as WebSocket: after the head, bytes both ways until either side ends. */
export function joinSockets(
  {
    client,
    head,
    request,
    rest,
    stay,
  }: { client: Duplex; head: Buffer; request: IncomingMessage; rest: string; stay: Stay },
  tunnel: Duplex,
): Promise<void> {
  const pairs = passedOn(request.rawHeaders, { keepUpgrade: true });
  const lines = [`${request.method} ${rest} HTTP/1.1`];
  for (let at = 0; at + 1 < pairs.length; at += 2) lines.push(`${pairs[at]}: ${pairs[at + 1]}`);
  stay.become('preview');
  tunnel.write(`${lines.join('\r\n')}\r\n\r\n`);
  if (head.length > 0) tunnel.write(head);
  client.on('data', (chunk: Buffer) => stay.moved({ fromClient: chunk.length, fromInstance: 0 }));
  tunnel.on('data', (chunk: Buffer) => stay.moved({ fromClient: 0, fromInstance: chunk.length }));
  return new Promise((resolve) => {
    const over = () => {
      client.destroy();
      tunnel.destroy();
      resolve();
    };
    // Either end closing ends both; a half-closed side may still be written to.
    pipeline(client, tunnel, (error) => error && over());
    pipeline(tunnel, client, over);
  });
}
