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
	for _, setting := range g.memoryLimit(memoryMib << 20) {
		if err := setting.apply(); err != nil {
			return err
		}
	}
	return nil
}
