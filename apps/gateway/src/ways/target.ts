/**
 * Where a request wants to go, read from its raw URL. `%2F` and `//` mean something to the sandbox API, so nothing here decodes, merges or
 * resolves anything: what follows the part that is ours travels on byte by byte.
 */
import { SandboxName, WorkspaceName, type DataPlanePart } from '@torpor/contracts';

export type Target =
  /** `rest` begins with `/` and holds the query. */
  | {
      readonly kind: 'sandbox';
      readonly workspace: WorkspaceName;
      readonly name: SandboxName;
      readonly part: DataPlanePart;
      readonly rest: string;
    }
  /** `path` begins with `/`; `query` is empty or begins with `?`. */
  | { readonly kind: 'preview'; readonly id: string; readonly path: string; readonly query: string }
  /** `path` is what follows `/v0`. */
  | { readonly kind: 'control'; readonly path: string; readonly query: string }
  /** `path` is the procedure's name. */
  | { readonly kind: 'rpc'; readonly path: string }
  | { readonly kind: 'health' }
  /** A part of the run plane that this version does not have. */
  | { readonly kind: 'missing'; readonly what: string }
  | { readonly kind: 'absent' }
  | { readonly kind: 'malformed'; readonly why: string };

const RUN_PLANE = /^\/([^/]*)\/(sandboxes|agents|functions|models|jobs|applications)\/([^/]*)(\/.*)?$/s;
const CONTROL_PLANE = /^(?:\/[^/]+)*?\/v0(\/.*)?$/s;
const PREVIEW = /^\/preview\/([a-z0-9-]{1,80})(\/.*)?$/s;
const PORT = /^\/port\/([^/]*)(\/.*)?$/s;

export function targetOf(rawUrl: string): Target {
  const url = originForm(rawUrl);
  if (!url.startsWith('/')) return { kind: 'malformed', why: 'expected a path that begins with "/"' };
  const cut = url.indexOf('?');
  const path = cut < 0 ? url : url.slice(0, cut);
  const query = cut < 0 ? '' : url.slice(cut);
  if (path === '/v0' || path.startsWith('/v0/')) return control(path.slice(3), query);
  const run = RUN_PLANE.exec(path);
  if (run) return runPlane(run[1] ?? '', run[2] ?? '', run[3] ?? '', run[4] ?? '', query);
  const preview = PREVIEW.exec(path);
  if (preview?.[1]) return { kind: 'preview', id: preview[1], path: preview[2] ?? '/', query };
  if (path.startsWith('/trpc/')) return { kind: 'rpc', path: path.slice('/trpc/'.length) };
  if (path === '/healthz') return { kind: 'health' };
  const prefixed = CONTROL_PLANE.exec(path);
  return prefixed ? control(prefixed[1] ?? '', query) : { kind: 'absent' };
}

function control(path: string, query: string): Target {
  return { kind: 'control', path: path === '' ? '/' : path, query };
}

function runPlane(workspace: string, things: string, name: string, rest: string, query: string): Target {
  const whose = WorkspaceName.safeParse(workspace);
  if (!whose.success) return { kind: 'malformed', why: `"${shown(workspace)}" is not a workspace's name` };
  if (things !== 'sandboxes') return { kind: 'missing', what: things };
  const which = SandboxName.safeParse(name);
  if (!which.success) return { kind: 'malformed', why: `"${shown(name)}" is not a sandbox's name` };
  const to = { kind: 'sandbox', workspace: whose.data, name: which.data } as const;
  const port = PORT.exec(rest);
  if (port) {
    const number = Number(port[1]);
    if (!/^\d{1,5}$/.test(port[1] ?? '') || number < 1 || number > 65_535) {
      return { kind: 'malformed', why: `"${shown(port[1] ?? '')}" is not a port; expected 1 to 65535` };
    }
    return { ...to, part: `port/${number}`, rest: `${port[2] ?? '/'}${query}` };
  }
  if (rest === '/-/v1' || rest.startsWith('/-/v1/')) return { ...to, part: 'guest', rest: `${rest.slice(2)}${query}` };
  return { ...to, part: 'blaxel', rest: `${rest === '' ? '/' : rest}${query}` };
}

/** A proxy's client sends `http://host/path`; only the path concerns us. */
function originForm(rawUrl: string): string {
  const absolute = /^https?:\/\/[^/?]*/i.exec(rawUrl);
  if (!absolute) return rawUrl;
  const path = rawUrl.slice(absolute[0].length);
  return path.startsWith('/') ? path : `/${path}`;
}

function shown(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
