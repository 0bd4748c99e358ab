import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const lines = JSON.stringify(new URL('./gathered-lines.ts', import.meta.url).href);

/** Runs a script to which `out` is the gathered standard output. */
function script(text: string): string[] {
  return [
    '--input-type=module',
    '--eval',
    `const { gatheredLines } = await import(${lines}); const out = gatheredLines(1); ${text}`,
  ];
}

it('loses nothing when the process ends, also by an error', async () => {
  const said = await promisify(execFile)(
    process.execPath,
    script(`for (let n = 0; n < 2000; n++) out.write(n + '\\n');`),
  );
  expect(said.stdout).toBe(Array.from({ length: 2000 }, (_, n) => `${n}\n`).join(''));
  const failed = promisify(execFile)(process.execPath, script(`out.write('last words\\n'); throw new Error('a bug');`));
  await expect(failed).rejects.toMatchObject({ stdout: 'last words\n' });
});

it('keeps no line for long', async () => {
  const child = spawn(process.execPath, script(`out.write('a line\\n'); setInterval(() => {}, 1000);`), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [heard] = (await once(child.stdout, 'data')) as [Buffer]; // a stream of bytes
  expect(heard.toString()).toBe('a line\n');
  child.kill('SIGKILL');
  await once(child, 'exit');
});
