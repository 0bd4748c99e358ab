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
	SwapMib    int64
	CPUUsageNs int64
	Pids       int64
}

// Usage reads the accounting files; a group that does not exist has used nothing.
func (g Group) Usage() (Usage, error) {
	cpu, err := g.CPUUsageNs()
	if err != nil {
		return Usage{}, err
	}
	memoryFile := "memory.usage_in_bytes"
	if g.h.v2 {
		memoryFile = "memory.current"
	}
	memory, err := readNumber(filepath.Join(g.Path("memory"), memoryFile))
	if err != nil {
		return Usage{}, err
	}
	pids, err := readNumber(filepath.Join(g.Path("pids"), "pids.current"))
	if err != nil {
		return Usage{}, err
	}
	swapped, err := g.swapped()
	if err != nil {
		return Usage{}, err
	}
	return Usage{MemoryMib: memory >> 20, SwapMib: swapped >> 20, CPUUsageNs: cpu, Pids: pids}, nil
}

// Strikes are how often the kernel struck a group for want of something: since it was made, and deadly or not.
type Strikes struct {
	OOMKills    int64 `json:"oomKills"`
	PidsRefused int64 `json:"pidsRefused"`
}

// Strikes of a group; one that does not exist was never struck.
func (g Group) Strikes() (Strikes, error) {
	memoryFile := "memory.oom_control"
	if g.h.v2 {
		memoryFile = "memory.events"
	}
	killed, err := readKey(filepath.Join(g.Path("memory"), memoryFile), "oom_kill")
	if err != nil {
		return Strikes{}, err
	}
	refused, err := readKey(filepath.Join(g.Path("pids"), "pids.events"), "max")
	return Strikes{OOMKills: killed, PidsRefused: refused}, err
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
