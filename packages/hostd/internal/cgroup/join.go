package cgroup

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// JoinMemory has what a process touches from now on counted as the group's memory, and bounded by its limit.
func (g Group) JoinMemory(pid int) error {
	if err := writeExisting(filepath.Join(g.Path("memory"), "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		return fmt.Errorf("moving process %d to cgroup %s: %w", pid, g.name, err)
	}
	return nil
}

// LimitMemory sets how much memory the group may have, and memory and swap together, anew. Below what it has is refused:
// by version 1 itself, and by us for version 2, which would kill for it.
func (g Group) LimitMemory(memoryMib int64) error {
	settings := g.memoryLimit(memoryMib << 20)
	if g.h.v2 {
		has, err := readNumber(filepath.Join(g.Path("memory"), "memory.current"))
		if err != nil {
			return err
		}
		if has > memoryMib<<20 {
			return fmt.Errorf("cgroup %s has %d MiB of memory and cannot be limited to %d", g.name, has>>20, memoryMib)
		}
		return applyAll(settings)
	}
	// Both together may at no time be less than memory alone, so they fall after it and rise before it. Unlike in a group that
	// is being made, they are not set free in between: the kernel may refuse the second step.
	both, memory := settings[2], settings[1]
	if applyAll([]setting{memory, both}) == nil {
		return nil
	}
	return applyAll([]setting{both, memory})
}
