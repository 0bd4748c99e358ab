import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Whether every user may read this file or enter this directory, all directories above it included. */
export async function everybodyReaches(path: string): Promise<boolean> {
  const { mode } = await stat(path);
  const needed = 0o005; // read, and enter or run
  if ((mode & needed) !== needed) return false;
  for (let above = dirname(path); above !== dirname(above); above = dirname(above)) {
    if (((await stat(above)).mode & 0o001) === 0) return false;
  }
  return true;
}
