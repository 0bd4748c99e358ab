//go:build host

package cgroup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Hosts with the hybrid layout have a v2 tree too, without controllers but with the freezer: so both are tried for real.
func TestFreezingStopsABusyProcessOnBothLayouts(t *testing.T) {
	layouts := map[string]Hierarchy{}
	if h, err := Detect(Root); err == nil {
		layouts[h.Version()] = h
	}
	for _, v2 := range []string{Root, Root + "/unified"} {
		if _, err := os.Stat(v2 + "/cgroup.subtree_control"); err == nil {
			layouts["v2"] = Hierarchy{root: v2, v2: true}
		}
	}
	for version, h := range layouts {
		t.Run(version, func(t *testing.T) { freezes(t, h) })
	}
}

func freezes(t *testing.T, h Hierarchy) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	group := h.Group("torpor-e2ffff", "inst0001")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(group.KillAll(ctx), group.Remove(ctx), h.RemoveParent(ctx, "torpor-e2ffff")); err != nil {
			t.Error(err)
		}
	})
	for _, directory := range group.directories() {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busy := exec.Command("sh", "-c", "while :; do :; done")
	if err := busy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Process.Kill(); busy.Wait() })
	if err := writeExisting(filepath.Join(group.Path("freezer"), "cgroup.procs"), strconv.Itoa(busy.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	freezer, err := group.OpenFreezer()
	if err != nil {
		t.Fatal(err)
	}
	defer freezer.Close()
	for range 3 {
		if err := freezer.Freeze(ctx); err != nil {
			t.Fatal(err)
		}
		before := ran(t, busy.Process.Pid)
		for until := time.Now().Add(150 * time.Millisecond); time.Now().Before(until); {
			if now := ran(t, busy.Process.Pid); now != before {
				t.Fatalf("a frozen process went on: %q, then %q", before, now)
			}
		}
		if err := freezer.Thaw(ctx); err != nil {
			t.Fatal(err)
		}
		for ran(t, busy.Process.Pid) == before {
			if ctx.Err() != nil {
				t.Fatal("a thawed process does not go on")
			}
		}
	}
}

// ran is how long the process has been on a processor, to the nanosecond.
func ran(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
