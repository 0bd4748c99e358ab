import { Failure } from '@torpor/kernel';
import { Option, type Command } from 'commander';
import { openClient } from '../client/client.ts';

const NAMES_MS = 1_000;

/** Completion of commands and options, written from the same table that parses them, and of the names of sandboxes, asked of the running stack. */
export function addCompletionCommand(torpor: Command): void {
  torpor
    .command('completion')
    .description('print shell completion: source <(torpor completion bash)')
    .argument('[shell]', 'bash or zsh', 'bash')
    .addOption(new Option('--sandboxes', 'print the names of the sandboxes, for the completion itself').hideHelp())
    .action(async (shell: string, options: { sandboxes?: boolean }) => {
      if (options.sandboxes) return printSandboxes();
      if (shell !== 'bash' && shell !== 'zsh')
        throw new Failure('bad_request', `completion is there for bash and zsh, not for "${shell}"`);
      const prelude = shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '';
      process.stdout.write(`${prelude}${completionScript(torpor)}`);
    });
}

/** Nothing at all where the stack does not answer at once: whoever presses a key waits, and wants no error between what they type. */
async function printSandboxes(): Promise<void> {
  const names = await openClient()
    .then(({ api }) =>
      api.sandboxes.list.query({ limit: 200, showTerminated: false }, { signal: AbortSignal.timeout(NAMES_MS) }),
    )
    .then(
      ({ items }) => items.map(({ name }) => name),
      () => [],
    );
  process.stdout.write(names.map((name) => `${name}\n`).join(''));
}

export function completionScript(torpor: Command): string {
  const known = [...commandsOf(torpor, '')];
  const words = known.map(({ path, words }) => `    "${path}") words="${words.join(' ')}" ;;`).join('\n');
  const named = known.flatMap(({ path, names }) =>
    names === undefined
      ? []
      : [`    "${path}"${names.several ? '*' : ''}) words="$words $(_torpor_sandboxes "${names.suffix}")" ;;`],
  );
  return `_torpor_sandboxes() {
  timeout 3 "\${COMP_WORDS[0]}" completion --sandboxes 2>/dev/null </dev/null | sed "s/\\$/$1/"
}
_torpor() {
  local path="" word words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  case "$path" in
${words}
  esac
  case "$path" in
${named.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _torpor torpor ./torpor
`;
}

interface Known {
  readonly path: string;
  readonly words: readonly string[];
  /** Where the names of sandboxes may stand as well, and what follows each. */
  readonly names: { readonly several: boolean; readonly suffix: string } | undefined;
}

function* commandsOf(command: Command, path: string): Generator<Known> {
  const options = command.options.flatMap((option) => (option.hidden ? [] : (option.long ?? [])));
  yield { path, words: [...command.commands.map((each) => each.name()), ...options], names: namesIn(command) };
  for (const each of command.commands) {
    for (const name of [each.name(), ...each.aliases()])
      yield* commandsOf(each, path === '' ? name : `${path} ${name}`);
  }
}

/** An argument called `sandbox`, or `name` where no other things have names, is a sandbox's; what is copied may lie in one. */
function namesIn(command: Command): Known['names'] {
  if (command.registeredArguments[0]?.name() === 'sandbox') return { several: false, suffix: '' };
  if (command.parent?.name() !== 'sandbox' && command.parent?.parent) return undefined;
  if (command.name() === 'cp') return { several: true, suffix: ':' };
  const [first] = command.registeredArguments;
  return first?.name() === 'name' && first.required ? { several: first.variadic, suffix: '' } : undefined;
}
