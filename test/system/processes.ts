/** The processes of the host, by what they were started with. */
import { readdir, readFile } from 'node:fs/promises';

export interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Program and arguments; empty for what the kernel runs itself, and for whoever has ended and is not buried. */
  readonly argv: readonly string[];
}

export async function processes(): Promise<readonly Process[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => processAt(pid).catch(() => undefined))); // gone since the listing
  return found.filter((each) => each !== undefined);
}

async function processAt(pid: number): Promise<Process> {
  const [stat, cmdline] = await Promise.all([
    readFile(`/proc/${pid}/stat`, 'utf8'),
    readFile(`/proc/${pid}/cmdline`, 'utf8'),
  ]);
  const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  return { pid, parent, argv: cmdline.split('\0').filter(Boolean) };
}

/** Those of them that some argument names. */
export async function naming(word: string): Promise<readonly Process[]> {
  return (await processes()).filter(({ argv }) => argv.some((argument) => argument.includes(word)));
}
