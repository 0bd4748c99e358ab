import { Failure } from '@torpor/kernel';
import type { Command } from 'commander';

/** Completion of commands and options, written from the same table that parses them. */
export function addCompletionCommand(torpor: Command): void {
  torpor
    .command('completion')
    .description('print shell completion: source <(torpor completion bash)')
    .argument('[shell]', 'bash or zsh', 'bash')
    .action((shell: string) => {
      if (shell !== 'bash' && shell !== 'zsh')
        throw new Failure('bad_request', `completion is there for bash and zsh, not for "${shell}"`);
      const prelude = shell === 'zsh' ? 'autoload -U +X bashcompinit && bashcompinit\n' : '';
      process.stdout.write(`${prelude}${script(torpor)}`);
    });
}

function script(torpor: Command): string {
  const cases = [...paths(torpor, [])]
    .map(([path, words]) => `    "${path}") words="${words.join(' ')}" ;;`)
    .join('\n');
  return `_torpor() {
  local path="" word words="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  case "$path" in
${cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _torpor torpor ./torpor
`;
}

function* paths(command: Command, above: readonly string[]): Generator<[string, string[]]> {
  const options = command.options.flatMap((option) => option.long ?? []);
  yield [above.join(' '), [...command.commands.map((each) => each.name()), ...options]];
  for (const each of command.commands) yield* paths(each, [...above, each.name()]);
}
