//go:build host

package cgroup

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Limits rise and fall, and the kernel takes each step: at all times memory and swap together end where memory does.
func TestTheMemoryLimitHoldsWithSwap(t *testing.T) {
	h, err := Detect(Root)
	if err != nil {
		t.Fatal(err)
	}
	group := h.Group("torpor-e2fffe", "inst0001")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := group.Remove(ctx); err != nil {
			t.Error(err)
		}
		if err := h.RemoveParent(ctx, "torpor-e2fffe"); err != nil {
			t.Error(err)
		}
	})
	steps := []struct {
		mib int64
		set func(mib int64) error
	}{
		{64, func(mib int64) error { return group.Create(Limits{MemoryMib: mib, Cpus: 1, Pids: 100}) }},
		{128, func(mib int64) error { return group.Create(Limits{MemoryMib: mib, Cpus: 1, Pids: 100}) }},
		{32, func(mib int64) error { return group.Create(Limits{MemoryMib: mib, Cpus: 1, Pids: 100}) }},
		{96, group.LimitMemory}, // As while it is saved, which wants room of its own,
		{32, group.LimitMemory}, // and as after it.
	}
	for _, step := range steps {
		mib := step.mib
		if err := step.set(mib); err != nil {
			t.Fatalf("a limit of %d MiB: %v", mib, err)
		}
		if err := group.LimitMemory(2 * mib); err != nil {
			t.Fatalf("a limit of %d MiB made twice that: %v", mib, err)
		}
		if err := group.LimitMemory(mib); err != nil {
			t.Fatalf("back to a limit of %d MiB: %v", mib, err)
		}
		limit := strconv.FormatInt(mib<<20, 10)
		want := map[string]string{"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
		if h.v2 {
			want = map[string]string{"memory.max": limit, "memory.swap.max": "0"}
		}
		for file, value := range want {
			text, err := os.ReadFile(filepath.Join(group.Path("memory"), file))
			if os.IsNotExist(err) {
				continue // This kernel does not account for swap.
			}
			if err != nil || strings.TrimSpace(string(text)) != value {
				t.Errorf("with a limit of %d MiB %s is %q, want %s (%v)", mib, file, text, value, err)
			}
		}
	}
}
