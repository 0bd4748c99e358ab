package sandbox

import (
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sandboxes are children of a spawner, and become hostd's when that one ends: hostd asks the kernel to be given them,
// since not every host's first process collects what ends. After hostd's own end they are the first process's.

// AdoptOrphans collects ended sandboxes for as long as hostd lives, and never a process that somebody else here waits for.
func (s *Sandboxes) AdoptOrphans(log *slog.Logger) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Warn("ended sandboxes are left to the host's first process to collect", "err", err)
		return
	}
	name := filepath.Base(s.spawners.runsc.Binary)
	if len(name) > 15 {
		name = name[:15] // As much as the kernel keeps of it.
	}
	go func() {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, unix.SIGCHLD)
		again := time.NewTicker(5 * time.Second)
		for {
			s.collect(name)
			select {
			case <-ended:
			case <-again.C:
			}
		}
	}()
}

// collect takes every ended child of that name. Another in front of the queue is about to be taken by whoever started it.
func (s *Sandboxes) collect(name string) {
	for tries := 0; tries < 20; {
		pid := endedChild()
		if pid == 0 {
			return
		}
		if nameOf(pid) == name {
			s.births.bury(pid)
			continue
		}
		tries++
		time.Sleep(time.Millisecond)
	}
}

// endedChild looks without taking; 0 is none.
func endedChild() int {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil {
		return 0
	}
	const pidOffset = 16 // After signo, errno, code and padding on 64-bit machines.
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), pidOffset)))
}

func nameOf(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
