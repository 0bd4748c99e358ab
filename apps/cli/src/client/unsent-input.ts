/** Whether somebody gave us input that we do not send. None of it is read: a loop that runs us may be reading the same. */
import { spawn } from 'node:child_process';
import { fstatSync } from 'node:fs';

const HINT = 'torpor: the input was not sent; -i sends it';
const LOOK_MS = 10_000;

export async function hintAtUnsentInput(say: (line: string) => void): Promise<void> {
  if (await hasInput()) say(`${HINT}\n`);
}

/** A file with something in it, or a pipe with something in it; a terminal and /dev/null never. */
export async function hasInput(fd: number = 0): Promise<boolean> {
  const facts = factsOf(fd);
  if (facts?.isFile()) return facts.size > 0;
  return facts?.isFIFO() ? holdsBytes(fd) : false;
}

function factsOf(fd: number) {
  try {
    return fstatSync(fd);
  } catch {
    return undefined; // closed by whoever runs us
  }
}

/** Asks bash, since Node has no way to look into a pipe without taking from it. False where nobody can say. */
function holdsBytes(fd: number): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = spawn('bash', ['-c', 'read -t 0'], { stdio: [fd, 'ignore', 'ignore'], timeout: LOOK_MS });
    asked.once('error', () => resolve(false));
    asked.once('exit', (code) => resolve(code === 0));
  });
}
