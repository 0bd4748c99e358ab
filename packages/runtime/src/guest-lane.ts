import { Failure } from '@torpor/kernel';
import {
  connect as connectHttp2,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect as connectTcp } from 'node:net';

/** Streams of one connection at a time; Go serves 250 by default, and one blocked at that limit would wait unseen. */
const STREAMS_PER_SESSION = 100;
/** What the guest may send before we read: enough that a big body fills the veth, little enough for a thousand instances. */
const WINDOW_BYTES = 1024 * 1024;

/**
 * HTTP/2 connections to one guest, opened with the first stream and again after they broke. Nothing here pings, and nothing has a time-out or TCP
 * keep-alive: while the guest is frozen it answers nothing, and its connections must sleep with it.
 */
export class GuestLane {
  readonly #host: string;
  readonly #port: number;
  readonly #sessions = new Map<ClientHttp2Session, { streams: number }>();
  #closed = false;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  open(headers: OutgoingHttpHeaders): ClientHttp2Stream {
    if (this.#closed) throw new Failure('unavailable', 'this guest was closed by us', { retryable: true });
    const [session, load] = this.#freeSession();
    const stream = session.request(headers);
    load.streams += 1;
    stream.once('close', () => {
      load.streams -= 1;
    });
    return stream;
  }

  close(): void {
    this.#closed = true;
    for (const session of this.#sessions.keys()) session.destroy(undefined, constants.NGHTTP2_CANCEL);
    this.#sessions.clear();
  }

  #freeSession(): [ClientHttp2Session, { streams: number }] {
    for (const entry of this.#sessions) {
      const [session, load] = entry;
      if (!session.closed && !session.destroyed && load.streams < STREAMS_PER_SESSION) return entry;
    }
    return this.#openSession();
  }

  #openSession(): [ClientHttp2Session, { streams: number }] {
    const session = connectHttp2(`http://${this.#host}:${this.#port}`, {
      createConnection: () => connectTcp({ host: this.#host, port: this.#port, noDelay: true }),
      settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
    });
    const load = { streams: 0 };
    this.#sessions.set(session, load);
    // Said a tick after it happened: by then the lane may have been closed, and a destroyed session throws.
    session.once('connect', () => {
      if (!session.destroyed) session.setLocalWindowSize(WINDOW_BYTES * 2);
    });
    session.on('error', () => this.#sessions.delete(session)); // its streams carry the error to whoever waits for them
    session.once('close', () => this.#sessions.delete(session));
    return [session, load];
  }
}
