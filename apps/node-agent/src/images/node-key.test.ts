import { WorkspaceName } from '@torpor/contracts';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeKeyIn } from './node-key.ts';

const WORKSPACE = WorkspaceName.parse('main');

let directory: string;
let path: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'torpor-node-key-'));
  path = join(directory, 'node.key');
});

afterEach(() => rm(directory, { recursive: true }));

describe('the key of a node', () => {
  it('is made once, for nobody else to read, and opens what it sealed at the next start', async () => {
    const sealed = (await nodeKeyIn(path)).seal(WORKSPACE, 'env', Buffer.from('secret'));
    expect((await nodeKeyIn(path)).open(WORKSPACE, 'env', sealed).toString()).toBe('secret');
    expect([await readdir(directory), (await stat(path)).mode & 0o777]).toEqual([['node.key'], 0o600]);
  });

  it('is made by the start after one that ended in the middle of writing it', async () => {
    await writeFile(`${path}.new`, 'half');
    await nodeKeyIn(path);
    expect([await readdir(directory), (await readFile(path)).length]).toEqual([['node.key'], 32]);
  });

  it('is never made anew where there is one that cannot be used', async () => {
    await writeFile(path, 'short');
    await expect(nodeKeyIn(path)).rejects.toThrow(/has 32 bytes, found 5/);
    expect(await readFile(path, 'utf8')).toBe('short');
  });
});
