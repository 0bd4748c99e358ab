import { Failure, withDeadline } from '@torpor/kernel';
import type { InstanceId } from '@torpor/contracts';
import { Readable } from 'node:stream';
import type { GuestAnswer, GuestRequest } from '../guest.ts';
import type { GuestTransport } from '../guest-calls.ts';
import { answerCall, type FakeCall } from './calls.ts';
import type { FakeHost } from './host.ts';

const CALL_CPU_NS = 200_000;
/** What a call costs on the wire besides its body. */
const CALL_BYTES = 200;

/** Reaches the guest of a fake instance, as long as it lives. A frozen one answers nothing until it is resumed. */
export function fakeTransport(host: FakeHost, instanceId: InstanceId): GuestTransport {
  const closed = new AbortController();
  return { send, tunnel, close };

  function close(): void {
    closed.abort(new Failure('unavailable', 'this guest was closed by us', { retryable: true }));
  }

  function ends(signal: AbortSignal | undefined): AbortSignal {
    return signal ? AbortSignal.any([signal, closed.signal]) : closed.signal;
  }

  async function send(request: GuestRequest, token: string): Promise<GuestAnswer> {
    const outer = ends(request.signal);
    if (!request.headMs) return await untilAborted(outer, () => answerInside(request, token, outer));
    const timer = { name: `guest ${request.method} ${request.path}`, ms: request.headMs, clock: host.clock, outer };
    return await withDeadline(timer, (signal) => answerInside(request, token, signal));
  }

  async function answerInside(request: GuestRequest, token: string, signal: AbortSignal): Promise<GuestAnswer> {
    const sandbox = reach();
    const { machine, gate } = sandbox;
    await gate.passed();
    if (sandbox.isSilent) await new Promise(() => {}); // until the caller gives up
    signal.throwIfAborted(); // the caller left while it was frozen: its stream is closed before the guest looks at it
    const call = await readCall(request);
    sandbox.cpuUsageNs += CALL_CPU_NS;
    sandbox.rxBytes += CALL_BYTES + call.body.length;
    const answer = await answerCall(machine, token, call);
    await gate.passed();
    sandbox.txBytes += CALL_BYTES;
    return { ...answer, body: Readable.from(counted(answer.body), { objectMode: false }) };

    async function* counted(body: Readable): AsyncGenerator<Buffer> {
      for await (const chunk of body) {
        await gate.passed();
        sandbox.txBytes += chunk.length;
        yield chunk;
      }
    }
  }

  async function tunnel(port: number, token: string, signal?: AbortSignal) {
    const { machine, gate } = reach();
    const left = ends(signal);
    await untilAborted(left, () => gate.passed());
    if (!machine.accepts(token)) throw new Failure('unauthenticated', 'the token is not the one expected');
    if (!machine.listeners.has(port))
      throw new Failure('bad_gateway', `nothing listens on port ${port} of the instance`, {
        details: { guestCode: 'failed', guestStatus: 502 },
      });
    const connection = machine.connect(port);
    left.addEventListener('abort', () => connection.destroy(), { once: true });
    return connection;
  }

  function reach() {
    const sandbox = host.sandboxes.get(instanceId);
    if (!sandbox?.started) {
      throw new Failure('unavailable', `the guest of instance ${instanceId} does not answer: nothing listens there`, {
        retryable: true,
      });
    }
    return sandbox;
  }
}

async function readCall(request: GuestRequest): Promise<FakeCall> {
  const url = new URL(request.path, 'http://guest');
  const { method, headers = {} } = request;
  return { method, path: url.pathname, query: url.searchParams, headers, body: await readBody(request.body) };
}

async function readBody(body: GuestRequest['body']): Promise<Buffer> {
  if (body === undefined) return Buffer.alloc(0);
  if (!(body instanceof Readable)) return Buffer.from(body);
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

async function untilAborted<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const over = new AbortController();
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true, signal: over.signal });
  });
  try {
    return await Promise.race([work(), aborted]);
  } finally {
    over.abort();
  }
}
