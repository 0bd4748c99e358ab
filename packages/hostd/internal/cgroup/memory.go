package cgroup

import (
	"path/filepath"
	"strconv"
)

// memoryLimit is what bounds a group's memory, on a host with swap too: there a group at its limit would else go on in
// swap, take all of it, and keep the host's disk busy. On v1 memory and swap together end where memory does, on v2 there
// is no swap for the group. Both files are missing where the kernel does not account for swap.
func (g Group) memoryLimit(bytes int64) []setting {
	limit := strconv.FormatInt(bytes, 10)
	at := func(file string) string { return filepath.Join(g.Path("memory"), file) }
	if g.h.v2 {
		return []setting{{at("memory.swap.max"), "0", true}, {at("memory.max"), limit, false}}
	}
	// The kernel refuses a limit of both that is below that of memory, so the former is out of the way while the latter rises or falls.
	return []setting{
		{at("memory.memsw.limit_in_bytes"), "-1", true},
		{at("memory.limit_in_bytes"), limit, false},
		{at("memory.memsw.limit_in_bytes"), limit, true},
	}
}
