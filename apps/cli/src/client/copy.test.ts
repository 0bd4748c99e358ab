import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { Failure } from '@torpor/kernel';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Client } from './client.ts';
import { copyFiles, placeOf, type Tally } from './copy.ts';
import { inWords, showProgress } from './copy-progress.ts';

type Entry = { type: 'file' | 'directory' | 'symlink' | 'other'; mode: string; content?: string; target?: string };

const exec = promisify(execFile);

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
      } else if (url.pathname === '/v1/processes') {
        // Run here as it is run there, where every link lies below one folder of ours.
        const { argv } = body as { argv: [string, ...string[]] };
        const { stdout } = await exec(argv[0], argv.slice(1));
        answer = { status: 'exited', exitCode: 0, stdout };
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
  tally = { files: 0, folders: 0, links: 0, bytes: 0, leftOut: [] };
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('up to a sandbox', () => {
  it('brings folders without anything in them, and leaves out what is no file', async () => {
    const source = join(dir, 'src');
    await mkdir(join(source, 'empty'), { recursive: true });
    await chmod(join(source, 'empty'), 0o750);
    await writeFile(join(source, 'a'), 'hello');
    await exec('mkfifo', [join(source, 'pipe')]);
    const entries: Record<string, Entry> = {};
    await copyFiles(guestWith(entries), placeOf(source), placeOf('box:/work/'), tally);
    expect(entries).toMatchObject({
      '/work/src': { type: 'directory' },
      '/work/src/empty': { type: 'directory', mode: '0750' },
      '/work/src/a': { content: 'hello' },
    });
    expect(tally).toEqual({ files: 1, folders: 2, links: 0, bytes: 5, leftOut: [join(source, 'pipe')] });
  });

  it('keeps links as links, whatever they say, and names those that cannot be', async () => {
    const source = join(dir, 'src');
    const there = join(dir, 'there');
    const odd = `-n 'a' "$(touch ${dir}/ran)"\nb`;
    await mkdir(source);
    await mkdir(join(there, 'taken'), { recursive: true });
    await symlink('/etc/passwd', join(source, 'outside'));
    await symlink('old', join(there, 'outside'));
    await symlink(odd, join(source, odd.replaceAll('/', '_')));
    await symlink('.', join(source, 'taken'));
    await copyFiles(guestWith({}), placeOf(source), placeOf(`box:${there}`), tally);
    expect(await readlink(join(there, 'outside'))).toBe('/etc/passwd');
    expect(await readlink(join(there, odd.replaceAll('/', '_')))).toBe(odd);
    expect(await readdir(join(there, 'taken'))).toEqual([]);
    expect(await readdir(dir)).not.toContain('ran');
    expect(tally).toEqual({ files: 0, folders: 1, links: 2, bytes: 0, leftOut: [join(source, 'taken')] });
  });

  it('follows the link that it was given', async () => {
    await writeFile(join(dir, 'a'), 'hello');
    await symlink('a', join(dir, 'link'));
    const entries: Record<string, Entry> = {};
    await copyFiles(guestWith(entries), placeOf(join(dir, 'link')), placeOf('box:/w'), tally);
    expect(entries['/w']).toMatchObject({ content: 'hello' });
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
    '/w/link': { type: 'symlink', mode: '0777', content: 'of the file', target: 'run' },
    '/w/outside': { type: 'symlink', mode: '0777', target: '/etc' },
    '/w/pipe': { type: 'other', mode: '0644' },
  };

  it('brings folders without anything in them, and no special permissions', async () => {
    await copyFiles(guestWith({ ...tree }), placeOf('box:/w'), placeOf(join(dir, 'out')), tally);
    expect((await readdir(join(dir, 'out'))).sort()).toEqual(['empty', 'link', 'outside', 'run']);
    expect(await readlink(join(dir, 'out', 'link'))).toBe('run');
    expect(await readlink(join(dir, 'out', 'outside'))).toBe('/etc');
    expect((await stat(join(dir, 'out', 'run'))).mode & 0o7000).toBe(0);
    expect(tally).toEqual({ files: 1, folders: 2, links: 2, bytes: 2, leftOut: ['/w/pipe'] });
  });

  it('writes through no link that a sandbox has made, and through one that the caller named', async () => {
    await mkdir(join(dir, 'host'));
    await mkdir(join(dir, 'out')); // so that each copy comes to lie at out/w
    await writeFile(join(dir, 'host', 'f'), 'ours');
    const before = { '/w': tree['/w'], '/w/d': { type: 'symlink', mode: '0777', target: join(dir, 'host') } } as const;
    const after = {
      '/w': { type: 'directory', mode: '0755' },
      '/w/d': { type: 'directory', mode: '0755' },
      '/w/d/f': { type: 'file', mode: '0644', content: 'theirs' },
    } as const;
    for (const entries of [before, after])
      await copyFiles(guestWith({ ...entries } as never), placeOf('box:/w'), placeOf(join(dir, 'out')), tally);
    expect(await readFile(join(dir, 'host', 'f'), 'utf8')).toBe('ours');
    await symlink(join(dir, 'host', 'f'), join(dir, 'mine'));
    await copyFiles(guestWith({ ...after }), placeOf('box:/w/d/f'), placeOf(join(dir, 'mine')), tally);
    expect(await readFile(join(dir, 'host', 'f'), 'utf8')).toBe('theirs');
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
    expect(inWords({ files: 1, folders: 0, links: 0, bytes: 12, leftOut: [] })).toBe('1 file, 12 bytes');
    expect(inWords({ files: 2, folders: 1, links: 2, bytes: 3 << 20, leftOut: ['/s'] })).toBe(
      '2 files, 1 folder, 2 links, 3.0 MiB\nleft out, being no file, folder or link that could be made: /s',
    );
  });

  it('is nothing while it goes on where nobody looks', () => {
    const written: string[] = [];
    showProgress(tally, { write: (text) => written.push(text), isTTY: false })();
    expect(written).toEqual([]);
  });
});
