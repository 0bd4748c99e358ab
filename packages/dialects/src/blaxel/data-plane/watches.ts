/** `/watch/filesystem/{path}`: changes of files, told as they happen. */
import { z } from 'zod';
import { guestPath, listOf, locate } from './addresses.ts';
import { answerStream, recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { FILE_CODES } from './files.ts';
import { checked, openStream } from './guest-calls.ts';
import { linesOf } from './texts.ts';

const WatchLine = z.union([
  z.object({ op: z.enum(['create', 'write', 'remove', 'rename', 'chmod']), path: z.string(), name: z.string() }),
  z.object({ ready: z.literal(true) }),
  z.object({ keepalive: z.literal(true) }),
  z.looseObject({}),
]);

/** A path that ends in `/**` is watched with all that is below it. */
export async function watchFiles(exchange: Exchange): Promise<DataPlaneAnswer> {
  const asked = exchange.parameters['path'] ?? '';
  const recursive = /(^|\/)\*\*$/.test(asked);
  const root = locate(
    recursive ? asked.replace(/\/?\*\*$/, '') || (asked.startsWith('/') ? '/' : '') : asked,
    exchange.workdir,
  );
  const ignored = listOf(exchange.query, 'ignore') ?? [];
  const gone = new AbortController();
  const signal = AbortSignal.any([gone.signal, exchange.request.signal]);
  const lines = await open(exchange, root, recursive, signal);
  const kind = { contentType: 'text/plain; charset=utf-8', keepAwake: 'watch stream', gone };
  return answerStream(exchange, kind, async function* () {
    for await (const line of linesOf(lines)) {
      const text = tell(checked(WatchLine, JSON.parse(line), 'GET /v1/files/watch'), ignored);
      if (text !== undefined) yield text;
    }
  });
}

async function open(
  exchange: Exchange,
  path: string,
  recursive: boolean,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const call = guestPath('/v1/files/watch', { path, recursive });
  try {
    return (await openStream(exchange.guest, { method: 'GET', path: call, signal, headMs: 30_000, bulk: true })).body;
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
}

function tell(line: z.infer<typeof WatchLine>, ignored: readonly string[]): string | undefined {
  if ('keepalive' in line || 'ready' in line) return '[keepalive]\n';
  if (!('op' in line) || typeof line.op !== 'string' || typeof line.path !== 'string' || typeof line.name !== 'string')
    return undefined;
  const directory = directoryOf(line.path, line.name);
  if (isIgnored(directory, line.name, ignored)) return undefined;
  return `${JSON.stringify({ op: line.op.toUpperCase(), name: line.name, path: directory, error: null })}\n`;
}

/** Clients put `path` and `name` together again, so the path must be the directory's. */
function directoryOf(path: string, name: string): string {
  return path.endsWith(`/${name}`) ? path.slice(0, -name.length - 1) || '/' : path;
}

function isIgnored(directory: string, name: string, ignored: readonly string[]): boolean {
  const parts = [...directory.split('/'), name];
  return ignored.some((word) => parts.includes(word) || `${directory}/${name}`.startsWith(`${word}/`));
}
