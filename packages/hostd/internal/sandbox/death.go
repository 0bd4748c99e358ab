package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/container"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/names"
)

// Death is how a sandbox ended, as far as the host tells.
type Death struct {
	Cause    Cause  `json:"cause"`
	ExitCode *int   `json:"exitCode,omitempty"`
	Signal   *int   `json:"signal,omitempty"`
	Said     string `json:"said,omitempty"`
}

// Cause of a death; PROTOCOL.md says what each means.
type Cause string

const (
	Killed    Cause = "killed"
	Memory    Cause = "memory"
	Pids      Cause = "pids"
	Exited    Cause = "exited"
	Signalled Cause = "signalled"
	Crashed   Cause = "crashed"
	Unknown   Cause = "unknown"
)

// String is the middle of a sentence about a sandbox that is no more.
func (d *Death) String() string {
	switch d.Cause {
	case Killed:
		return "it was killed as asked"
	case Memory:
		return "the kernel killed it for want of memory"
	case Pids:
		return "it came to its limit of processes and threads, without which gVisor cannot go on"
	case Exited:
		return fmt.Sprintf("its first process ended with %d", *d.ExitCode)
	case Signalled:
		return fmt.Sprintf("signal %d ended it", *d.Signal)
	case Crashed:
		return "gVisor gave up: " + d.Said
	default:
		return "nothing tells why"
	}
}

// evidence is what the host has to say about a sandbox that is no more.
type evidence struct {
	// killed: by us, on somebody's word.
	killed  bool
	strikes cgroup.Strikes
	// end of the sentry; nil when none of ours was there to see it.
	end *unix.WaitStatus
	// said is how gVisor's last words begin.
	said string
}

func (e evidence) judge() *Death {
	if e.killed {
		return &Death{Cause: Killed} // How it took that says nothing more.
	}
	death := &Death{Cause: e.cause(), Said: e.said}
	switch {
	case e.end == nil:
	case e.end.Signaled():
		signal := int(e.end.Signal())
		death.Signal = &signal
	default:
		code := e.end.ExitStatus()
		death.ExitCode = &code
	}
	return death
}

func (e evidence) cause() Cause {
	switch {
	case e.strikes.OOMKills > 0 && (e.end == nil || isSIGKILL(*e.end)):
		return Memory
	case e.strikes.PidsRefused > 0 && e.lackedAThread():
		return Pids
	case e.said != "":
		return Crashed
	case e.end == nil:
		return Unknown
	case e.end.Signaled():
		return Signalled
	default:
		return Exited
	}
}

// refusedAThread are words that gVisor dies with when the kernel refuses it one: to Go's runtime, or to systrap for a thread or process of the guest's.
var refusedAThread = []string{"new OS thread", "syscall thread", "stub thread", "failed to get clone"}

func (e evidence) lackedAThread() bool {
	return slices.ContainsFunc(refusedAThread, func(words string) bool { return strings.Contains(e.said, words) })
}

// isSIGKILL of the sentry itself, or of PID 1 within: the sentry then ends as a shell would.
func isSIGKILL(end unix.WaitStatus) bool {
	return end.Signaled() && end.Signal() == unix.SIGKILL || end.Exited() && end.ExitStatus() == 128+int(unix.SIGKILL)
}

// deathOf a sandbox whose process is gone.
func (s *Sandboxes) deathOf(id names.ID, loaded *container.Container) *Death {
	bundle := s.paths.Bundle(id)
	strikes, err := s.group(id).Strikes()
	if err != nil {
		strikes = cgroup.Strikes{} // Counters that cannot be read explain nothing.
	}
	return evidence{killed: isKilled(bundle), strikes: strikes, end: endOf(loaded.Sandbox.Getpid(), bundle), said: lastWords(bundle)}.judge()
}

// A sandbox that we kill says so in its bundle, before it is killed.
func killedFile(bundle string) string { return filepath.Join(bundle, "killed") }

func isKilled(bundle string) bool {
	_, err := os.Stat(killedFile(bundle))
	return err == nil
}

// markKilled leaves alone what has died by itself before.
func (s *Sandboxes) markKilled(id names.ID) error {
	loaded, err := s.load(id)
	if isNotFound(err) {
		return nil
	}
	if err == nil {
		if _, alive := s.processOf(loaded, id); !alive {
			return nil
		}
	}
	if err := os.WriteFile(killedFile(s.paths.Bundle(id)), nil, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("writing down that %s is killed: %w", id, err)
	}
	return nil
}
