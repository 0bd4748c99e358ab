package process

import "strings"

// A command line need not always cost a shell: starting bash takes longer than most short commands. Two kinds of line can be
// recognised with certainty, and anything that is not certain goes to a fresh shell:
//
//   - *plain*: one external program with literal words. `bash -c` would replace itself by that program; we start it directly.
//   - *builtin*: a few commands that a shell carries out itself, without fork, exec or any look at its own process.
//     A shell that was started beforehand gives the same answer (see ready.go).
type line struct {
	plain   []string // the words, quotes removed; nil when the line is not plain
	builtin bool
}

// readLine classifies. Known says which variables the process will have: a line that uses others is left to the shell.
func readLine(text string, known func(name string) bool) line {
	lexer := lexer{rest: strings.TrimRight(text, " \t\n"), known: known}
	commands, certain := lexer.commands()
	if !certain {
		return line{}
	}
	if len(commands) == 1 && isPlain(commands[0], lexer.expanded) {
		return line{plain: commands[0]}
	}
	for _, words := range commands {
		if !answeredByShell[words[0]] {
			return line{}
		}
	}
	return line{builtin: true}
}

func isPlain(words []string, expanded bool) bool {
	return !expanded && !knownToShell[words[0]] && !strings.Contains(words[0], "=")
}

// answeredByShell are the builtins whose effect is only output and exit code.
var answeredByShell = map[string]bool{"echo": true, "printf": true, "true": true, "false": true, ":": true, "pwd": true, "exit": true}

// knownToShell are bash's keywords and builtins: words that do not name a program.
var knownToShell = setOf(`if then else elif fi case esac for select while until do done in function time coproc ! [[ ]] { }
	. : [ alias bg bind break builtin caller cd command compgen complete compopt continue declare dirs disown echo enable eval exec exit
	export false fc fg getopts hash help history jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly return
	set shift shopt source suspend test times trap true type typeset ulimit umask unalias unset wait`)

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}

// lexer splits the few constructs of the shell language that mean what they look like.
type lexer struct {
	rest  string
	known func(name string) bool

	expanded     bool // some word uses a variable
	wordExpanded bool // the word being read does
}

// commands gives the simple commands between `;`, `&&`, `||` and newlines; certain is false at the first doubt.
func (l *lexer) commands() (commands [][]string, certain bool) {
	words := []string{}
	for {
		l.rest = strings.TrimLeft(l.rest, " \t")
		if l.rest == "" {
			break
		}
		if separator := l.separator(); separator != "" {
			if len(words) == 0 {
				return nil, false
			}
			l.rest = l.rest[len(separator):]
			commands, words = append(commands, words), []string{}
			continue
		}
		l.wordExpanded = false
		word, ok := l.word()
		l.expanded = l.expanded || l.wordExpanded
		if !ok || (len(words) == 0 && l.wordExpanded) {
			return nil, false // a command whose very name comes from a variable is not certain
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return nil, false
	}
	return append(commands, words), true
}

func (l *lexer) separator() string {
	for _, separator := range []string{"&&", "||", ";", "\n"} {
		if strings.HasPrefix(l.rest, separator) {
			return separator
		}
	}
	return ""
}

const literal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,-="

func (l *lexer) word() (string, bool) {
	var word strings.Builder
	for l.rest != "" {
		letter := l.rest[0]
		switch {
		case letter == '\'':
			quoted, rest, closed := strings.Cut(l.rest[1:], "'")
			if !closed {
				return "", false
			}
			word.WriteString(quoted)
			l.rest = rest
		case letter == '"':
			if !l.quoted(&word) {
				return "", false
			}
		case letter == '$':
			if !l.variable() {
				return "", false
			}
		case strings.IndexByte(literal, letter) >= 0:
			word.WriteByte(letter)
			l.rest = l.rest[1:]
		case letter == ' ' || letter == '\t' || l.separator() != "":
			return word.String(), word.Len() > 0 || l.wordExpanded
		default:
			return "", false
		}
	}
	return word.String(), word.Len() > 0 || l.wordExpanded
}

// quoted reads a double-quoted part.
func (l *lexer) quoted(word *strings.Builder) bool {
	l.rest = l.rest[1:]
	for l.rest != "" {
		switch l.rest[0] {
		case '"':
			l.rest = l.rest[1:]
			return true
		case '`', '\\':
			return false
		case '$':
			if !l.variable() {
				return false
			}
		default:
			word.WriteByte(l.rest[0])
			l.rest = l.rest[1:]
		}
	}
	return false
}

// variable reads $NAME or ${NAME} of a variable that the process will have.
func (l *lexer) variable() bool {
	l.wordExpanded = true
	rest := l.rest[1:]
	braced := strings.HasPrefix(rest, "{")
	if braced {
		rest = rest[1:]
	}
	end := 0
	for end < len(rest) && isNameByte(rest[end], end == 0) {
		end++
	}
	name := rest[:end]
	rest = rest[end:]
	if braced {
		if !strings.HasPrefix(rest, "}") {
			return false
		}
		rest = rest[1:]
	}
	l.rest = rest
	return name != "" && l.known(name)
}

func isNameByte(letter byte, first bool) bool {
	switch {
	case letter == '_', letter >= 'a' && letter <= 'z', letter >= 'A' && letter <= 'Z':
		return true
	case letter >= '0' && letter <= '9':
		return !first
	}
	return false
}

func isName(text string) bool {
	for index := range len(text) {
		if !isNameByte(text[index], index == 0) {
			return false
		}
	}
	return text != ""
}
