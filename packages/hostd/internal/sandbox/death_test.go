package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/cgroup"
)

func TestADeathIsJudgedByWhatTheHostHasToSay(t *testing.T) {
	status := func(number int) *unix.WaitStatus { s := unix.WaitStatus(number); return &s }
	exited := func(code int) *unix.WaitStatus { return status(code << 8) }
	killed := status(9)
	oom, crowded := cgroup.Strikes{OOMKills: 1}, cgroup.Strikes{PidsRefused: 40}
	for _, c := range []struct {
		about string
		evidence
		want Cause
	}{
		{"killed by us", evidence{killed: true, end: killed}, Killed},
		{"killed by us after one of its programs was killed for memory", evidence{killed: true, strikes: oom, end: killed}, Killed},
		{"the kernel killed the sentry", evidence{strikes: oom, end: killed}, Memory},
		{"the kernel killed PID 1", evidence{strikes: oom, end: exited(137)}, Memory},
		{"memory ran out and nobody saw the end", evidence{strikes: oom}, Memory},
		{"PID 1 ended by itself, after one of its programs was killed for memory", evidence{strikes: oom, end: exited(0)}, Exited},
		{"no thread for gVisor", evidence{strikes: crowded, end: exited(2), said: "runtime: failed to create new OS thread (have 16 already; errno=11)"}, Pids},
		{"the same, and nobody saw the end", evidence{strikes: crowded, said: "panic: failed to create a syscall thread"}, Pids},
		{"a bug in a crowd", evidence{strikes: crowded, end: exited(2), said: "panic: bug"}, Crashed},
		{"a crowd, and nobody saw the end", evidence{strikes: crowded}, Unknown},
		{"PID 1 ended by itself in a crowd", evidence{strikes: crowded, end: exited(1)}, Exited},
		{"gVisor met a bug", evidence{end: exited(2), said: "panic: bug"}, Crashed},
		{"killed by a stranger", evidence{end: killed}, Signalled},
		{"gone while we were away", evidence{}, Unknown},
	} {
		if death := c.judge(); death.Cause != c.want || death.String() == "" {
			t.Errorf("%s: got %s, want %s", c.about, death.Cause, c.want)
		}
	}
	if death := (evidence{end: exited(3)}).judge(); death.Signal != nil || death.ExitCode == nil || *death.ExitCode != 3 {
		t.Errorf("got %+v", death)
	}
	if death := (evidence{killed: true, end: killed}).judge(); death.Signal != nil || death.ExitCode != nil {
		t.Errorf("one that was killed as asked is told with more: %+v", death)
	}
	if death := (evidence{end: killed}).judge(); death.ExitCode != nil || death.Signal == nil || *death.Signal != 9 {
		t.Errorf("got %+v", death)
	}
}

func TestLastWordsAreShortAndReadable(t *testing.T) {
	bundle := t.TempDir()
	if said := lastWords(bundle); said != "" {
		t.Errorf("without a log: %q", said)
	}
	text := "panic: \x1b[31mno\tthread\nmore \xff" + strings.Repeat("é", 2*lastWordsMax)
	if err := os.WriteFile(filepath.Join(bundle, "panic.log"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := lastWords(bundle); !strings.HasPrefix(said, "panic: [31mno thread more ?é") || len(said) > lastWordsMax || len(said) < lastWordsMax-1 || strings.ContainsRune(said, '\uFFFD') {
		t.Errorf("got %d bytes: %q", len(said), said)
	}
	if err := os.WriteFile(filepath.Join(bundle, "panic.log"), []byte("panic: no thread\n\ngoroutine 1 [running]:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := lastWords(bundle); said != "panic: no thread" {
		t.Errorf("with stacks: %q", said)
	}
}

func TestHowAProcessEndedIsKnownBeforeAndAfterItIsCollected(t *testing.T) {
	bundle := t.TempDir()
	child := exec.Command("sh", "-c", "exit 7")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := child.Process.Pid
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	seven := func(moment string) {
		t.Helper()
		if end := endOf(pid, bundle); end == nil || end.ExitStatus() != 7 {
			t.Errorf("%s: %v", moment, end)
		}
	}
	seven("a zombie")
	var b births
	b.remember(pid, bundle)
	b.bury(pid)
	seven("collected")
	if startTicks(pid) != 0 {
		t.Error("it was not collected")
	}
	if end := endOf(os.Getpid(), bundle); end != nil {
		t.Errorf("this process has ended: %v", end)
	}
}
