/** How other commands speak to a running supervisor: HTTP on a unix socket that only root may open. */
import { createServer, request } from 'node:http';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { explain } from '@torpor/kernel';
import type { Installation } from './installation.ts';
import type { ServiceStatus } from './supervisor.ts';

export interface StackStatus {
  readonly pid: number;
  readonly url: string;
  readonly ready: boolean;
  readonly services: readonly ServiceStatus[];
}

export interface ControlHandlers {
  status(): Promise<StackStatus>;
  /** Begins to stop; answers before it is done. */
  stop(): void;
}

function socketOf(installation: Installation): string {
  return join(installation.runDir, 'control.sock');
}

export async function serveControl(
  installation: Installation,
  handlers: ControlHandlers,
): Promise<{ close(): Promise<void> }> {
  const path = socketOf(installation);
  await rm(path, { force: true }); // left by one that was killed; the caller has made sure that none runs
  const server = createServer((incoming, answer) => {
    const json = (status: number, body: unknown) =>
      answer.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (incoming.method === 'GET' && incoming.url === '/status') {
      handlers.status().then(
        (status) => json(200, status),
        (error: unknown) => json(500, { error: explain(error) }),
      );
    } else if (incoming.method === 'POST' && incoming.url === '/stop') {
      json(202, {});
      handlers.stop();
    } else json(404, { error: 'expected GET /status or POST /stop' });
  });
  const before = process.umask(0o177);
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
  process.umask(before);
  return {
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Undefined when no supervisor of this installation runs. */
export async function askStatus(installation: Installation): Promise<StackStatus | undefined> {
  const text = await call(installation, 'GET', '/status');
  return text === undefined ? undefined : (JSON.parse(text) as StackStatus); // our own answer, of the same checkout
}

/** Whether there was one to tell. */
export async function askStop(installation: Installation): Promise<boolean> {
  return (await call(installation, 'POST', '/stop')) !== undefined;
}

function call(installation: Installation, method: string, path: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const asking = request({ socketPath: socketOf(installation), method, path, timeout: 10_000 }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      answer.once('end', () => resolve(text));
      answer.once('error', reject);
    });
    asking.once('timeout', () =>
      asking.destroy(new Error('the supervisor did not answer; the timer "control" ended after 10000 ms')),
    );
    asking.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(error);
    });
    asking.end();
  });
}
