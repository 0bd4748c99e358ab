package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Places in what statOf gives: proc_pid_stat(5) counts from 1, and the state is its third.
const (
	stateAt    = 0
	flagsAt    = 9 - 3
	startAt    = 22 - 3
	exitCodeAt = 52 - 3
)

// statOf are the fields of /proc/pid/stat from the state on; none where there is no such process.
func statOf(pid int) []string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return fieldsAfterName(string(stat))
}

// startTicks is when a process began, in clock ticks since boot: with the pid it names a process for ever. 0 means no such process, or one that only waits to be reaped.
func startTicks(pid int) int64 {
	fields := statOf(pid)
	if len(fields) <= startAt || fields[stateAt] == "Z" || fields[stateAt] == "X" {
		return 0
	}
	ticks, err := strconv.ParseInt(fields[startAt], 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}

// fieldsAfterName begins at the state; the name before it may hold anything.
func fieldsAfterName(stat string) []string {
	return strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
}
