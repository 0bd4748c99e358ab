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

// LimitMemory sets how much memory the group may have, anew. Below what it has, the kernel may refuse.
func (g Group) LimitMemory(memoryMib int64) error {
	file := "memory.limit_in_bytes"
	if g.h.v2 {
		file = "memory.max"
	}
	return setting{filepath.Join(g.Path("memory"), file), strconv.FormatInt(memoryMib<<20, 10), false}.apply()
}
