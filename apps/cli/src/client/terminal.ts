/** A shell in a sandbox, on a pty there and in raw mode here. */
import type { Client } from './client.ts';
import { startProcess } from './processes.ts';

export async function openTerminal(client: Client, sandbox: string, shell: string): Promise<number> {
  const { stdin, stdout } = process;
  const size = () => ({ cols: stdout.columns || 80, rows: stdout.rows || 24 }); // a pty that nobody sized says 0
  const { id } = await startProcess(client, sandbox, {
    argv: [shell, '-l'],
    pty: size(),
    stdin: true,
    env: { TERM: process.env.TERM ?? 'xterm' },
  });
  const at = `/v1/processes/${id}`;
  // Keystrokes must arrive in their order: one request after another, each with all that was typed meanwhile.
  let typed: Buffer[] = [];
  let sending: Promise<unknown> | undefined;
  const send = () => {
    if (sending || typed.length === 0) return;
    const bytes = Buffer.concat(typed);
    typed = [];
    sending = client
      .guest(sandbox, 'POST', `${at}/stdin`, bytes)
      .then((answer) => answer.body.dump())
      .catch(() => stdin.pause()) // the shell has ended; its output says so
      .finally(() => {
        sending = undefined;
        send();
      });
  };
  const resize = () =>
    void client.guest(sandbox, 'POST', `${at}/resize`, size()).then(
      (answer) => answer.body.dump(),
      () => {},
    ); // too late is no harm
  stdin.setRawMode?.(true);
  stdin.on('data', (bytes: Buffer) => {
    typed.push(bytes);
    send();
  });
  stdout.on('resize', resize);
  try {
    const output = await client.guest(sandbox, 'GET', `${at}/output?stream=stdout&format=raw&follow=1`);
    for await (const bytes of output.body) stdout.write(bytes as Buffer);
    const end = await client.guest(sandbox, 'GET', `${at}?waitMs=2000`);
    return ((await end.body.json()) as { exitCode?: number }).exitCode ?? 0;
  } finally {
    stdin.setRawMode?.(false);
    stdin.pause();
    stdout.off('resize', resize);
  }
}
