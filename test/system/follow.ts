/** Requests that stay open: what they do when somebody on their way dies. */
import { request } from 'undici';
import { patient, type Stack } from '../bench/lib/stack.ts';
import { exec } from './counter.ts';

export interface Open {
  /** What it ended with; undefined while it is open. */
  readonly ended: () => string | undefined;
  close(): void;
}

/** Starts a process that says something ten times a second, for ever. Answers its name. */
export async function talk(stack: Stack, sandbox: { url: string }, name: string): Promise<string> {
  await exec(stack, sandbox, { command: 'while :; do echo still; sleep 0.1; done', name });
  return name;
}

/** A reader of what a process says. Resolves when it has read something. */
export async function follow(stack: Stack, sandbox: { url: string }, name: string): Promise<Open> {
  const closing = new AbortController();
  const { statusCode, body } = await request(`${sandbox.url}/process/${name}/logs/stream`, {
    dispatcher: patient,
    headers: { ...stack.headers, accept: 'text/event-stream' },
    signal: closing.signal,
  });
  if (statusCode !== 200) throw new Error(`following ${name} answered ${statusCode}: ${await body.text()}`);
  let ended: string | undefined;
  const { promise: begun, resolve, reject } = Promise.withResolvers<void>();
  const read = async () => {
    for await (const part of body) if (String(part).includes('still')) resolve();
  };
  read().then(
    () => (ended = 'ended well'),
    (error: unknown) => {
      ended = `error: ${String(error)}`;
      reject(error);
    },
  );
  await begun;
  return { ended: () => ended, close: () => closing.abort() };
}

/** A command that outlives every test, waited for. */
export function longExec(stack: Stack, sandbox: { url: string }, name: string): Open {
  let ended: string | undefined;
  exec(stack, sandbox, { command: 'sleep 1000', name, waitForCompletion: true, timeout: 600 }, 600_000).then(
    (answer) => (ended = `answered ${JSON.stringify(answer).slice(0, 200)}`),
    (error: unknown) => (ended = `error: ${String(error)}`),
  );
  return { ended: () => ended, close: () => {} };
}
