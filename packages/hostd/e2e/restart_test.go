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
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
	n.refused("host_error", "node.usage", args{})
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
