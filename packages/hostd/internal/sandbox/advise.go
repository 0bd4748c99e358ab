package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// guestMemory is the file that gVisor keeps its guests' memory in. Sentry and stubs map parts of it.
const guestMemory = "memfd:runsc-memory"

// adviseBytes is how much is paged out between two looks at whether to go on.
const adviseBytes = 2 << 20

// span of addresses.
type span struct{ from, to uint64 }

// adviseOut has the kernel write what a process maps of its guest's memory to swap. A process that is gone has nothing.
func adviseOut(pid int, goOn func() bool) error {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer maps.Close()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		whole, is := guestSpan(lines.Text())
		for from := whole.from; is && from < whole.to; from += adviseBytes {
			if !goOn() {
				return nil
			}
			if err := pageOutSpan(pidfd, span{from, min(from+adviseBytes, whole.to)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// guestSpan reads a line of /proc/<pid>/maps.
func guestSpan(line string) (span, bool) {
	if !strings.Contains(line, guestMemory) {
		return span{}, false
	}
	addresses, _, _ := strings.Cut(line, " ")
	first, last, _ := strings.Cut(addresses, "-")
	from, fromErr := strconv.ParseUint(first, 16, 64)
	to, toErr := strconv.ParseUint(last, 16, 64)
	return span{from, to}, fromErr == nil && toErr == nil
}

func pageOutSpan(pidfd int, s span) error {
	vector := struct{ base, length uint64 }{s.from, s.to - s.from} // An iovec; its addresses are another process's, so no pointers of ours.
	_, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(pidfd), uintptr(unsafe.Pointer(&vector)), 1, unix.MADV_PAGEOUT, 0, 0)
	runtime.KeepAlive(&vector)
	if errno != 0 && errno != unix.ESRCH && errno != unix.ENOMEM { // It ended, or has given that part up meanwhile.
		return fmt.Errorf("process_madvise: %w", errno)
	}
	return nil
}

// forgetUses makes the guest's memory look long unused, and so be the first to go in a squeeze: the kernel forgets what the
// process has used of the files it maps. What is the sentry's own is no file, and stays as recently used as it is. Where
// the kernel cannot do that, the squeeze takes from both.
func forgetUses(pid int) {
	const ofMappedFiles = "3"
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(ofMappedFiles), 0)
}
