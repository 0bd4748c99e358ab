/**
 * The client of packages/hostd/PROTOCOL.md. hostd may be killed and replaced at any time; each call connects again if it must, trying until its own
 * deadline. Calls in flight are asked again when they need no intent: twice is once for them, and no wake fails because hostd was restarted. The
 * journaled ones fail as retryable: only the journal knows what to do next.
 */
import { Failure, withDeadline } from '@torpor/kernel';
import { setTimeout as sleep } from 'node:timers/promises';
import { BrokenConnection, HostdConnection } from './hostd-connection.ts';
import {
  needsIntent,
  parseResult,
  type FreeVerb,
  type JournaledVerb,
  type Verb,
  type VerbArgs,
  type VerbResult,
} from './hostd-verbs.ts';
import type { Intent } from './port.ts';
import { assertCovered } from './steps.ts';

const HELLO_MS = 2000;
const BACKOFF_MS = [2, 5, 10, 20, 50];
const BACKOFF_MS_MAX = 100;

export interface HostdClient {
  /** A verb that needs no journaled intent. Asked again, until the deadline, when hostd was replaced meanwhile. */
  ask<V extends FreeVerb>(verb: V, args: VerbArgs[V], deadlineMs: number): Promise<VerbResult<V>>;
  /** A verb that changes an instance. Throws, before anything is sent, when the intent does not cover it. */
  change<V extends JournaledVerb>(
    intent: Intent,
    verb: V,
    args: VerbArgs[V],
    deadlineMs: number,
  ): Promise<VerbResult<V>>;
  close(): void;
}

export function hostdClient(options: {
  socket: string;
  scope: string;
  /** The span that a verb is asked in, if it is asked in one. */
  traceparent?: () => string | undefined;
}): HostdClient {
  let live: HostdConnection | undefined;
  let opening: Promise<HostdConnection> | undefined;
  let closed = false;

  return {
    async ask(verb, args, deadlineMs) {
      if (needsIntent(verb)) throw new Error(`"${verb}" was asked without a journaled intent`);
      const untilMs = performance.now() + deadlineMs;
      for (;;) {
        try {
          return await call(verb, args, msUntil(untilMs));
        } catch (error) {
          if (!(error instanceof BrokenConnection) || performance.now() >= untilMs) throw error;
        }
      }
    },
    async change(intent, verb, args, deadlineMs) {
      assertCovered(intent, verb, ownerIn(args, intent));
      return await call(verb, args, deadlineMs);
    },
    close() {
      closed = true;
      live?.close();
      opening?.then((connection) => connection.close()).catch(() => {}); // there is nothing to close then
    },
  };

  async function call<V extends Verb>(verb: V, args: VerbArgs[V], deadlineMs: number): Promise<VerbResult<V>> {
    const untilMs = performance.now() + deadlineMs;
    const traceparent = options.traceparent?.();
    const connection = live && !live.isBroken ? live : await connected(verb, untilMs);
    return parseResult(verb, await connection.call(verb, args, msUntil(untilMs), traceparent));
  }

  /** Connects, again and again until the deadline; calls that come meanwhile share the attempt. */
  async function connected(verb: string, untilMs: number): Promise<HostdConnection> {
    for (let attempt = 0; ; attempt++) {
      if (closed) throw new Failure('unavailable', 'the client of hostd was closed');
      const mine = (opening ??= open());
      try {
        live = await withDeadline({ name: `connecting to hostd for ${verb}`, ms: msUntil(untilMs) }, () => mine);
        return live;
      } catch (error) {
        if (error instanceof WrongHostd || performance.now() >= untilMs) throw notReached(verb, error);
      } finally {
        if (opening === mine) opening = undefined;
      }
      await sleep(Math.min(BACKOFF_MS[attempt] ?? BACKOFF_MS_MAX, msUntil(untilMs)));
    }
  }

  async function open(): Promise<HostdConnection> {
    const connection = await HostdConnection.open(options.socket);
    try {
      const hello = parseResult('hello', await connection.call('hello', { protocol: 1 }, HELLO_MS));
      if (hello.scope !== options.scope) {
        throw new WrongHostd(`the hostd at ${options.socket} serves scope ${hello.scope}, expected ${options.scope}`);
      }
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  function notReached(verb: string, cause: unknown): Failure {
    const message = `hostd does not answer at ${options.socket}, so "${verb}" was not asked; see whether hostd runs`;
    return new Failure('unavailable', message, { retryable: !(cause instanceof WrongHostd), cause });
  }
}

/** What the intent must be for. A volume has intents of its own besides its instance's; the verbs of an image name no instance: the intent knows whose it is. */
function ownerIn(args: VerbArgs[JournaledVerb], intent: Intent): string {
  if (!('id' in args)) return intent.instanceId;
  return 'volume' in args && args.volume === intent.instanceId ? args.volume : args.id;
}

function msUntil(untilMs: number): number {
  return Math.max(1, Math.ceil(untilMs - performance.now()));
}

class WrongHostd extends Error {}
