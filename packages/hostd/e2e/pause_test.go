//go:build host

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A burning sandbox uses about all of its processor; paused, its accounting must not move at all.
func TestAPausedSandboxUsesNoProcessorTime(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	i.mustGet("/spin", nil)
	before := i.state()["cpuUsageNs"].(float64)
	n.eventually("the sandbox burns", 5*time.Second, func() error {
		if used := i.state()["cpuUsageNs"].(float64) - before; used < 50e6 {
			return fmt.Errorf("used %.0f ns", used)
		}
		return nil
	})
	paused := n.must("sandbox.pause", i.ref())
	until := time.Now().Add(2 * time.Second)
	for time.Now().Before(until) {
		if now := i.state()["cpuUsageNs"].(float64); now != paused["cpuUsageNs"].(float64) {
			t.Fatalf("processor time moved from %v to %v while paused", paused["cpuUsageNs"], now)
		}
	}
	n.must("sandbox.resume", i.ref())
	i.answers()
}

// A pause that runs out of time half-way leaves the sandbox running; one that succeeded leaves it paused. There is nothing between.
func TestAPauseThatFailsLeavesTheSandboxRunning(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	i.mustGet("/spin", nil)
	failed := 0
	for round := range 100 {
		_, err := n.client.askWithin(1+round%3, "sandbox.pause", i.ref())
		want := "paused"
		if err != nil {
			failed++
			want = "running"
		}
		if state := i.state(); state["runsc"] != want || state["frozen"] != (want == "paused") {
			t.Fatalf("after a pause that said %v: %v", err, state)
		}
		n.must("sandbox.resume", i.ref())
	}
	i.answers()
	t.Logf("%d of 100 pauses ran out of their 1 to 3 ms", failed)
}

// Between the thaw and the resume, and between the pause and the freeze, only the sentry knows that it is paused.
func TestAHalfResumedSandboxIsNeitherLostNorResumedTwice(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	n.must("sandbox.pause", i.ref())
	n.kill()
	thawByHand(t, n, i)
	n.start()
	if state := i.state(); state["runsc"] != "paused" || state["frozen"] != false {
		t.Errorf("thawed but not resumed: %v", state)
	}
	n.must("sandbox.pause", i.ref())
	if state := i.state(); state["frozen"] != true {
		t.Errorf("paused again: %v", state)
	}
	n.must("sandbox.resume", i.ref())
	i.answers()
	n.must("sandbox.pause", i.ref())
	n.must("sandbox.resume", i.ref())
	i.answers()
}

// A sentry that stands still stands for one whose processor quota is used up: it answers when it may run again.
func TestAStartThatIsLateSaysSoAndIsTakenUpAgain(t *testing.T) {
	n := newNode(t)
	i := n.instance(0)
	n.must("disk.create", i.diskArgs())
	lateStart := func() {
		t.Helper()
		n.must("net.create", i.slotArgs())
		n.must("sandbox.create", i.sandboxArgs())
		freezeByHand(t, n, i)
		_, err := n.client.askWithin(200, "sandbox.start", i.ref())
		if late, ok := err.(*refusal); !ok || late.Code != "deadline" || !late.Retryable || !strings.Contains(late.Message, `"sandbox.start"`) {
			t.Fatalf("a start that cannot be in time says %v", err)
		}
		n.refused("busy", "sandbox.state", i.ref())
	}
	lateStart()
	thawByHand(t, n, i)
	n.must("sandbox.start", i.ref())
	i.answers()
	n.must("sandbox.delete", i.ref())
	// One that is still late when the sandbox goes does not come after its successor.
	lateStart()
	n.must("sandbox.delete", i.ref())
	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", i.sandboxArgs())
	n.must("sandbox.start", i.ref())
	i.answers()
	n.must("sandbox.pause", i.ref())
	n.must("sandbox.resume", i.ref())
	i.answers()
}

func thawByHand(t *testing.T, n *node, i instance) {
	t.Helper()
	turnByHand(t, n, i, "THAWED", "0")
}

func freezeByHand(t *testing.T, n *node, i instance) {
	t.Helper()
	turnByHand(t, n, i, "FROZEN", "1")
	v1 := "/sys/fs/cgroup/freezer/torpor-" + n.scope + "/" + i.id + "/freezer.state"
	v2 := "/sys/fs/cgroup/torpor-" + n.scope + "/" + i.id + "/cgroup.events"
	n.eventually("the freezer holds", 5*time.Second, func() error {
		old, _ := os.ReadFile(v1)
		new, _ := os.ReadFile(v2)
		if strings.TrimSpace(string(old)) != "FROZEN" && !strings.Contains(string(new), "frozen 1") {
			return fmt.Errorf("it says %q %q", old, new)
		}
		return nil
	})
}

func turnByHand(t *testing.T, n *node, i instance, v1Order, v2Order string) {
	t.Helper()
	v1 := "/sys/fs/cgroup/freezer/torpor-" + n.scope + "/" + i.id + "/freezer.state"
	v2 := "/sys/fs/cgroup/torpor-" + n.scope + "/" + i.id + "/cgroup.freeze"
	if os.WriteFile(v1, []byte(v1Order), 0) != nil {
		if err := os.WriteFile(v2, []byte(v2Order), 0); err != nil {
			t.Fatal(err)
		}
	}
}
