/** Programs in a sandbox, run and followed through the guest's calls. */
import { createInterface } from 'node:readline';
import { Failure } from '@torpor/kernel';
import type { Client } from './client.ts';
import { StreamCut } from './plain-words.ts';

type Frame =
  | { stream: 'stdout' | 'stderr'; data: string }
  | { exit: { code: number; signal?: string } }
  | { dropped: { stream: string; from: number; to: number } }
  | { keepalive: true };

/** Copies a process's output to ours as it comes; answers its exit code, or 0 where it still runs and we do not follow. */
export async function copyOutput(
  client: Client,
  sandbox: string,
  process_: string,
  options: { follow: boolean },
): Promise<number> {
  const query = `stream=both&format=frames&follow=${options.follow ? 1 : 0}`;
  const answer = await client.guest(sandbox, 'GET', `/v1/processes/${encodeURIComponent(process_)}/output?${query}`);
  for await (const line of createInterface({ input: answer.body, crlfDelay: Infinity })) {
    const frame = JSON.parse(line) as Frame; // packages/guest/PROTOCOL.md
    if ('exit' in frame) return frame.exit.code;
    if ('dropped' in frame)
      process.stderr.write(
        `[output from byte ${frame.dropped.from} to ${frame.dropped.to} was dropped: the log is capped]\n`,
      );
    if ('data' in frame) process[frame.stream].write(Buffer.from(frame.data, 'base64'));
  }
  if (options.follow) throw new StreamCut('the output ended before the process did');
  return 0;
}

export async function startProcess(
  client: Client,
  sandbox: string,
  request: object,
): Promise<{ id: string; name: string; pid: number }> {
  const answer = await client.guest(sandbox, 'POST', '/v1/processes', request);
  return (await answer.body.json()) as { id: string; name: string; pid: number }; // packages/guest/PROTOCOL.md
}

/** Gives a program what we are given, to the end; ends early and quietly when the program has ended. */
export async function copyInput(
  client: Client,
  sandbox: string,
  id: string,
  from: AsyncIterable<Buffer>,
): Promise<void> {
  const at = `/v1/processes/${encodeURIComponent(id)}/stdin`;
  try {
    for await (const bytes of from) await (await client.guest(sandbox, 'POST', at, bytes)).body.dump();
    await (await client.guest(sandbox, 'DELETE', at)).body.dump();
  } catch (error) {
    if (!(error instanceof Failure)) throw error; // the program is gone or takes no more; its output and exit code say the rest
  }
}

/** Passes a signal on. False: the program had ended already. */
export async function signalProcess(client: Client, sandbox: string, id: string, signal: string): Promise<boolean> {
  try {
    const at = `/v1/processes/${encodeURIComponent(id)}/signal`;
    await (await client.guest(sandbox, 'POST', at, { signal, group: true })).body.dump();
    return true;
  } catch (error) {
    if (error instanceof Failure) return false;
    throw error;
  }
}
