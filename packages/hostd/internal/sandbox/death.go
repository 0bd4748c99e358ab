package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

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

// lackedAThread by gVisor's own words: Go's runtime cannot start one, or systrap cannot for the guest.
func (e evidence) lackedAThread() bool {
	return strings.Contains(e.said, "new OS thread") || strings.Contains(e.said, "syscall thread") || strings.Contains(e.said, "stub thread")
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

const lastWordsMax = 600

// lastWords are how gVisor's own report of its crash begins, before the stacks.
func lastWords(bundle string) string {
	report, err := os.ReadFile(filepath.Join(bundle, "panic.log"))
	if err != nil {
		return ""
	}
	said, _, _ := bytes.Cut(report[:min(len(report), 4*lastWordsMax)], []byte("\n\n"))
	readable := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(said), "?"))
	readable = strings.Join(strings.Fields(readable), " ")
	return strings.ToValidUTF8(readable[:min(len(readable), lastWordsMax)], "")
}

// withLastWords adds to a failure what the sentry said when it died.
func (s *Sandboxes) withLastWords(id names.ID, err error) error {
	if said := lastWords(s.paths.Bundle(id)); said != "" {
		return fmt.Errorf("%w; gVisor's last words: %s", err, said)
	}
	return err
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

// How a process ended is told once, to whoever collects it; he writes it down in the bundle first. Before that the kernel tells it of the zombie.
func endFile(bundle string, pid int) string { return filepath.Join(bundle, fmt.Sprintf("end.%d", pid)) }

// dyingMax bounds the wait for a process that is on its way out: it has memory to give back, and says only then how it ended.
const dyingMax = time.Second

func endOf(pid int, bundle string) *unix.WaitStatus {
	for until := time.Now().Add(dyingMax); isDying(pid) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if end := endOfZombie(pid); end != nil {
		return end
	}
	text, err := os.ReadFile(endFile(bundle, pid))
	if err != nil {
		return nil
	}
	return asStatus(string(text))
}

// Places in what fieldsAfterName gives: proc_pid_stat(5) counts from 1, and the state is its third.
const (
	flagsAt    = 9 - 3
	exitCodeAt = 52 - 3
)

func endOfZombie(pid int) *unix.WaitStatus {
	fields := statOf(pid)
	if len(fields) <= exitCodeAt || fields[0] != "Z" {
		return nil
	}
	return asStatus(fields[exitCodeAt])
}

func isDying(pid int) bool {
	fields := statOf(pid)
	if len(fields) <= flagsAt || fields[0] == "Z" || fields[0] == "X" {
		return false
	}
	const exiting = 0x4 // PF_EXITING of the kernel's.
	flags, err := strconv.ParseUint(fields[flagsAt], 10, 64)
	return err == nil && flags&exiting != 0
}

func statOf(pid int) []string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return fieldsAfterName(string(stat))
}

func asStatus(text string) *unix.WaitStatus {
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil
	}
	status := unix.WaitStatus(number)
	return &status
}
