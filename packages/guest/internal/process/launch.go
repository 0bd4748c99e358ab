package process

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
	"torpor/guest/internal/spawn"
)

// Ask is what a caller wants started.
type Ask struct {
	Name      string            `json:"name"`
	Argv      []string          `json:"argv"`
	Shell     *string           `json:"shell"`
	Cwd       string            `json:"cwd"`
	Env       map[string]string `json:"env"`
	User      string            `json:"user"`
	Stdin     bool              `json:"stdin"`
	Pty       *Size             `json:"pty"`
	TimeoutMs int64             `json:"timeoutMs"`
	KeepAlive bool              `json:"keepAlive"`
	Restart   *Restart          `json:"restart"`
}

// Size is a terminal's, in characters.
type Size struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// Restart says how often a program that failed is started again. MaxRestarts -1 means for ever, DelayMs 0 means 1000.
type Restart struct {
	MaxRestarts int   `json:"maxRestarts"`
	DelayMs     int64 `json:"delayMs"`
}

// Surroundings are what the instance's identity gives to every process.
type Surroundings struct {
	Env     map[string]string
	Workdir string
	User    string
}

// program is an ask with everything looked up: what a restart starts again.
type program struct {
	argv       []string
	path       string
	env        map[string]string
	cwd        string
	line       line // of a shell command: how it may do without a fresh shell
	user       string
	command    string
	credential *syscall.Credential
	uid        uint32
}

func check(ask Ask) error {
	switch {
	case len(ask.Argv) == 0 && ask.Shell == nil:
		return fault.BadRequest("nothing to run: expected argv (a list with at least the program) or shell (a command line)")
	case len(ask.Argv) > 0 && ask.Shell != nil:
		return fault.BadRequest("both argv and shell were given; expected one of them")
	case len(ask.Argv) > 0 && ask.Argv[0] == "":
		return fault.BadRequest("argv[0] is empty; expected the program")
	case ask.TimeoutMs < 0:
		return fault.BadRequest("timeoutMs is %d; expected 0 (none) or more", ask.TimeoutMs)
	case ask.Restart != nil && (ask.Restart.MaxRestarts < -1 || ask.Restart.DelayMs < 0):
		return fault.BadRequest("restart is {maxRestarts: %d, delayMs: %d}; expected maxRestarts >= -1 and delayMs >= 0", ask.Restart.MaxRestarts, ask.Restart.DelayMs)
	case ask.Pty != nil && (ask.Pty.Cols == 0 || ask.Pty.Rows == 0):
		return fault.BadRequest("pty is %d x %d; expected at least 1 x 1", ask.Pty.Cols, ask.Pty.Rows)
	}
	for name, value := range ask.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return fault.BadRequest("env has the name %q; expected names without '=' and no NUL bytes", name)
		}
	}
	for _, word := range ask.Argv {
		if strings.Contains(word, "\x00") {
			return fault.BadRequest("argv contains a NUL byte")
		}
	}
	if ask.Shell != nil && strings.Contains(*ask.Shell, "\x00") {
		return fault.BadRequest("shell contains a NUL byte")
	}
	return nil
}

func resolve(ask Ask, around Surroundings, template map[string]string, book *account.Book) (program, error) {
	user := orElse(ask.User, around.User)
	who, err := book.Resolve(user)
	if err != nil {
		return program{}, err
	}
	same := ask.User == "" || ask.User == around.User
	resolved := program{
		env:        environment(who, same, template, around.Env, ask.Env),
		user:       orElse(user, "root"),
		credential: credentialOf(who),
		uid:        who.UID,
	}
	resolved.cwd = Locate(orElse(ask.Cwd, "."), orElse(around.Workdir, "/"), who.Home)
	if _, chosen := ask.Env["PWD"]; !chosen {
		resolved.env["PWD"] = resolved.cwd
	}
	if ask.Shell != nil {
		resolved.path = shell()
		resolved.argv = []string{resolved.path, "-c", *ask.Shell}
		resolved.command = *ask.Shell
		if resolved.path == bash && !changesBash(resolved.env) {
			resolved.line = readLine(*ask.Shell, func(name string) bool { _, set := resolved.env[name]; return set })
		}
		return resolved, nil
	}
	resolved.argv = ask.Argv
	resolved.command = strings.Join(ask.Argv, " ")
	resolved.path, err = find(ask.Argv[0], resolved.cwd, resolved.env["PATH"])
	return resolved, err
}

// Locate makes a path absolute: `~` is the home, a relative path starts at the work directory.
func Locate(path, workdir, home string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = filepath.Join(home, path[1:])
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(workdir, path)
	}
	return filepath.Clean(path)
}

const bash = "/bin/bash"

// seenBash saves a look on every start; a bash that was there and is removed makes later starts fail with its name.
var seenBash atomic.Bool

func shell() string {
	if seenBash.Load() {
		return bash
	}
	if _, err := os.Stat(bash); err == nil {
		seenBash.Store(true)
		return bash
	}
	return "/bin/sh"
}

// find looks a program up as execvp would, in the PATH of the process to be.
func find(name, cwd, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil // exec itself resolves it against the cwd and says what is wrong
	}
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(orElse(dir, "."), name)
		if !filepath.IsAbs(candidate) {
			candidate = filepath.Join(cwd, candidate)
		}
		info, err := os.Stat(candidate)
		if err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", fault.Failed("there is no program %q in PATH (%s)", name, path)
}

func credentialOf(who account.Account) *syscall.Credential {
	if who.UID == 0 && who.GID == 0 && len(who.Groups) <= 1 && os.Geteuid() == 0 {
		return nil
	}
	return &syscall.Credential{Uid: who.UID, Gid: who.GID, Groups: who.Groups}
}

// start runs the program once on the given descriptors.
func (p program) start(children *spawn.Children, ends ends) (*spawn.Child, error) {
	if child := p.startPlain(children, ends); child != nil {
		return child, nil
	}
	child, err := children.Start(p.spec(ends))
	if err != nil {
		return nil, p.explain(err)
	}
	return child, nil
}

func (p program) spec(ends ends) spawn.Spec {
	return spawn.Spec{
		Path: p.path, Argv: p.argv, Env: pairsOf(p.env), Dir: p.cwd,
		Stdin: ends.stdin, Stdout: ends.stdout, Stderr: ends.stderr,
		Credential: p.credential, Terminal: ends.terminal,
	}
}

// startPlain starts the program that the shell would only replace itself by. Nil when that fails: then the shell says why.
func (p program) startPlain(children *spawn.Children, ends ends) *spawn.Child {
	if p.line.plain == nil {
		return nil
	}
	path, err := find(p.line.plain[0], p.cwd, p.env["PATH"])
	if err != nil {
		return nil
	}
	direct := p
	direct.path, direct.argv = path, p.line.plain
	direct.env = maps.Clone(p.env)
	direct.env["_"] = path // as bash leaves it
	if _, set := p.env["SHLVL"]; !set {
		direct.env["SHLVL"] = "0"
	}
	child, err := children.Start(direct.spec(ends))
	if err != nil {
		return nil
	}
	return child
}

// explain finds out which step of a start failed, as the errno alone does not tell.
func (p program) explain(err error) error {
	if info, statErr := os.Stat(p.cwd); statErr != nil || !info.IsDir() {
		return fault.Failed("could not start %q: the working directory %s does not exist", p.argv[0], p.cwd)
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fault.Failed("could not start %q: %s, or the interpreter it names, does not exist", p.argv[0], p.path)
	case errors.Is(err, syscall.EACCES):
		return fault.Failed("could not start %q: user %s may not execute %s or enter %s", p.argv[0], p.user, p.path, p.cwd)
	case errors.Is(err, syscall.E2BIG):
		return fault.TooLarge("could not start %q: arguments and environment are too large", p.argv[0])
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		return fault.Failed("could not start %q: no more processes or memory: %v", p.argv[0], err)
	}
	return fault.Failed("could not start %q: %v", p.argv[0], err)
}

func orElse(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
