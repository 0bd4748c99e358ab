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

// TightenMemory lowers how much memory the group may have, and fails where it has more: v1 refuses such a limit, v2 would
// kill for it.
func (g Group) TightenMemory(memoryMib int64) error {
	if g.h.v2 {
		fits, err := g.SqueezeTo(memoryMib<<20 - slackBytes)
		if err != nil {
			return err
		}
		if !fits {
			return fmt.Errorf("cgroup %s has more than %d MiB", g.name, memoryMib)
		}
	}
	return g.LimitMemory(memoryMib)
}

// slackBytes are for what the group takes between a look at its memory and the new limit.
const slackBytes = 4 << 20

// LimitMemory sets how much memory the group may have, and memory and swap together, anew. It is for raising it; see
// TightenMemory.
func (g Group) LimitMemory(memoryMib int64) error {
	settings := g.memoryLimit(memoryMib << 20)
	if g.h.v2 {
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
