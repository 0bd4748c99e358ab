package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// How a process ended is told once, to whoever collects it; he writes it down in the bundle first. Before that the kernel tells it of the zombie.
func endFile(bundle string, pid int) string { return filepath.Join(bundle, fmt.Sprintf("end.%d", pid)) }

// dyingMax bounds the wait for a process that is on its way out: it has memory to give back, and says only then how it ended.
const dyingMax = time.Second

// endOf a process; nil while it lives, and when none of ours saw its end.
func endOf(pid int, bundle string) *unix.WaitStatus {
	for until := time.Now().Add(dyingMax); isDying(pid) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if end := endOfZombie(pid); end != nil {
		return end
	}
	text, err := os.ReadFile(endFile(bundle, pid))
	if err != nil {
		return nil
	}
	return asStatus(string(text))
}

func endOfZombie(pid int) *unix.WaitStatus {
	fields := statOf(pid)
	if len(fields) <= exitCodeAt || fields[stateAt] != "Z" {
		return nil
	}
	return asStatus(fields[exitCodeAt])
}

func isDying(pid int) bool {
	fields := statOf(pid)
	if len(fields) <= flagsAt || fields[stateAt] == "Z" || fields[stateAt] == "X" {
		return false
	}
	const exiting = 0x4 // PF_EXITING of the kernel's.
	flags, err := strconv.ParseUint(fields[flagsAt], 10, 64)
	return err == nil && flags&exiting != 0
}

func asStatus(text string) *unix.WaitStatus {
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil
	}
	status := unix.WaitStatus(number)
	return &status
}
