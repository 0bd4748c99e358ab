import { readFile, rename, writeFile, open } from 'node:fs/promises';

/** One small text that outlives the process. Written whole or not at all; later writes overtake earlier ones. */
export interface Note {
  read(): Promise<string | undefined>;
  /** Rejects never: what could not be written is told to `failed` and is older than it might be. */
  write(text: string, options?: { durable?: boolean }): Promise<void>;
}

export function fileNote(path: string, failed: (error: unknown) => void): Note {
  let writing: Promise<void> = Promise.resolve();
  let pending: { text: string; durable: boolean } | undefined;

  async function writePending(): Promise<void> {
    if (!pending) return; // a later write has taken this one along
    const { text, durable } = pending;
    pending = undefined;
    try {
      await writeFile(`${path}.new`, text, { mode: 0o600 });
      if (durable) await sync(`${path}.new`);
      await rename(`${path}.new`, path);
    } catch (error) {
      failed(error);
    }
  }

  return {
    async read() {
      try {
        return await readFile(path, 'utf8');
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
        throw error;
      }
    },
    write(text, { durable = false } = {}) {
      pending = { text, durable: durable || (pending?.durable ?? false) };
      writing = writing.then(writePending);
      return writing;
    },
  };
}

/** A note in memory: for tests and the simulator. It outlives a node-agent as a file does. */
export function memoryNote(): Note {
  let kept: string | undefined;
  return {
    read: async () => kept,
    write: async (text) => {
      kept = text;
    },
  };
}

async function sync(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}
