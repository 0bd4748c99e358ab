//go:build host

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withZram gives the host a swap area for as long as the node is there. A host that has swap of its own keeps to that.
func withZram(sizeMib int) func(prepare map[string]any) {
	return func(prepare map[string]any) {
		prepare["swap"] = map[string]any{"kinds": []string{"zram"}, "sizeMib": sizeMib}
	}
}

func (n *node) swap() map[string]any {
	n.t.Helper()
	return n.must("node.usage", args{})["swap"].(map[string]any)
}

func (i instance) leanArgs() args { return args{"id": i.id, "budgetMs": 2_000} }

func (i instance) leanAll() map[string]any {
	i.n.t.Helper()
	for {
		lean := i.n.must("sandbox.lean", i.leanArgs())
		if lean["gaveWay"] != true {
			return lean
		}
	}
}

const mib = 1 << 20

// The memory is random, so what comes back is what went; it is zram's to find room for it.
func TestALeanSandboxLeavesItsMemoryAndWakesWithAllOfIt(t *testing.T) {
	n := newNode(t, withZram(1024))
	i := n.up(0, func(sandbox args) { sandbox["limits"].(args)["memoryMib"] = 512 })
	before := i.mustGet("/random", map[string]string{"mib": "100"})
	n.refused("bad_request", "sandbox.lean", i.leanArgs())
	n.must("sandbox.pause", i.ref())
	awake := i.state()["memoryMib"].(float64)
	for round := range 3 {
		begin := time.Now()
		lean := i.leanAll()
		t.Logf("round %d: %v of %v MiB, in %v", round, lean, awake, time.Since(begin))
		if resident := lean["residentBytes"].(float64) / mib; resident > awake*0.15+14 {
			t.Errorf("round %d: %.0f of %.0f MiB are still in RAM", round, resident, awake)
		}
		if swapped := lean["swappedBytes"].(float64) / mib; swapped < 100 {
			t.Errorf("round %d: %.0f MiB are in swap", round, swapped)
		}
		if state := i.state(); state["frozen"] != true || state["runsc"] != "paused" {
			t.Errorf("it is %v", state)
		}
		begin = time.Now()
		n.must("sandbox.resume", i.ref())
		i.answers()
		t.Logf("round %d: answers after %v", round, time.Since(begin))
		if after := i.mustGet("/hash", nil); after != before {
			t.Fatalf("round %d: the memory has changed", round)
		}
		n.must("sandbox.pause", i.ref())
	}
}

// A disk takes its time to write: what was written stays in RAM besides, until the squeeze takes it.
func TestASwapFileTakesTheMemoryTooAndIsGoneWithItsInstallation(t *testing.T) {
	n := newNode(t)
	if total := n.swap()["totalMib"].(float64); total > 0 {
		t.Skipf("this host has %v MiB of swap already", total)
	}
	n.prepare["swap"] = map[string]any{"kinds": []string{"crypt", "file"}, "sizeMib": 512}
	prepared := n.must("node.prepare", n.prepare)
	area := n.swap()["areas"].([]any)[0].(map[string]any)
	if _, err := os.Stat("/dev/mapper/control"); err != nil {
		if trouble, _ := prepared["swapTrouble"].([]any); len(trouble) != 1 || !strings.Contains(trouble[0].(string), "crypt: the kernel has no device-mapper") {
			t.Errorf("why there is no encrypted one: %v", trouble)
		}
		if area["kind"] != "file" || area["atRest"] == "encrypted" {
			t.Errorf("the area is %v", area)
		}
	} else if area["kind"] != "crypt" || area["atRest"] != "encrypted" {
		t.Errorf("the area is %v", area)
	}
	i := n.up(0, func(sandbox args) { sandbox["limits"].(args)["memoryMib"] = 512 })
	before := i.mustGet("/random", map[string]string{"mib": "100"})
	n.must("sandbox.pause", i.ref())
	awake := i.state()["memoryMib"].(float64)
	n.eventually("the memory is on the disk", 30*time.Second, func() error {
		if lean := i.leanAll(); lean["residentBytes"].(float64)/mib > awake*0.15+14 {
			return fmt.Errorf("of %v MiB: %v", awake, lean)
		}
		return nil
	})
	n.must("sandbox.resume", i.ref())
	if after := i.mustGet("/hash", nil); after != before {
		t.Error("the memory has changed")
	}
	n.must("host.purge", args{})
	if _, err := os.Stat("/var/lib/torpor/.swap"); err == nil {
		t.Error("the swap file is left")
	}
}

func (n *node) limit(i instance) string {
	n.t.Helper()
	for _, path := range []string{
		"/sys/fs/cgroup/memory/torpor-" + n.scope + "/" + i.id + "/memory.limit_in_bytes",
		"/sys/fs/cgroup/torpor-" + n.scope + "/" + i.id + "/memory.swap.max",
	} {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	n.t.Fatal("the sandbox has no memory limit")
	return ""
}

// A hostd that dies while the limit is down leaves a sandbox that would be killed at its first breath.
func TestTheNextHostdPutsTheLimitBack(t *testing.T) {
	n := newNode(t, withZram(512))
	i := n.up(0)
	before := i.mustGet("/random", map[string]string{"mib": "50"})
	limit := n.limit(i)
	n.must("sandbox.pause", i.ref())
	n.kill()
	n.start("TORPOR_FAILPOINTS=sandbox.lean.squeezed:after=exit")
	if _, err := n.client.ask("sandbox.lean", i.leanArgs()); err == nil {
		t.Fatal("hostd lived through its failpoint")
	}
	<-n.exited
	n.start()
	n.must("sandbox.resume", i.ref())
	if now := n.limit(i); now != limit {
		t.Errorf("the limit was %s and is %s", limit, now)
	}
	if after := i.mustGet("/hash", nil); after != before {
		t.Error("the memory has changed")
	}
	if left, _ := filepath.Glob(filepath.Join(n.dir, "run", "bundles", i.id, "bounds.json*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// Who asks for the sandbox does not wait for what is still to be paged out.
func TestAPageOutGivesWayToAWake(t *testing.T) {
	n := newNode(t, withZram(1024))
	i := n.up(0, func(sandbox args) { sandbox["limits"].(args)["memoryMib"] = 512 })
	before := i.mustGet("/random", map[string]string{"mib": "200"})
	for {
		n.must("sandbox.pause", i.ref())
		inSwap := i.swapMib()
		lean := make(chan map[string]any, 1)
		own, err := dialHostd(filepath.Join(n.dir, "run", "hostd.sock"))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer own.connection.Close()
			answer, _ := own.ask("sandbox.lean", i.leanArgs())
			lean <- answer
		}()
		n.eventually("something is paged out", 10*time.Second, func() error {
			if now := i.swapMib(); now <= inSwap {
				return fmt.Errorf("%v MiB are in swap", now)
			}
			return nil
		})
		n.must("sandbox.resume", i.ref())
		answer := <-lean
		if after := i.mustGet("/hash", nil); after != before {
			t.Fatal("the memory has changed")
		}
		if answer == nil {
			t.Fatal("the page-out failed")
		}
		if answer["gaveWay"] == true {
			if swapped := answer["swappedBytes"].(float64) / mib; swapped > 150 {
				t.Errorf("it gave way only after %.0f MiB", swapped)
			}
			return
		} // Else this machine was too quick, or too slow to ask; again.
	}
}

func (i instance) swapMib() float64 {
	i.n.t.Helper()
	return i.n.must("sandbox.stats", args{"ids": []string{i.id}})[i.id].(map[string]any)["swapMib"].(float64)
}

func TestWithoutSwapOrRoomInItASandboxStaysPausedAndWhole(t *testing.T) {
	n := newNode(t)
	if total := n.swap()["totalMib"].(float64); total > 0 {
		t.Skipf("this host has %v MiB of swap already", total)
	}
	i := n.up(0)
	before := i.mustGet("/random", map[string]string{"mib": "50"})
	n.must("sandbox.pause", i.ref())
	n.refused("unsupported", "sandbox.lean", i.leanArgs())
	withZram(24)(n.prepare)
	n.must("node.prepare", n.prepare)
	n.refused("no_space", "sandbox.lean", i.leanArgs())
	if state := i.state(); state["frozen"] != true || state["runsc"] != "paused" {
		t.Errorf("it is %v", state)
	}
	n.must("sandbox.resume", i.ref())
	if after := i.mustGet("/hash", nil); after != before {
		t.Error("the memory has changed")
	}
	n.must("sandbox.delete", i.ref())
	n.prepare["swap"] = map[string]any{"kinds": []string{}, "sizeMib": 0}
	n.must("node.prepare", n.prepare)
	if total := n.swap()["totalMib"].(float64); total != 0 {
		t.Errorf("%v MiB of swap are left", total)
	}
}

// Two installations share one area: it goes with the last, and with it the device.
func TestASwapAreaIsThereForAllAndGoesWithTheLast(t *testing.T) {
	if had, err := os.ReadFile("/proc/swaps"); err != nil || strings.Count(string(had), "\n") > 1 {
		t.Skipf("NOT TESTED: this host has swap already, its own or another installation's: %s %v", had, err)
	}
	first := newNode(t, withZram(64))
	areas := first.swap()["areas"].([]any)
	if len(areas) != 1 || areas[0].(map[string]any)["kind"] != "zram" {
		t.Fatalf("the area is none: %v", areas)
	}
	if area := areas[0].(map[string]any); area["atRest"] != "memory" || area["sizeMib"].(float64) < 60 {
		t.Errorf("the area is %v", area)
	}
	device := areas[0].(map[string]any)["device"].(string)
	second := newNode(t, withZram(128))
	if shared := second.swap()["areas"].([]any); len(shared) != 1 || shared[0].(map[string]any)["device"] != device {
		t.Errorf("the second has %v", shared)
	}
	first.must("host.purge", args{})
	if left := second.swap()["areas"].([]any); len(left) != 1 {
		t.Errorf("the second still needs it, and has %v", left)
	}
	second.kill()
	second.start() // Remembered by the host, not by hostd.
	second.must("host.purge", args{})
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil || strings.Contains(string(swaps), device) {
		t.Errorf("the area is left: %s %v", swaps, err)
	}
	for _, left := range []string{"/sys/block/" + filepath.Base(device), "/run/torpor/swap"} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}
