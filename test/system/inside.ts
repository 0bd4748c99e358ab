/** Programs run inside a sandbox, through the API alone, as a tenant would. */
import { putFile, type Made } from '../bench/lib/sandboxes.ts';
import { client, expectOk, timed, type Answer, type Stack } from '../bench/lib/stack.ts';

export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a shell line to its end; rejects when the sandbox would not run it. */
export async function sh(stack: Stack, sandbox: Made, command: string, timeoutS = 30): Promise<Ended> {
  const answer = await ask(stack, sandbox, command, timeoutS);
  if (answer.status !== 200)
    throw new Error(
      `"${command}" in ${sandbox.name} answered ${answer.status}: ${answer.body.toString().slice(0, 500)}`,
    );
  return JSON.parse(answer.body.toString()) as Ended; // the dialect's process view
}

/** The same, whatever the answer is: for what may well end the sandbox. */
export function ask(stack: Stack, sandbox: Made, command: string, timeoutS = 30): Promise<Answer> {
  return timed(client(stack.url, 1), `${sandbox.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ command, waitForCompletion: true, timeout: timeoutS }),
  });
}

/** Starts a program under a name and leaves it running. */
export async function start(stack: Stack, sandbox: Made, name: string, command: string): Promise<void> {
  await expectOk(client(stack.url, 1), `${sandbox.url}/process`, {
    method: 'POST',
    headers: { ...stack.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ name, command }),
  });
}

let serial = 0;

/** Runs a Python program that reads JSON and prints JSON. */
export async function python(
  stack: Stack,
  sandbox: Made,
  program: string,
  input: unknown,
  timeoutS = 30,
): Promise<unknown> {
  const via = client(stack.url, 1);
  const path = `/tmp/program-${serial++}`;
  await putFile(via, stack, sandbox, `${path}.py`, program);
  await putFile(via, stack, sandbox, `${path}.json`, JSON.stringify(input));
  const { exitCode, stdout, stderr } = await sh(stack, sandbox, `python3 ${path}.py < ${path}.json`, timeoutS);
  if (exitCode !== 0) throw new Error(`the program in ${sandbox.name} ended with ${exitCode}: ${stderr.slice(-1_000)}`);
  return JSON.parse(stdout);
}
