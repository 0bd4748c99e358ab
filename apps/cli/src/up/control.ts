/** How other commands speak to a running supervisor: HTTP on a unix socket that only root may open. */
import { createServer, request } from 'node:http';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { explain } from '@torpor/kernel';
import type { Installation } from './installation.ts';
import type { ServiceStatus } from './supervisor.ts';

/** What may be asked often: nothing is looked at for it. */
export interface StackStart {
  readonly pid: number;
  readonly url: string;
  readonly ready: boolean;
}

export interface StackStatus extends StackStart {
  readonly services: readonly ServiceStatus[];
}

export interface ControlHandlers {
  start(): StackStart;
  services(): Promise<readonly ServiceStatus[]>;
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
  await mkdir(installation.runDir, { recursive: true });
  await rm(path, { force: true }); // left by one that was killed; the caller holds the lock, so none runs
  const server = createServer((incoming, answer) => {
    const json = (status: number, body: unknown) =>
      answer.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    if (incoming.method === 'GET' && incoming.url === '/start') json(200, handlers.start());
    else if (incoming.method === 'GET' && incoming.url === '/status') {
      handlers.services().then(
        (services) => json(200, { ...handlers.start(), services }),
        (error: unknown) => json(500, { error: explain(error) }),
      );
    } else if (incoming.method === 'POST' && incoming.url === '/stop') {
      json(202, {});
      handlers.stop();
    } else json(404, { error: 'expected GET /start, GET /status or POST /stop' });
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

/** Likewise, and at once. */
export async function askStart(installation: Installation): Promise<StackStart | undefined> {
  const text = await call(installation, 'GET', '/start');
  return text === undefined ? undefined : (JSON.parse(text) as StackStart); // as above
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
