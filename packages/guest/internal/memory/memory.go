// Package memory knows how much memory the instance may use and how much it does.
package memory

import (
	"bytes"
	"os"
	"strconv"
)

// Use is the instance's memory, in bytes.
type Use struct {
	Total     int64
	Available int64
}

// Read takes it from /proc/meminfo, which in gVisor is the sandbox's own.
func Read() (Use, error) {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return Use{}, err
	}
	return Use{Total: field(content, "MemTotal:"), Available: field(content, "MemAvailable:")}, nil
}

// Limit is the memory of the instance in bytes: as configured, or all that the kernel says there is.
func Limit(configuredMib int64) int64 {
	if configuredMib > 0 {
		return configuredMib << 20
	}
	use, err := Read()
	if err != nil {
		return 0 // no /proc: then nothing can be guarded either
	}
	return use.Total
}

// field reads one "Name:   123 kB" line.
func field(content []byte, name string) int64 {
	for line := range bytes.Lines(content) {
		rest, found := bytes.CutPrefix(line, []byte(name))
		if !found {
			continue
		}
		words := bytes.Fields(rest)
		if len(words) == 0 {
			return 0
		}
		kib, err := strconv.ParseInt(string(words[0]), 10, 64)
		if err != nil {
			return 0
		}
		return kib << 10
	}
	return 0
}
