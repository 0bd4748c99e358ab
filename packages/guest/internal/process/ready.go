package process

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"torpor/guest/internal/account"
	"torpor/guest/internal/spawn"
)

// Ready holds one bash that was started beforehand and waits for a builtin line (see line.go). It must be indistinguishable
// from a fresh one for such a line: same user, directory, variables, descriptors, session, capabilities. Whatever could make a
// difference, as a variable that bash reads only when it starts, is left to a fresh shell.
//
// A ready shell costs some memory, so a claimed instance keeps it only for readyKept after its last use.
type Ready struct {
	children *spawn.Children
	env      map[string]string
	enabled  bool

	mu      sync.Mutex
	waiting *readyShell
	starts  bool // a start is under way
	claimed bool
	expiry  *time.Timer
}

const readyKept = 10 * time.Second

// readyShell waits on descriptor 3 for its script.
type readyShell struct {
	child   *spawn.Child
	control int
	pumps   *pumps
}

// readyScript reads until the pipe ends and evaluates that as line 1 of `bash -c`. Descriptor 3, REPLY and OLDPWD stay set:
// a builtin line has no redirection and no variable that would show them.
const readyScript = `LC_ALL=C read -r -N 32768 -u 3 REPLY; eval "$REPLY"`

// scriptBytes keeps a script within what readyScript reads, and a pipe takes at once.
const scriptBytes = 32<<10 - 1

// NewReady starts the first shell in the background.
func NewReady(children *spawn.Children, template map[string]string, book *account.Book, enabled bool) *Ready {
	ready := &Ready{children: children, enabled: enabled}
	root, err := book.Resolve("root")
	if err != nil || !enabled || os.Geteuid() != 0 || shell() != bash {
		ready.enabled = false
		return ready
	}
	ready.env = environment(root, true, template, nil, nil)
	ready.env["PWD"] = "/"
	ready.enabled = !changesBash(ready.env)
	ready.refill()
	return ready
}

// Claimed says that the instance is somebody's now, or has a new generation: a shell from before must not be used after a
// fork, as both sides would share its seeds, and is not kept for long.
func (r *Ready) Claimed(forked bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claimed = true
	if forked {
		r.discard()
	}
	r.expireLater()
}

// answer gives the line to the waiting shell. Nil when there is none or the line needs a fresh one.
func (r *Ready) answer(ask Ask, program program) (*spawn.Child, *pumps) {
	if !r.enabled || !program.line.builtin || ask.Stdin || ask.Pty != nil || program.credential != nil {
		return nil, nil
	}
	script, same := r.script(program)
	if !same {
		return nil, nil
	}
	taken := r.take()
	if taken == nil {
		go r.refill()
		return nil, nil
	}
	written, err := syscall.Write(taken.control, []byte(script))
	syscall.Close(taken.control)
	if err != nil || written != len(script) {
		taken.end(r.children)
		return nil, nil
	}
	go func() {
		<-taken.child.Done
		r.refill()
	}()
	return taken.child, taken.pumps
}

// IsWaiting says whether the pid is the shell that waits.
func (r *Ready) IsWaiting(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting != nil && r.waiting.child.Pid == pid
}

// script sets what a fresh shell would have been started with, and then is the line. It is one line with the tenant's, so that
// messages name the same line numbers.
func (r *Ready) script(program program) (string, bool) {
	var script strings.Builder
	for _, name := range slices.Sorted(maps.Keys(program.env)) {
		value := program.env[name]
		if present, set := r.env[name]; name == "PWD" || (set && present == value) {
			continue
		}
		if !isName(name) || meansSomethingToBash(name) {
			return "", false
		}
		script.WriteString("export " + name + "=" + quote(value) + ";")
	}
	for name := range r.env {
		if _, kept := program.env[name]; !kept {
			return "", false
		}
	}
	if program.env["PWD"] != program.cwd {
		return "", false
	}
	if program.cwd != "/" {
		if info, err := os.Stat(program.cwd); err != nil || !info.IsDir() {
			return "", false
		}
		script.WriteString("cd " + quote(program.cwd) + "||exit;")
	}
	script.WriteString(program.argv[2])
	return script.String(), script.Len() <= scriptBytes
}

// quote makes one literal word, without a newline of its own: messages count lines.
func quote(text string) string {
	return "'" + quoting.Replace(text) + "'"
}

var quoting = strings.NewReplacer("'", `'\''`, "\n", `'$'\n''`)

func (r *Ready) take() *readyShell {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.waiting
	r.waiting = nil
	if taken == nil {
		return nil
	}
	select {
	case <-taken.child.Done: // somebody killed it
		taken.end(r.children)
		return nil
	default:
		return taken
	}
}

// refill starts a shell when none waits. A failure leaves none: the next line takes a fresh shell.
func (r *Ready) refill() {
	r.mu.Lock()
	if r.waiting != nil || r.starts || !r.enabled {
		r.mu.Unlock()
		return
	}
	r.starts = true
	r.mu.Unlock()

	started, err := r.start()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.starts = false
	if err == nil {
		r.waiting = started
		r.expireLater()
	}
}

// expireLater is called with the lock held.
func (r *Ready) expireLater() {
	if r.expiry != nil {
		r.expiry.Stop()
	}
	if r.claimed {
		r.expiry = time.AfterFunc(readyKept, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.discard()
		})
	}
}

// discard is called with the lock held.
func (r *Ready) discard() {
	if r.waiting != nil {
		syscall.Close(r.waiting.control)
		r.waiting.end(r.children)
		r.waiting = nil
	}
}

func (s *readyShell) end(children *spawn.Children) {
	_ = children.Signal(s.child, syscall.SIGKILL, true) // ESRCH: it ended by itself
	s.pumps.abandon()
}

func (r *Ready) start() (*readyShell, error) {
	theirs, mine, err := openPipes(false)
	if err != nil {
		return nil, err
	}
	defer theirs.close()
	prepared, err := openPumps(mine)
	if err != nil {
		mine.close()
		return nil, err
	}
	var control [2]int
	if err := syscall.Pipe2(control[:], syscall.O_CLOEXEC); err != nil {
		prepared.abandon()
		return nil, err
	}
	defer syscall.Close(control[0])
	child, err := r.children.Start(spawn.Spec{
		Path: bash, Argv: []string{bash, "-c", readyScript}, Env: pairsOf(r.env), Dir: "/",
		Stdin: theirs.stdin, Stdout: theirs.stdout, Stderr: theirs.stderr, Control: control[0],
	})
	if err != nil {
		syscall.Close(control[1])
		prepared.abandon()
		return nil, err
	}
	return &readyShell{child: child, control: control[1], pumps: prepared}, nil
}

// changesBash says whether some variable changes what bash does when it starts.
func changesBash(env map[string]string) bool {
	for name := range env {
		switch {
		case strings.HasPrefix(name, "BASH"), name == "ENV", name == "SHELLOPTS", name == "POSIXLY_CORRECT":
			return true
		}
	}
	return false
}

// meansSomethingToBash: assigning these does more than, or something else than, having them from the start.
func meansSomethingToBash(name string) bool {
	switch name {
	case "_", "IFS", "REPLY", "SECONDS", "RANDOM", "SRANDOM", "LINENO", "OPTIND", "OPTARG", "OPTERR", "UID", "EUID", "PPID", "SHLVL", "OLDPWD",
		"PIPESTATUS", "DIRSTACK", "FUNCNAME", "GROUPS", "GLOBIGNORE", "LANG", "LANGUAGE", "TZ", "PS4", "HOSTNAME", "TIMEFORMAT", "FIGNORE":
		return true
	}
	return strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "EPOCH") || strings.HasPrefix(name, "COMP_") || strings.HasPrefix(name, "HIST")
}
