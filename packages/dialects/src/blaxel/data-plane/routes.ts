import { Failure } from '@torpor/kernel';
import { decodePiece } from './addresses.ts';
import type { DataPlaneAnswer, Exchange } from './exchange.ts';
import { readDirectory, readFile, removeFile, writeFile } from './files.ts';
import { startProcess } from './process-start.ts';
import { streamLogs } from './process-streams.ts';
import { closeStdin, getLogs, getProcess, killProcess, listProcesses, stopProcess, writeStdin } from './processes.ts';
import { findFiles, searchContent, searchNames } from './searches.ts';
import { health, listPorts } from './system.ts';
import { writeTree } from './trees.ts';
import { abortUpload, completeUpload, initiateUpload, listParts, listUploads, uploadPart } from './uploads.ts';
import { watchFiles } from './watches.ts';

type Serve = (exchange: Exchange) => Promise<DataPlaneAnswer>;

interface Route {
  readonly pattern: RegExp;
  readonly names: readonly string[];
  readonly methods: Readonly<Record<string, Serve>>;
}

/** `{name}` is one segment, `{name...}` the rest behind the slash, which may be empty. Patterns match the raw path. */
function route(template: string, methods: Readonly<Record<string, Serve>>): Route {
  const names: string[] = [];
  const source = template
    .replace(/\/\{(\w+)\.\.\.\}$/, (_, name: string) => {
      names.push(name);
      return '(?:/(.*))?';
    })
    .replace(/\{(\w+)\}/g, (_, name: string) => {
      names.push(name);
      return '([^/]+)';
    });
  return { pattern: new RegExp(`^${source}/?$`, 's'), names, methods };
}

/** For what is not here: says so by name. */
function lacks(what: string): Serve {
  return () => {
    throw new Failure('not_implemented', `${what} is not offered by this server`);
  };
}

/** The first that matches counts. */
const ROUTES: readonly Route[] = [
  route('/process', { GET: listProcesses, POST: startProcess }),
  route('/process/{id}', { GET: getProcess, DELETE: stopProcess }),
  route('/process/{id}/kill', { DELETE: killProcess }),
  route('/process/{id}/logs', { GET: getLogs }),
  route('/process/{id}/logs/stream', { GET: streamLogs }),
  route('/process/{id}/stdin', { POST: writeStdin, DELETE: closeStdin }),
  {
    pattern: /^\/filesystem\/tree\/(.*)$/s,
    names: ['path'],
    methods: { GET: readDirectory, PUT: writeTree, DELETE: removeFile },
  },
  route('/filesystem/{path...}', { GET: readFile, PUT: writeFile, DELETE: removeFile }),
  route('/filesystem-find/{path...}', { GET: findFiles }),
  route('/filesystem-search/{path...}', { GET: searchNames }),
  route('/filesystem-content-search/{path...}', { GET: searchContent }),
  route('/filesystem-multipart', { GET: listUploads }),
  route('/filesystem-multipart/initiate/{path...}', { POST: initiateUpload }),
  route('/filesystem-multipart/{uploadId}/part', { PUT: uploadPart }),
  route('/filesystem-multipart/{uploadId}/parts', { GET: listParts }),
  route('/filesystem-multipart/{uploadId}/complete', { POST: completeUpload }),
  route('/filesystem-multipart/{uploadId}/abort', { DELETE: abortUpload }),
  route('/watch/filesystem/{path...}', { GET: watchFiles }),
  route('/network/process/{pid}/ports', { GET: listPorts }),
  route('/health', { GET: health }),
  route('/network/process/{pid}/monitor', { POST: lacks('the port monitor'), DELETE: lacks('the port monitor') }),
  route('/network/tunnel', { DELETE: lacks('the network tunnel') }),
  route('/network/tunnel/config', { PUT: lacks('the network tunnel') }),
  route('/drives/mount', { GET: lacks('mounting drives'), POST: lacks('mounting drives') }),
  route('/drives/mount/{path...}', { DELETE: lacks('mounting drives') }),
  route('/codegen/fastapply/{path...}', { PUT: lacks('code generation (fastapply)') }),
  route('/codegen/reranking/{path...}', { GET: lacks('code generation (reranking)') }),
  route('/archive/export', { POST: lacks('the archive of a sandbox') }),
  route('/archive/resume', { POST: lacks('the archive of a sandbox') }),
  route('/archive/status', { GET: lacks('the archive of a sandbox') }),
  route('/environment/reload', { POST: lacks('reloading the environment') }),
  route('/upgrade', { POST: lacks('upgrading the sandbox API') }),
  route('/terminal', { GET: lacks('the terminal') }),
  route('/terminal/ws', { GET: lacks('the terminal') }),
  route('/mcp', { GET: lacks('the MCP server of a sandbox'), POST: lacks('the MCP server of a sandbox') }),
  route('/swagger/{path...}', { GET: lacks('the API description') }),
  route('/', { GET: lacks('the welcome page') }),
];

export interface FoundRoute {
  readonly serve: Serve;
  readonly parameters: Readonly<Record<string, string>>;
}

/** Rejects with `not_found` when no path is so, with `method_not_allowed` when the path has no such method. */
export function findRoute(method: string, rawPath: string): FoundRoute {
  for (const { pattern, names, methods } of ROUTES) {
    const match = pattern.exec(rawPath);
    if (!match) continue;
    const serve = Object.hasOwn(methods, method) ? methods[method] : undefined;
    if (!serve) {
      const allowed = Object.keys(methods).join(', ');
      throw new Failure('method_not_allowed', `${method} is not possible here; expected ${allowed}`);
    }
    const parameters = Object.fromEntries(names.map((name, index) => [name, decodePiece(match[index + 1] ?? '')]));
    return { serve, parameters };
  }
  throw new Failure('not_found', `there is no ${method} ${rawPath.slice(0, 100)} in the sandbox API`);
}
