package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Usage is what a group has used so far and uses now.
type Usage struct {
	MemoryMib  int64
	CPUUsageNs int64
	Pids       int64
	OOMKills   int64
}

// Usage reads the accounting files; a group that does not exist has used nothing.
func (g Group) Usage() (Usage, error) {
	cpu, err := g.CPUUsageNs()
	if err != nil {
		return Usage{}, err
	}
	memoryFile, oomFile, oomKey := "memory.usage_in_bytes", "memory.oom_control", "oom_kill"
	if g.h.v2 {
		memoryFile, oomFile = "memory.current", "memory.events"
	}
	memory, err := readNumber(filepath.Join(g.Path("memory"), memoryFile))
	if err != nil {
		return Usage{}, err
	}
	pids, err := readNumber(filepath.Join(g.Path("pids"), "pids.current"))
	if err != nil {
		return Usage{}, err
	}
	oomKills, err := readKey(filepath.Join(g.Path("memory"), oomFile), oomKey)
	if err != nil {
		return Usage{}, err
	}
	return Usage{MemoryMib: memory >> 20, CPUUsageNs: cpu, Pids: pids, OOMKills: oomKills}, nil
}

// CPUUsageNs is the processor time of all processes that were ever in the group.
func (g Group) CPUUsageNs() (int64, error) {
	if !g.h.v2 {
		return readNumber(filepath.Join(g.Path("cpuacct"), "cpuacct.usage"))
	}
	us, err := readKey(filepath.Join(g.Path(""), "cpu.stat"), "usage_usec")
	return us * 1000, err
}

func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	number, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading a number from %s: %w", path, err)
	}
	return number, nil
}

func readKey(path, key string) (int64, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", path, err)
	}
	return keyed(string(text), key)
}

// keyed finds "key number" in a flat keyed file; a key the kernel does not list counts nothing.
func keyed(text, key string) (int64, error) {
	for _, line := range strings.Split(text, "\n") {
		name, value, ok := strings.Cut(line, " ")
		if ok && name == key {
			return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		}
	}
	return 0, nil
}
