import { openLetter, publicText, sealLetter } from '@torpor/runtime';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readBackup, sealedList, type List } from './list.ts';
import { BackupLock, passphraseIn, type Hardness } from './lock.ts';

const easy: Hardness = { salt: Buffer.alloc(16).toString('base64'), n: 1024, r: 8, p: 1 };
const passphrase = 'correct horse battery';

describe('the lock of a backup', () => {
  it('opens what it sealed, as what it was sealed, by the same passphrase alone', async () => {
    const lock = await BackupLock.of(passphrase, easy);
    const sealed = lock.seal('keys', Buffer.from('secret'));
    expect(sealed.includes('secret')).toBe(false);
    expect((await BackupLock.of(passphrase, easy)).open('keys', sealed).toString()).toBe('secret');
    expect(() => lock.open('tables', sealed)).toThrow(/auth/i);
    const other = await BackupLock.of('correct horse batterz', easy);
    expect(() => other.open('keys', sealed)).toThrow(/auth/i);
    const between = { mine: other.pair, theirs: publicText(lock.pair), about: 'a' };
    const letter = sealLetter(Buffer.from('bill'), between);
    expect(openLetter(letter, { mine: lock.pair, theirs: publicText(other.pair), about: 'a' }).toString()).toBe('bill');
  });

  it('takes no passphrase that is guessed at once', () => {
    expect(() => passphraseIn({ TORPOR_BACKUP_PASSPHRASE: 'short' })).toThrow(/at least 12/);
    expect(() => passphraseIn({})).toThrow(/TORPOR_BACKUP_PASSPHRASE/);
  });
});

describe('reading a backup', () => {
  let dir: string;
  beforeEach(async () => (dir = await mkdtemp(join(tmpdir(), 'torpor-backup-'))));
  afterEach(() => rm(dir, { recursive: true }));

  async function written(): Promise<List> {
    const lock = await BackupLock.of(passphrase, easy);
    const bytes = lock.seal('keys', Buffer.from('[]'));
    await writeFile(join(dir, 'keys'), bytes);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const list: List = {
      ...{ version: 1, madeAtMs: 1, installation: 'i', migrations: [], tables: [], nodes: [], sandboxes: [] },
      ...{ missing: [], keys: { path: 'keys', bytes: bytes.length, sha256 } },
    };
    await writeFile(join(dir, 'list.json'), sealedList(lock, easy, list));
    return list;
  }

  it('gives what was written, to who has the passphrase', async () => {
    const list = await written();
    expect((await readBackup(dir, passphrase)).list).toEqual(list);
    await expect(readBackup(dir, 'correct horse batterz')).rejects.toMatchObject({ code: 'forbidden' });
  });

  it('refuses a file of which a byte was flipped, one that is missing, and a backup that was not finished', async () => {
    await written();
    await writeFile(join(dir, 'keys'), 'other');
    await expect(readBackup(dir, passphrase)).rejects.toThrow(/keys of the backup is damaged/);
    await rm(join(dir, 'keys'));
    await expect(readBackup(dir, passphrase)).rejects.toThrow(/damaged or missing/);
    const text = await readFile(join(dir, 'list.json'), 'utf8');
    await writeFile(join(dir, 'list.json'), text.slice(0, -9));
    await expect(readBackup(dir, passphrase)).rejects.toThrow(/is no list of a backup, or was cut/);
    await rm(join(dir, 'list.json'));
    await expect(readBackup(dir, passphrase)).rejects.toThrow(/no backup that was finished/);
  });
});
