/**
 * Paths on the wire and in the sandbox. A file's path travels inside a URL in two ways: encoded as one segment (`%2Ftmp%2Fa`), or laid bare behind
 * a slash (`//tmp/a`). Both mean `/tmp/a`; so the raw path is cut first and decoded after, and no slashes are merged before that.
 */
import { posix } from 'node:path';
import { Failure } from '@torpor/kernel';
import { badRequest } from './exchange.ts';

const PATH_BYTES_MAX = 4096;

export interface Address {
  readonly rawPath: string;
  readonly query: URLSearchParams;
}

export function parseAddress(raw: string): Address {
  const at = raw.indexOf('?');
  const path = at < 0 ? raw : raw.slice(0, at);
  return { rawPath: path === '' ? '/' : path, query: new URLSearchParams(at < 0 ? '' : raw.slice(at + 1)) };
}

/** Decodes a piece of a raw path, once. */
export function decodePiece(raw: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(raw);
  } catch {
    throw badRequest(`the path holds ${JSON.stringify(raw.slice(0, 100))}, which is not properly percent-encoded`);
  }
  if (decoded.includes('\0')) throw badRequest('the path holds a NUL byte');
  return decoded;
}

/** Where a path leads: absolute as it is, relative from the workdir, `~` left to the guest, which knows the home. */
export function locate(path: string, workdir: string): string {
  if (Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw badRequest(`the path is ${Buffer.byteLength(path)} bytes long; expected at most ${PATH_BYTES_MAX}`);
  }
  if (path.includes('\0')) throw badRequest('the path holds a NUL byte');
  if (path === '~' || path.startsWith('~/')) return path;
  const absolute = posix.normalize(path.startsWith('/') ? path : posix.join(workdir, path));
  return absolute.length > 1 && absolute.endsWith('/') ? absolute.slice(0, -1) : absolute;
}

/** The guest's path of a process. A dot or two would be taken for steps in it and lead elsewhere; no process is found by them. */
export function processPath(id: string): string {
  if (id === '.' || id === '..') throw new Failure('not_found', `there is no process "${id}"`);
  return `/v1/processes/${encodeURIComponent(id)}`;
}

/** A guest path with a query made of what is defined. */
export function guestPath(
  path: string,
  query: Readonly<Record<string, string | number | boolean | undefined>>,
): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    search.set(name, typeof value === 'boolean' ? (value ? '1' : '0') : String(value));
  }
  return `${path}?${search}`;
}

/** Reads a whole number of the query. */
export function numberOf(
  query: URLSearchParams,
  name: string,
  otherwise: number,
  range: { min: number; max: number },
): number {
  const text = query.get(name);
  if (text === null || text === '') return otherwise;
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= range.min && value <= range.max)) {
    throw badRequest(
      `${name} is ${JSON.stringify(text.slice(0, 40))}; expected a whole number from ${range.min} to ${range.max}`,
    );
  }
  return value;
}

export function flagOf(query: URLSearchParams, name: string, otherwise: boolean): boolean {
  const text = query.get(name);
  if (text === null || text === '') return otherwise;
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw badRequest(`${name} is ${JSON.stringify(text.slice(0, 40))}; expected true or false`);
}

/** Reads a comma-separated list. */
export function listOf(query: URLSearchParams, name: string): string[] | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
