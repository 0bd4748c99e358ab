/** `/filesystem-find`, `/filesystem-search`, `/filesystem-content-search`. */
import { posix } from 'node:path';
import { z } from 'zod';
import { flagOf, guestPath, listOf, numberOf } from './addresses.ts';
import { answerJson, badRequest, recode, type DataPlaneAnswer, type Exchange } from './exchange.ts';
import { FILE_CODES, pathOf } from './files.ts';
import { scoreName } from './fuzzy.ts';
import { ask, GuestFile } from './guest-calls.ts';

/** What a search leaves out when the caller does not say. */
const EXCLUDED_DIRS = [
  'node_modules',
  'vendor',
  '.git',
  'dist',
  'build',
  'target',
  '__pycache__',
  '.venv',
  '.next',
  'coverage',
];
const RESULTS_MAX = 1000;
const SEARCH_MS = 60_000;

const Found = z.object({
  matches: z.array(z.object({ path: z.string(), type: z.string() })),
  total: z.number(),
});

export async function findFiles(exchange: Exchange): Promise<DataPlaneAnswer> {
  const type = exchange.query.get('type') || 'file';
  if (type !== 'file' && type !== 'directory')
    throw badRequest(`type is ${JSON.stringify(type.slice(0, 40))}; expected file or directory`);
  const found = await walk(exchange, type, resultsOf(exchange, 20));
  return answerJson({ matches: found.matches, total: found.total });
}

/** Names that resemble a query. Blaxel's own SDK never sends the query; then it is a walk whose matches all score 0. */
export async function searchNames(exchange: Exchange): Promise<DataPlaneAnswer> {
  const query = exchange.query.get('query') ?? '';
  const limit = resultsOf(exchange, 20);
  const found = await walk(exchange, 'any', query === '' ? limit : RESULTS_MAX);
  const matches = found.matches
    .flatMap((match) => {
      const score = query === '' ? 0 : scoreName(match.path, query);
      return score === undefined ? [] : [{ path: match.path, score, type: match.type }];
    })
    .sort((a, b) => b.score - a.score || a.path.length - b.path.length);
  return answerJson({ matches: matches.slice(0, limit), total: matches.length });
}

async function walk(exchange: Exchange, type: string, limit: number): Promise<z.infer<typeof Found>> {
  const root = await rootOf(exchange);
  const path = guestPath('/v1/files/find', {
    path: root,
    type,
    patterns: listOf(exchange.query, 'patterns')?.join(','),
    limit,
    excludeDirs: excludedDirs(exchange),
    excludeHidden: flagOf(exchange.query, 'excludeHidden', true),
  });
  try {
    const options = { headMs: SEARCH_MS, signal: exchange.request.signal };
    const found = await ask(exchange.guest, Found, 'GET', path, undefined, options);
    return { ...found, matches: found.matches.map((match) => ({ ...match, path: below(root, match.path) })) };
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
}

const Grepped = z.object({
  matches: z.array(
    z.object({
      path: z.string(),
      line: z.number(),
      column: z.number(),
      text: z.string(),
      context: z.string().optional(),
    }),
  ),
  total: z.number(),
});

export async function searchContent(exchange: Exchange): Promise<DataPlaneAnswer> {
  const query = exchange.query.get('query') ?? '';
  if (query === '') throw badRequest('query is missing; expected the text to look for');
  const pattern = exchange.query.get('filePattern') || undefined;
  const root = await rootOf(exchange);
  const path = guestPath('/v1/files/grep', {
    path: root,
    query,
    caseSensitive: flagOf(exchange.query, 'caseSensitive', false),
    context: contextOf(exchange.query) || undefined,
    limit: resultsOf(exchange, 100),
    patterns: pattern,
    excludeDirs: excludedDirs(exchange),
  });
  try {
    const options = { headMs: SEARCH_MS, signal: exchange.request.signal };
    const found = await ask(exchange.guest, Grepped, 'GET', path, undefined, options);
    const matches = found.matches.map((match) => ({ ...match, path: below(root, match.path) }));
    return answerJson({ matches, query, total: found.total });
  } catch (error) {
    throw recode(error, FILE_CODES);
  }
}

/** Where a search begins, as the guest names what it finds. Only the guest knows the home. */
async function rootOf(exchange: Exchange): Promise<string> {
  const path = pathOf(exchange);
  if (!path.startsWith('~')) return path;
  const call = guestPath('/v1/files/stat', { path });
  return (await ask(exchange.guest, GuestFile, 'GET', call, undefined, { signal: exchange.request.signal })).path;
}

/** In this dialect what was found is named from where the search began. */
function below(root: string, path: string): string {
  return posix.relative(root, path) || posix.basename(path);
}

/** A number that makes no sense means: no context. So it is where this dialect comes from. */
function contextOf(query: URLSearchParams): number {
  const text = query.get('contextLines') ?? '';
  return /^\d{1,6}$/.test(text) ? Math.min(Number(text), 100) : 0;
}

function resultsOf(exchange: Exchange, otherwise: number): number {
  const asked = numberOf(exchange.query, 'maxResults', otherwise, { min: 0, max: 1_000_000 });
  return asked === 0 ? RESULTS_MAX : Math.min(asked, RESULTS_MAX);
}

function excludedDirs(exchange: Exchange): string {
  return (listOf(exchange.query, 'excludeDirs') ?? EXCLUDED_DIRS).join(',');
}
