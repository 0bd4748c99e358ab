//go:build host

package e2e

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAnInstanceLivesPausesWakesAndLeavesNothing(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	if state := i.state(); state["runsc"] != "running" || state["frozen"] != false || state["memoryMib"].(float64) <= 0 {
		t.Errorf("state of a running sandbox: %v", state)
	}
	i.mustGet("/spin", nil)
	for range 3 {
		n.must("sandbox.pause", i.ref())
		n.must("sandbox.pause", i.ref())
		if state := i.state(); state["runsc"] != "paused" || state["frozen"] != true {
			t.Errorf("state of a paused sandbox: %v", state)
		}
		n.must("sandbox.resume", i.ref())
		i.answers()
		if again := n.must("sandbox.resume", i.ref()); again["already"] != true {
			t.Errorf("resuming a running sandbox: %v", again)
		}
	}
	i.down()
	n.inventoryIsEmpty()
}

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

func TestManyInstancesAtOnce(t *testing.T) {
	n := newNode(t)
	var all sync.WaitGroup
	for slot := range 12 {
		all.Add(1)
		go func() {
			defer all.Done()
			own := *n
			client, err := dialHostd(filepath.Join(n.dir, "run", "hostd.sock"))
			if err != nil {
				t.Error(err)
				return
			}
			defer client.connection.Close()
			own.client = client
			i := own.instance(slot)
			for _, step := range []struct {
				verb string
				with args
			}{
				{"disk.create", i.diskArgs()}, {"net.create", i.slotArgs()}, {"sandbox.create", i.sandboxArgs()}, {"sandbox.start", i.ref()},
				{"sandbox.pause", i.ref()}, {"sandbox.resume", i.ref()}, {"sandbox.delete", i.ref()}, {"net.delete", i.slotArgs()}, {"disk.delete", i.ref()},
			} {
				if _, err := client.ask(step.verb, step.with); err != nil {
					t.Errorf("%s of %s: %v", step.verb, i.id, err)
					return
				}
			}
		}()
	}
	all.Wait()
	n.inventoryIsEmpty()
}

// The guest burns its quota, so that the sentry answers late, while hostd is killed at the worst of moments.
func TestAKillInTheMiddleOfAPauseIsMended(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	i.mustGet("/spin", nil)
	chance := rand.New(rand.NewSource(2))
	for round := range 12 {
		verb := []string{"sandbox.pause", "sandbox.resume"}[round%2]
		if verb == "sandbox.resume" {
			n.must("sandbox.pause", i.ref())
		}
		answered := make(chan struct{})
		client := n.client
		go func() { client.ask(verb, i.ref()); close(answered) }()
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(chance.Intn(2000))*time.Microsecond)
		<-ctx.Done()
		cancel()
		n.kill()
		<-answered
		n.start()
		n.must("sandbox.resume", i.ref())
		i.answers()
	}
}

// More births than one spawner lives for: its successor takes over, and nothing it started is left as a zombie.
func TestSpawnersAreReplacedAndZombiesCollected(t *testing.T) {
	n := newNode(t)
	i := n.instance(0)
	n.must("disk.create", i.diskArgs())
	n.must("net.create", i.slotArgs())
	for range 6 {
		n.must("sandbox.create", i.sandboxArgs())
		n.must("sandbox.delete", i.ref())
	}
	n.must("sandbox.create", i.sandboxArgs())
	killSpawners(t, n)
	n.must("sandbox.delete", i.ref())
	n.must("sandbox.create", i.sandboxArgs())
	n.must("sandbox.start", i.ref())
	n.must("sandbox.delete", i.ref())
	n.eventually("no child of hostd is a zombie", 10*time.Second, func() error {
		for _, pid := range childrenOf(n.process.Process.Pid) {
			if stat, _ := os.ReadFile("/proc/" + pid + "/stat"); strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("%s", stat)
			}
		}
		return nil
	})
}

func childrenOf(pid int) []string {
	var out []string
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range tasks {
		text, _ := os.ReadFile(path)
		out = append(out, strings.Fields(string(text))...)
	}
	return out
}

func killSpawners(t *testing.T, n *node) {
	t.Helper()
	for _, child := range childrenOf(n.process.Process.Pid) {
		line, _ := os.ReadFile("/proc/" + child + "/cmdline")
		if strings.Contains(string(line), "spawn\x00") {
			pid, _ := strconv.Atoi(child)
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func TestEveryVerbTwiceEqualsOnce(t *testing.T) {
	n := newNode(t)
	i := n.instance(5)
	twice := func(verb string, with args) (first, second map[string]any) {
		t.Helper()
		return n.must(verb, with), n.must(verb, with)
	}
	twice("node.prepare", n.prepare)
	twice("disk.create", i.diskArgs())
	twice("net.create", i.slotArgs())
	if a, b := twice("sandbox.create", i.sandboxArgs()); a["pid"] != b["pid"] || a["startTicks"] != b["startTicks"] {
		t.Errorf("creating twice gave two sandboxes: %v and %v", a, b)
	}
	other := i.sandboxArgs()
	other["hostname"] = "another"
	n.refused("already_exists", "sandbox.create", other)
	twice("sandbox.start", i.ref())
	i.answers()
	twice("node.prepare", n.prepare) // With a running instance: it must not be cut off.
	i.answers()
	twice("sandbox.pause", i.ref())
	twice("sandbox.resume", i.ref())
	i.answers()
	twice("sandbox.kill", i.ref())
	if state := i.state(); state["runsc"] != "stopped" || state["exists"] != true {
		t.Errorf("state of a killed sandbox: %v", state)
	}
	n.refused("host_error", "sandbox.pause", i.ref())
	twice("sandbox.delete", i.ref())
	if state := i.state(); state["runsc"] != "absent" || state["exists"] != false {
		t.Errorf("state of a deleted sandbox: %v", state)
	}
	n.refused("not_found", "sandbox.resume", i.ref())
	twice("net.delete", i.slotArgs())
	twice("disk.delete", i.ref())
	n.inventoryIsEmpty()
}

func TestASandboxOutlivesHostd(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	pid := i.state()["pid"]
	n.kill()
	i.answers()
	n.start()
	if state := i.state(); state["runsc"] != "running" || state["pid"] != pid {
		t.Errorf("after the first kill: %v", state)
	}
	n.must("sandbox.pause", i.ref())
	n.kill()
	n.start()
	if state := i.state(); state["runsc"] != "paused" || state["frozen"] != true || state["pid"] != pid {
		t.Errorf("killed while it was paused: %v", state)
	}
	n.must("sandbox.resume", i.ref())
	i.answers()
	n.kill()
	n.start()
	n.must("sandbox.kill", i.ref())
	i.down()
	n.inventoryIsEmpty()
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

// Every verb that changes something is cut off just before and just after it acts; asked again it must succeed.
func TestAKillAtTheEdgeOfEveryVerbIsMended(t *testing.T) {
	n := newNode(t)
	i := n.instance(1)
	steps := []struct {
		verb string
		with args
	}{
		{"node.prepare", n.prepare}, {"disk.create", i.diskArgs()}, {"net.create", i.slotArgs()}, {"sandbox.create", i.sandboxArgs()}, {"sandbox.start", i.ref()},
		{"sandbox.pause", i.ref()}, {"sandbox.resume", i.ref()}, {"sandbox.kill", i.ref()}, {"sandbox.delete", i.ref()},
		{"net.delete", i.slotArgs()}, {"disk.delete", i.ref()},
	}
	for _, step := range steps {
		for _, moment := range []string{"before", "after"} {
			n.kill()
			n.start("TORPOR_FAILPOINTS=" + step.verb + ":" + moment + "=exit")
			if _, err := n.client.ask(step.verb, step.with); err == nil {
				t.Fatalf("%s survived its failpoint %s", step.verb, moment)
			}
			<-n.exited
			n.start()
		}
		n.must(step.verb, step.with)
		if step.verb == "sandbox.start" || step.verb == "sandbox.resume" {
			i.answers()
		}
	}
	n.inventoryIsEmpty()
}

// Killed at any moment of a create, hostd's successor waits for what its children still do, and ends with one whole sandbox.
func TestAKillInTheMiddleOfACreateIsMended(t *testing.T) {
	n := newNode(t)
	chance := rand.New(rand.NewSource(1))
	for round := range 8 {
		i := n.instance(round)
		n.must("disk.create", i.diskArgs())
		n.must("net.create", i.slotArgs())
		for range 2 {
			answered := make(chan struct{})
			client := n.client
			go func() { client.ask("sandbox.create", i.sandboxArgs()); close(answered) }()
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(chance.Intn(90))*time.Millisecond)
			<-ctx.Done()
			cancel()
			n.kill()
			<-answered
			n.start()
		}
		n.must("sandbox.create", i.sandboxArgs())
		n.must("sandbox.start", i.ref())
		i.answers()
		n.must("sandbox.pause", i.ref())
		n.must("sandbox.resume", i.ref())
		i.answers()
		i.down()
	}
	n.inventoryIsEmpty()
}

func TestTwoNodesOnOneHostDoNotTouchEachOther(t *testing.T) {
	a, b := newNode(t), newNode(t)
	inA, inB := a.up(0), b.up(0)
	a.must("host.purge", args{})
	a.inventoryIsEmpty()
	if text, err := inA.get("/", nil); err == nil && text == inA.id {
		t.Error("the purged node's sandbox still answers")
	}
	inB.answers()
	b.must("sandbox.pause", inB.ref())
	b.must("sandbox.resume", inB.ref())
	inB.answers()
	a.refused("not_found", "disk.create", inA.diskArgs())
	a.must("node.prepare", a.prepare)
	a.up(0).answers()
}

func TestLimitsAreOnEverySandbox(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	if total := memTotalMib(t, i.mustGet("/read", map[string]string{"path": "/proc/meminfo"})); total != 256 {
		t.Errorf("the guest sees %d MiB of memory, want 256", total)
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		t.Skip("the files below are those of cgroup v1")
	}
	for path, want := range map[string]string{
		"memory/%s/memory.limit_in_bytes": strconv.Itoa(256 << 20), "pids/%s/pids.max": "2048", "cpu/%s/cpu.cfs_quota_us": "100000",
	} {
		group := "torpor-" + n.scope + "/" + i.id
		text, err := os.ReadFile("/sys/fs/cgroup/" + strings.Replace(path, "%s", group, 1))
		if err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s is %q, want %s (%v)", path, text, want, err)
		}
	}
	inside, err := os.ReadFile("/sys/fs/cgroup/freezer/torpor-" + n.scope + "/" + i.id + "/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	var gofer, sentry bool
	for _, pid := range strings.Fields(string(inside)) {
		line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		gofer = gofer || strings.HasPrefix(string(line), "runsc-gofer")
		sentry = sentry || strings.HasPrefix(string(line), "runsc-sandbox")
		if !strings.HasPrefix(string(line), "runsc-") && !strings.HasPrefix(string(line), "systrap") && len(line) > 0 {
			t.Errorf("something besides runsc's own is in the sandbox's cgroup: %q", line)
		}
	}
	if !gofer || !sentry {
		t.Errorf("the cgroup lacks the gofer or the sentry: %s", inside)
	}
}

// gVisor ends when the host refuses it a thread, so the limit inside must be met first.
func TestWhoeverStartsTooManyProcessesIsRefusedInsideAndTheSandboxLivesOn(t *testing.T) {
	n := newNode(t)
	i := n.up(0, func(sandbox args) { sandbox["limits"] = args{"memoryMib": 2048, "cpus": 1, "pids": 64, "nofile": 1024} })
	text := i.mustGet("/multiply-as-user", nil)
	var count int
	if _, err := fmt.Sscanf(text, "%d", &count); err != nil || count < 8 || count > 64 || !strings.Contains(text, "resource temporarily unavailable") {
		t.Errorf("of 64 processes and threads, it says: %s", text)
	}
	i.answers()
	if state := i.state(); state["runsc"] != "running" || state["pidsRefused"].(float64) != 0 {
		t.Errorf("the host refused it something: %v", state)
	}
}

func TestAFileInMemoryMeetsItsEndBeforeTheSandboxDoes(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	for _, path := range []string{"/tmp/big", "/dev/shm/big", "/run/big"} {
		if text, err := i.get("/fill", asking("path", path)); err != nil || !strings.Contains(text, "no space left") {
			t.Errorf("%s does not end at its size: %q %v", path, text, err)
		}
	}
	i.answers()
}

func memTotalMib(t *testing.T, meminfo string) int {
	t.Helper()
	for _, line := range strings.Split(meminfo, "\n") {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	t.Fatalf("no MemTotal in %q", meminfo)
	return 0
}

func TestSetUserIDProgramsWorkInside(t *testing.T) {
	n := newNode(t)
	if euid := n.up(0).mustGet("/elevated", nil); euid != "0" {
		t.Errorf("a set-user-id program of root runs as %s", euid)
	}
}

// A reboot takes processes, mounts, namespaces and rules; the pool file and, where /run is no tmpfs, hostd's records stay.
func TestAfterARebootTheFilesAreThere(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	i.mustGet("/write", map[string]string{"path": "/kept", "text": "through the night"})
	n.kill()
	processes := "/sys/fs/cgroup/freezer/torpor-" + n.scope + "/" + i.id + "/cgroup.procs"
	if _, err := os.Stat(processes); err != nil {
		processes = "/sys/fs/cgroup/torpor-" + n.scope + "/" + i.id + "/cgroup.procs"
	}
	command(t, "sh", "-c", "xargs -r kill -9 < "+processes+"; while [ -n \"$(cat "+processes+")\" ]; do sleep 0.01; done")
	command(t, "umount", filepath.Join(n.dir, "run/bundles", i.id, "rootfs"))
	command(t, "umount", filepath.Join(n.dir, "pool"))
	command(t, "ip", "netns", "del", "tp"+n.scope+"-0")
	command(t, "nft", "delete", "table", "inet", "torpor_"+n.scope)
	n.start()
	n.refused("not_found", "node.usage", args{})
	n.must("node.prepare", n.prepare)
	if state := i.state(); state["runsc"] != "stopped" {
		t.Errorf("state after the reboot: %v", state)
	}
	n.must("sandbox.delete", i.ref())
	n.must("disk.create", i.diskArgs())
	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", i.sandboxArgs())
	n.must("sandbox.start", i.ref())
	i.answers()
	if text := i.mustGet("/read", map[string]string{"path": "/kept"}); text != "through the night" {
		t.Errorf("the file reads %q", text)
	}
}

func command(t *testing.T, line ...string) {
	t.Helper()
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", line, err, out)
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

func asking(name, value string) map[string]string { return map[string]string{name: value} }

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

func TestStatsAreOfTheSandboxesAskedFor(t *testing.T) {
	n := newNode(t)
	i, other := n.up(0), n.up(1)
	stats := n.must("sandbox.stats", args{"ids": []string{i.id, "unknown0"}})
	of, ok := stats[i.id].(map[string]any)
	if !ok || len(stats) != 1 || of["pids"].(float64) < 2 || of["rxBytes"].(float64) <= 0 || of["txBytes"].(float64) <= 0 || of["memoryMib"].(float64) <= 0 {
		t.Errorf("stats: %v", stats)
	}
	inventory := n.must("inventory", args{})
	for kind, want := range map[string]string{
		"sandboxes": "[" + i.id + " " + other.id + "]", "mounts": "[" + i.id + " " + other.id + "]", "cgroups": "[" + i.id + " " + other.id + "]",
		"disks": "[" + i.id + " " + other.id + "]", "netns": "[0 1]", "veths": "[0 1]", "netElements": "[0 1]",
	} {
		if got := fmt.Sprint(inventory[kind]); got != want {
			t.Errorf("inventory of %s: %s, want %s", kind, got, want)
		}
	}
}

func TestRefusalsSayWhichKind(t *testing.T) {
	n := newNode(t)
	i := n.instance(0)
	n.refused("unsupported", "instance.dance", args{})
	n.refused("unsupported", "hello", args{"protocol": 99})
	n.refused("bad_request", "disk.create", args{"id": "../etc", "diskMib": 1})
	n.refused("bad_request", "disk.create", args{"id": i.id, "diskMib": 100, "disMib": 1})
	n.refused("bad_request", "net.create", args{"id": i.id, "slot": 16384})
	n.refused("bad_request", "egress.set", args{"allow": []any{args{"ip": "1.2.3.4 }; flush ruleset", "port": 1, "proto": "tcp"}}})
	n.refused("not_found", "sandbox.start", i.ref())
	n.refused("not_found", "sandbox.create", i.sandboxArgs())
	n.refused("not_found", "disk.usage", i.ref())
	n.refused("bad_request", "disk.stats", args{"ids": []string{i.id, "../etc"}})
	n.refused("not_found", "disk.create", args{"id": i.id, "diskMib": 100, "from": "nosuch00"})
	unlimited := i.sandboxArgs()
	delete(unlimited["limits"].(args), "pids")
	n.refused("bad_request", "sandbox.create", unlimited)
	n.inventoryIsEmpty()
}
