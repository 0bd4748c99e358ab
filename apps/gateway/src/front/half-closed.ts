import type { RequestListener, Server } from 'node:http';
import type { Clock } from '@torpor/kernel';

/** Between two questions; a caller that is gone is noticed at the second. */
const ASK_MS = 1_000;

/**
 * A caller that has said all it has to say and closes its half of the connection may still listen, or be gone: what arrives is the same. So it is
 * asked, by interim answers, which every caller must put up with (RFC 9110 §15.2) and which the host of one that is gone refuses. One that closes
 * its half after its answer has begun is taken to have hung up, as a program that ends does.
 */
export function answerHalfClosed(server: Server, clock: Pick<Clock, 'after'>): void {
  // Node would hang up at once. Its types do not know the setting; `_http_server.js` reads it when the half is closed.
  Object.assign(server, { httpAllowHalfOpen: true });
  const mind: RequestListener = (request, response) => {
    const { socket } = request;
    const ask = async (over: AbortSignal) => {
      while (!response.headersSent) {
        if (request.httpVersionMinor > 0) response.writeProcessing();
        await clock.after(ASK_MS, over);
      }
    };
    const onHalfClosed = () => {
      if (response.headersSent) return socket.destroy();
      const over = new AbortController();
      response.once('close', () => over.abort());
      return ask(over.signal).catch(() => undefined); // It only ever rejects because the answer is over.
    };
    socket.once('end', onHalfClosed);
    response.once('close', () => socket.off('end', onHalfClosed));
  };
  server.on('request', mind);
  server.on('checkExpectation', mind);
}
