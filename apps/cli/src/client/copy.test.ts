import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Failure } from '@torpor/kernel';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Client } from './client.ts';
import { copyFiles, placeOf, type Tally } from './copy.ts';
import { inWords, showProgress } from './copy-progress.ts';

type Entry = { type: 'file' | 'directory' | 'symlink' | 'other'; mode: string; content?: string };

/** As much of a guest as copying asks for: paths and what lies there. */
function guestWith(entries: Record<string, Entry>): Pick<Client, 'guest'> {
  const named = (path: string) => ({ path, name: path.slice(path.lastIndexOf('/') + 1), ...entries[path] });
  return {
    guest: async (_, method, call, body) => {
      const url = new URL(call, 'http://guest');
      const path = url.searchParams.get('path') ?? '';
      let answer: unknown = {};
      let headers = {};
      if (method === 'PUT') {
        const content = await text(body as Readable);
        entries[path] = { type: 'file', mode: url.searchParams.get('mode') ?? '', content };
      } else if (method === 'POST') {
        const asked = body as { path: string; mode: string };
        entries[asked.path] = { type: 'directory', mode: asked.mode };
      } else if (url.pathname.endsWith('/stat')) answer = named(path);
      else if (url.pathname.endsWith('/list')) {
        const inside = Object.keys(entries).filter((each) => each.slice(0, each.lastIndexOf('/')) === path);
        answer = { entries: inside.map(named), truncated: false };
      } else {
        const { content } = entries[path] ?? {};
        if (content === undefined) throw new Failure('bad_gateway', `${path} is no file`);
        headers = { 'x-torpor-file': JSON.stringify({ ...named(path), mode: '0755' }) };
        return { headers, body: Readable.from([Buffer.from(content)]) } as never;
      }
      return { headers, body: { json: async () => answer, dump: async () => {} } } as never; // what copying reads of it
    },
  };
}

let dir: string;
let tally: Tally;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'torpor-copy-'));
  tally = { files: 0, folders: 0, bytes: 0, leftOut: [] };
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('up to a sandbox', () => {
  it('brings folders without anything in them, and leaves out what is no file', async () => {
    const source = join(dir, 'src');
    await mkdir(join(source, 'empty'), { recursive: true });
    await chmod(join(source, 'empty'), 0o750);
    await writeFile(join(source, 'a'), 'hello');
    await symlink('nowhere', join(source, 'dangling'));
    await symlink('.', join(source, 'round'));
    const entries: Record<string, Entry> = {};
    await copyFiles(guestWith(entries), placeOf(source), placeOf('box:/work/'), tally);
    expect(entries).toMatchObject({
      '/work/src': { type: 'directory' },
      '/work/src/empty': { type: 'directory', mode: '0750' },
      '/work/src/a': { content: 'hello' },
    });
    expect(tally).toEqual({
      files: 1,
      folders: 2,
      bytes: 5,
      leftOut: [join(source, 'dangling'), join(source, 'round')],
    });
  });

  it('says what is not there', async () => {
    const asked = copyFiles(guestWith({}), placeOf(join(dir, 'none')), placeOf('box:/x'), tally);
    await expect(asked).rejects.toThrow(/there is no ".*none" here/);
  });
});

describe('down from a sandbox', () => {
  const tree: Record<string, Entry> = {
    '/w': { type: 'directory', mode: '0755' },
    '/w/empty': { type: 'directory', mode: '0755' },
    '/w/run': { type: 'file', mode: '4755', content: '#!' },
    '/w/link': { type: 'symlink', mode: '0777', content: 'of the file' },
    '/w/dir-link': { type: 'symlink', mode: '0777' },
    '/w/pipe': { type: 'other', mode: '0644' },
  };

  it('brings folders without anything in them, and no special permissions', async () => {
    await copyFiles(guestWith({ ...tree }), placeOf('box:/w'), placeOf(join(dir, 'out')), tally);
    expect((await readdir(join(dir, 'out'))).sort()).toEqual(['empty', 'link', 'run']);
    expect(await readFile(join(dir, 'out', 'link'), 'utf8')).toBe('of the file');
    expect((await stat(join(dir, 'out', 'run'))).mode & 0o7000).toBe(0);
    expect(tally).toEqual({ files: 2, folders: 2, bytes: 13, leftOut: ['/w/dir-link', '/w/pipe'] });
  });

  it('is not led out of where it was told to copy', async () => {
    const guest = guestWith({});
    const listing = { entries: [{ path: '/w/x', name: '../x', type: 'file', mode: '0644' }], truncated: false };
    const lying: Pick<Client, 'guest'> = {
      guest: async (sandbox, method, call, body) =>
        call.includes('/list')
          ? ({ headers: {}, body: { json: async () => listing } } as never)
          : guest.guest(sandbox, method, call, body),
    };
    const stat = guestWith({ '/w': { type: 'directory', mode: '0755' } });
    const asked = copyFiles(
      { guest: (...call) => (call[2].includes('/stat') ? stat.guest(...call) : lying.guest(...call)) },
      placeOf('box:/w'),
      placeOf(join(dir, 'out')),
      tally,
    );
    await expect(asked).rejects.toThrow('without a way in it');
  });
});

describe('what is told of a copy', () => {
  it('is in words and units', () => {
    expect(inWords({ files: 1, folders: 0, bytes: 12, leftOut: [] })).toBe('1 file, 12 bytes');
    expect(inWords({ files: 2, folders: 1, bytes: 3 << 20, leftOut: ['/s'] })).toBe(
      '2 files, 1 folder, 3.0 MiB\nleft out, being no file or folder: /s',
    );
  });

  it('is nothing while it goes on where nobody looks', () => {
    const written: string[] = [];
    showProgress(tally, { write: (text) => written.push(text), isTTY: false })();
    expect(written).toEqual([]);
  });
});
