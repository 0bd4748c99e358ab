import type { FakeProgram, FakeProgramWorld } from './programs.ts';

/**
 * A very small shell: commands joined by `;` and `&&`, `$NAME` and `${NAME}`, quotes, `> file`, `>> file`, `>&2`, and `while true; do …; done`.
 * Enough for tests to be written once for the fake and for a real instance.
 */
export async function runShell(
  line: string,
  world: Omit<FakeProgramWorld, 'args'>,
  programs: Readonly<Record<string, FakeProgram>>,
  spend: () => void,
): Promise<number> {
  const loop = /^\s*while true; do (.*); done\s*$/s.exec(line);
  if (loop) for (;;) await runShell(loop[1] ?? '', world, programs, spend);

  // Where it stands is part of its memory, so that one that comes back from an image goes on from there.
  const place: Place = (world.memory['shell'] ??= { at: 0, code: 0, program: {} }) as Place; // written by us alone
  const commands = parse(line);
  for (; place.at < commands.length; step(place)) {
    const { words, onlyAfterSuccess } = commands[place.at] ?? { words: [], onlyAfterSuccess: false };
    if (onlyAfterSuccess && place.code !== 0) continue;
    spend();
    const texts = words.map((word) => expand(word, world.env));
    place.code = await runCommand(texts, { ...world, memory: place.program }, programs);
    if (words[0]?.text === 'exit') break;
  }
  delete world.memory['shell'];
  return place.code;
}

interface Place {
  at: number;
  code: number;
  /** The memory of the command that runs. */
  program: Record<string, unknown>;
}

function step(place: Place): void {
  place.at++;
  place.program = {};
}

async function runCommand(
  words: readonly string[],
  world: Omit<FakeProgramWorld, 'args'>,
  programs: Readonly<Record<string, FakeProgram>>,
): Promise<number> {
  const { args, redirected } = redirect(words, world);
  const [name, ...rest] = args;
  if (name === undefined) return 0;
  const program = Object.hasOwn(programs, name) ? programs[name] : undefined;
  if (!program) {
    world.complain(`sh: 1: ${name}: not found\n`);
    return 127;
  }
  return await program({ ...world, ...redirected, args: rest });
}

function redirect(words: readonly string[], world: Omit<FakeProgramWorld, 'args'>) {
  const at = words.findIndex((word) => word === '>' || word === '>>' || word === '>&2' || word === '1>&2');
  if (at < 0) return { args: words, redirected: {} };
  if (words[at]?.endsWith('>&2')) return { args: words.toSpliced(at, 1), redirected: { print: world.complain } };
  const target = words[at + 1] ?? '';
  const path = target.startsWith('/') ? target : `${world.cwd}/${target}`;
  world.files.write(path, Buffer.alloc(0), { append: words[at] === '>>' });
  const print = (text: string) => world.files.write(path, Buffer.from(text), { append: true });
  return { args: words.toSpliced(at, 2), redirected: { print } };
}

interface Word {
  readonly text: string;
  readonly literal: boolean;
}

function parse(line: string): { words: Word[]; onlyAfterSuccess: boolean }[] {
  const commands = [{ words: [] as Word[], onlyAfterSuccess: false }];
  for (const [token, single, double, bare] of line.matchAll(/&&|;|'([^']*)'|"([^"]*)"|((?:[^\s;&'"]|&(?!&))+)/g)) {
    if (token === '&&' || token === ';' || token === '\n') {
      commands.push({ words: [], onlyAfterSuccess: token === '&&' });
      continue;
    }
    commands.at(-1)?.words.push({ text: single ?? double ?? bare ?? '', literal: single !== undefined });
  }
  return commands.filter((command) => command.words.length > 0);
}

function expand(word: Word, env: Readonly<Record<string, string>>): string {
  if (word.literal) return word.text;
  return word.text.replace(/\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?/g, (_, name: string) => env[name] ?? '');
}
