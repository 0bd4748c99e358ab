import { InstanceId } from '@torpor/contracts';
import { KeyedQueue } from '@torpor/kernel';
import { mkdir, open, readdir, readFile, rename, rm, truncate, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { wholeLength } from './lines.ts';
import type { JournalStore } from './store.ts';

const GONE = '.gone';

/**
 * One directory per instance under `dir`, readable by our own user only: `log.ndjson`, appended and never rewritten, `hint.json` and `receipts.json`.
 * Removing is a rename to `<hostId>.gone` first, so that half a removal cannot be taken for a journal.
 */
export async function fileJournalStore(dir: string): Promise<JournalStore> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  for (const name of await readdir(dir)) {
    if (name.endsWith(GONE)) await rm(join(dir, name), { recursive: true, force: true });
  }
  const at = (hostId: InstanceId) => join(dir, hostId);
  /** One line of a journal at a time, so that what one left torn is known to be the end. */
  const appends = new KeyedQueue<InstanceId>();
  /** By journal, how many bytes are whole before a line that is being written, or could not be: part of that line may follow them. */
  const torn = new Map<InstanceId, number>();

  return {
    append: (hostId, line, { durable, first }) =>
      appends.run(hostId, async () => {
        if (first) await mkdir(at(hostId), { recursive: true, mode: 0o700 });
        const file = await open(join(at(hostId), 'log.ndjson'), 'a', 0o600);
        try {
          await cutTorn(hostId, file);
          const { size } = await file.stat();
          torn.set(hostId, size);
          await file.appendFile(line);
          if (durable) await file.datasync();
          if (first && durable) {
            await syncDirectory(at(hostId));
            await syncDirectory(dir);
          }
          torn.delete(hostId);
        } finally {
          await file.close();
        }
      }),

    async readAll() {
      const ids = (await readdir(dir)).flatMap((name) => {
        const id = InstanceId.safeParse(name);
        return id.success ? [id.data] : [];
      });
      return Promise.all(
        ids.map(async (hostId) => ({
          hostId,
          text: await readWhole(join(at(hostId), 'log.ndjson')),
          hint: await readIfThere(join(at(hostId), 'hint.json')),
        })),
      );
    },

    read: (hostId) => readIfThere(join(at(hostId), 'log.ndjson')),

    async putHint(hostId, text) {
      const path = join(at(hostId), 'hint.json');
      await writeFile(`${path}.new`, text, { mode: 0o600 });
      await rename(`${path}.new`, path);
    },

    async putReceipts(hostId, text) {
      const path = join(at(hostId), 'receipts.json');
      try {
        await writeDurably(`${path}.new`, text);
        await rename(`${path}.new`, path);
      } catch (error) {
        if (!isAbsent(error)) throw error;
      }
    },

    getReceipts: (hostId) => readIfThere(join(at(hostId), 'receipts.json')),

    async remove(hostId) {
      const gone = at(hostId) + GONE;
      try {
        await rename(at(hostId), gone);
      } catch (error) {
        if (isAbsent(error)) return;
        throw error;
      }
      await syncDirectory(dir);
      await rm(gone, { recursive: true, force: true });
      torn.delete(hostId);
    },
  };

  /** Before the next line: glued to half of one it would be no line, and the whole journal unreadable. While it cannot be cut, nothing is appended. */
  async function cutTorn(hostId: InstanceId, file: FileHandle): Promise<void> {
    const wholeBytes = torn.get(hostId);
    if (wholeBytes === undefined) return;
    await file.truncate(wholeBytes);
    torn.delete(hostId);
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.datasync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function readWhole(path: string): Promise<string> {
  const text = (await readIfThere(path)) ?? '';
  const whole = text.slice(0, wholeLength(text));
  if (whole !== text) await truncate(path, Buffer.byteLength(whole));
  return whole;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
