/**
 * The main job of Torpor, done by a program that knows nothing of it: the published `@blaxel/core`, pointed here by its own environment variables.
 * It creates a sandbox, leaves a process in it, goes away until it sleeps, comes back, and looks whether everything is as it was.
 */
import { setTimeout as after } from 'node:timers/promises';
import { environmentOf } from '../up/environment-lines.ts';
import type { Credentials } from '../up/credentials.ts';
import { COUNTER_PROGRAM, type Told } from './counter-program.ts';
import type { Story } from './story.ts';

const ASLEEP_WITHIN_MS = 25_000;

export async function runDemo(story: Story, credentials: Credentials): Promise<void> {
  Object.assign(process.env, environmentOf('blaxel', credentials));
  const { SandboxInstance } = await import('@blaxel/core'); // it reads the variables when it is loaded
  const name = `demo-${Date.now().toString(36)}`;

  story.say('A program written for Blaxel creates a sandbox and works in it.');
  const sandbox = await story.step(`SandboxInstance.create("${name}")`, () =>
    SandboxInstance.create({ name, image: 'blaxel/base-image:latest' }),
  );
  try {
    const hello = await story.step('process.exec("echo … && uname")', () =>
      sandbox.process.exec({ command: 'echo hello from $(hostname), $(uname -sr)', waitForCompletion: true }),
    );
    story.promise(
      'the command ran in the sandbox',
      hello.exitCode === 0 && (hello.logs ?? '').startsWith('hello'),
      (hello.logs ?? '').trim(),
    );
    await story.step('fs.write("counter.py")', () => sandbox.fs.write('counter.py', COUNTER_PROGRAM));
    await story.step('process.exec("python3 counter.py"), waiting for its port', () =>
      sandbox.process.exec({ name: 'counter', command: 'python3 counter.py', waitForPorts: [3000] }),
    );
    const before = await story.step('fetch(3000): what the process says of itself', async () =>
      told((await sandbox.fetch(3000, '/')) as Response),
    );

    story.say('The program goes away. After 15 s without use the sandbox falls asleep by itself.');
    const asleep = await story.step('until the API says STANDBY', () => untilStandby(name, credentials));
    story.promise('it fell asleep by its idle policy', asleep, asleep ? 'STANDBY' : 'still RUNNING');
    await after(2_000); // it sleeps a while, so that a clock which went on would show

    story.say('The program comes back, and finds everything as it was.');
    const began = performance.now();
    const answer = await fetch(`${sandbox.metadata.url}/port/3000/`, {
      headers: {
        'x-blaxel-authorization': `Bearer ${credentials.apiKey}`,
        'x-blaxel-workspace': credentials.workspace,
      },
    });
    const afterwards = await told(answer);
    const tookMs = performance.now() - began;
    const timing = answer.headers.get('server-timing') ?? '';
    story.say(`  The first request was answered after ${tookMs.toFixed(1)} ms; the node says: ${timing}`);
    story.promise('the request woke it', /wake;desc="paused"/.test(timing), timing);
    story.promise('the same process', afterwards.pid === before.pid, `pid ${afterwards.pid}`);
    story.promise(
      'its child still runs',
      afterwards.childAlive && afterwards.child === before.child,
      `pid ${afterwards.child}`,
    );
    story.promise(
      'its 32 MiB of memory are the same',
      afterwards.memory === before.memory,
      afterwards.memory.slice(0, 16),
    );
    // It ticks 20 times a second. Awake it had 15 s; the 2 s and more of sleep must be missing.
    story.promise(
      'its counter went on from where it was',
      afterwards.count >= before.count,
      `${before.count} → ${afterwards.count}`,
    );
    story.promise(
      'its open file is where it was',
      afterwards.offset >= before.offset,
      `offset ${before.offset} → ${afterwards.offset}`,
    );
    const file = await story.step('fs.read("counter.py")', () => sandbox.fs.read('counter.py'));
    story.promise('the file is what was written', file === COUNTER_PROGRAM);
  } finally {
    await story.step('delete()', () => SandboxInstance.delete(name));
  }
}

async function told(answer: Response): Promise<Told> {
  if (!answer.ok) throw new Error(`the sandbox's port 3000 answered ${answer.status}: ${await answer.text()}`);
  return (await answer.json()) as Told; // what our own program prints
}

/** Asks the control plane, which wakes nobody. */
async function untilStandby(name: string, { url, apiKey, workspace }: Credentials): Promise<boolean> {
  const headers = { 'x-blaxel-authorization': `Bearer ${apiKey}`, 'x-blaxel-workspace': workspace };
  const until = performance.now() + ASLEEP_WITHIN_MS;
  while (performance.now() < until) {
    const { state } = (await (await fetch(`${url}/v0/sandboxes/${name}`, { headers })).json()) as { state?: string }; // the dialect's shape
    if (state === 'STANDBY') return true;
    await after(100);
  }
  return false;
}
