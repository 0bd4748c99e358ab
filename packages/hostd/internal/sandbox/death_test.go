package sandbox

import (
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
		{"no process for a program of the guest's", evidence{strikes: crowded, end: exited(2), said: "panic: createStub: failed to get clone"}, Pids},
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
