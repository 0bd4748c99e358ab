//go:build host

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestADeathIsToldTruthfully(t *testing.T) {
	n := newNode(t)
	neighbour := n.up(9)
	for _, c := range []struct {
		cause string
		kill  func(i instance)
		also  func(state, death args) bool
	}{
		// What is asked has no answer: the connection dies with whoever should give it.
		{"memory", func(i instance) { go i.get("/eat", asking("mib", "400")) }, func(state, _ args) bool { return state["oomKills"].(float64) > 0 }},
		// gVisor tells a guest that may not fork so, and lives; it dies when it lacks a thread for itself.
		{"pids", func(i instance) { i.get("/multiply", nil); go i.get("/crowd", nil) }, func(state, death args) bool { return state["pidsRefused"].(float64) > 0 && death["said"] != nil }},
		// It takes gVisor some 15 s to end after PID 1 did: it waits for the guest's open connections.
		{"exited", func(i instance) { go i.get("/exit", asking("code", "3")) }, func(_, death args) bool { return death["exitCode"] == 3.0 }},
		{"signalled", func(i instance) { unix.Kill(int(i.state()["pid"].(float64)), unix.SIGKILL) }, func(_, death args) bool { return death["signal"] == 9.0 }},
		{"killed", func(i instance) { n.must("sandbox.kill", i.ref()) }, nil},
	} {
		i := n.up(0, func(sandbox args) {
			if c.cause == "pids" { // With memory enough for as many processes as there may be.
				sandbox["limits"] = args{"memoryMib": 4096, "cpus": 1, "pids": 64, "nofile": 1024}
			}
		})
		c.kill(i)
		state, death := i.died()
		if death["cause"] != c.cause || c.also != nil && !c.also(state, death) {
			t.Errorf("a death by %s is told as %v", c.cause, state)
		}
		if _, err := n.client.ask("sandbox.resume", i.ref()); err == nil || !strings.Contains(err.Error(), i.id) {
			t.Errorf("a resume of the dead says %v", err)
		}
		if _, again := i.died(); fmt.Sprint(again) != fmt.Sprint(death) {
			t.Errorf("told again, it is another: %v, then %v", death, again)
		}
		neighbour.answers()
		i.down()
	}
}

// Nobody of ours was there to see the end.
func TestADeathWhileHostdIsAwayIsUnknownUnlessTheKernelCountedIt(t *testing.T) {
	n := newNode(t)
	i, hungry := n.up(0), n.up(1)
	pid := int(i.state()["pid"].(float64))
	n.kill()
	unix.Kill(pid, unix.SIGKILL)
	go hungry.get("/eat", asking("mib", "400"))
	n.start()
	// "signalled" where the host's first process leaves the dead lying about: then the kernel still tells.
	if _, death := i.died(); death["cause"] != "unknown" && death["signal"] != 9.0 {
		t.Errorf("got %v", death)
	}
	if _, death := hungry.died(); death["cause"] != "memory" {
		t.Errorf("got %v", death)
	}
}

// died waits for the end of a sandbox and gives what is told of it.
func (i instance) died() (state, death args) {
	i.n.t.Helper()
	i.n.eventually(i.id+" ends", time.Minute, func() error {
		if state = i.state(); state["runsc"] != "stopped" {
			return fmt.Errorf("%v", state)
		}
		return nil
	})
	death, told := state["death"].(map[string]any)
	if !told {
		i.n.t.Fatalf("nothing is told of the death: %v", state)
	}
	return state, death
}

func asking(name, value string) map[string]string { return map[string]string{name: value} }
