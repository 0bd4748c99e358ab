//go:build host

package e2e

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
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
	a.refused("host_error", "disk.create", inA.diskArgs())
	a.must("node.prepare", a.prepare)
	a.up(0).answers()
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
