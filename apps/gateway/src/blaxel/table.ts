/** Finds what a control-plane path means: a row of ours, something of Blaxel's that we lack, or nothing at all. Pure. */
import type { Row } from './ask.ts';

export type Found =
  | { readonly kind: 'row'; readonly row: Row; readonly params: Readonly<Record<string, string>> }
  /** The path is ours, the method is not. */
  | { readonly kind: 'other methods'; readonly allowed: readonly string[] }
  | { readonly kind: 'lacking'; readonly what: string }
  | { readonly kind: 'nothing' }
  | { readonly kind: 'malformed' };

/** The first segments of all that Blaxel's control plane has. */
const THINGS = new Set(
  `accounts agents applications changelog configuration customdomains drives egressgateways egressips features functions images integrations jobs
   locations login mcp models oauth observability pending-image-shares policies publicIps quotas sandbox sandboxes schedule-executions schedules
   service_accounts snapshots templates users volume_templates volumes vpcs workspaces`.split(/\s+/),
);

export function findRow(rows: readonly Row[], method: string, path: string): Found {
  const segments = decoded(path);
  if (!segments) return { kind: 'malformed' };
  const matching = rows.flatMap((row) => {
    const params = matched(row.pattern, segments);
    return params ? [{ row, params }] : [];
  });
  const asked = method === 'HEAD' ? 'GET' : method;
  const hit = matching.find(({ row }) => row.method === asked);
  if (hit) return { kind: 'row', ...hit };
  const [thing] = segments;
  if (thing === undefined || !THINGS.has(thing)) return { kind: 'nothing' };
  if (matching.length > 0 && !/^(POST|PUT|DELETE)$/.test(method)) {
    return { kind: 'other methods', allowed: matching.map(({ row }) => row.method) };
  }
  return {
    kind: 'lacking',
    what: `${method} /${segments.map((segment, at) => (at % 2 === 0 ? segment : '…')).join('/')}`,
  };
}

function decoded(path: string): string[] | undefined {
  try {
    return path
      .split('/')
      .filter((segment) => segment !== '')
      .map(decodeURIComponent);
  } catch {
    return undefined; // a "%" that begins no escape: the path is malformed, which is what undefined says
  }
}

function matched(pattern: string, segments: readonly string[]): Record<string, string> | undefined {
  const parts = pattern.slice(1).split('/');
  if (parts.length !== segments.length) return undefined;
  const params: Record<string, string> = {};
  for (const [at, part] of parts.entries()) {
    const segment = segments[at] ?? '';
    if (part.startsWith(':')) params[part.slice(1)] = segment;
    else if (part !== segment) return undefined;
  }
  return params;
}
