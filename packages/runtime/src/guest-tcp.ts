/**
 * The guest over TCP. A call whose body is known whole travels on HTTP/1.1, a connection each; bodies that stream in, and tunnels, travel on HTTP/2. So
 * no upload delays a command. This is the hot path of a wake: a call costs one write, one listener and at most one timer.
 */
import { Failure, type AnswerHead } from '@torpor/kernel';
import { Readable } from 'node:stream';
import { guestOver } from './guest-calls.ts';
import { GuestConnections } from './guest-connections.ts';
import { unreachable } from './guest-failures.ts';
import { GuestStreams } from './guest-http2.ts';
import type { Guest, GuestAnswer, GuestRequest } from './guest.ts';

export function tcpGuest({ host, port }: { host: string; port: number }, token: string): Guest {
  const connections = new GuestConnections(host, port);
  const streams = new GuestStreams(host, port);
  return guestOver(
    {
      async send(request, token) {
        const { body } = request;
        if (body instanceof Readable) return await streams.send(request, body, token);
        return await callWhole(connections, request, body, token);
      },
      tunnel: (port, token, signal) => streams.tunnel(port, token, signal),
      close() {
        connections.close();
        streams.close();
      },
    },
    token,
  );
}

function callWhole(
  connections: GuestConnections,
  request: GuestRequest,
  body: string | Uint8Array | undefined,
  token: string,
): Promise<GuestAnswer> {
  const { method, path, signal, headMs = 0 } = request;
  signal?.throwIfAborted();
  const name = `guest ${method} ${path}`;
  return new Promise((resolve, reject) => {
    const headers = { ...request.headers, authorization: `Bearer ${token}` };
    const giveUp = connections.call(
      { method, path, headers, body },
      {
        onHead(head, stream) {
          clearTimeout(timer);
          resolve({ status: head.status, headers: joined(head), body: stream });
        },
        onBroken(error) {
          clearTimeout(timer);
          reject(unreachable(name, error));
        },
        onOver() {
          signal?.removeEventListener('abort', abort);
        },
      },
    );
    const timer = headMs > 0 ? setTimeout(late, headMs) : undefined;
    signal?.addEventListener('abort', abort, { once: true });

    function late() {
      const message = `the timer "${name}" ended after ${headMs} ms`;
      end(new Failure('deadline_exceeded', message, { retryable: true, details: { timer: name, ms: headMs } }));
    }

    function abort() {
      end(signal?.reason);
    }

    /** After the head it ends the body, whose reader hears the reason. */
    function end(reason: unknown) {
      reject(reason);
      giveUp(reason instanceof Error ? reason : new Error(String(reason)));
    }
  });
}

function joined({ headers }: AnswerHead): Record<string, string> {
  const plain: Record<string, string> = {};
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined) plain[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return plain;
}
