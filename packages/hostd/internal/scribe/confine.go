package scribe

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobodys is an account that owns nothing and runs nothing else; the one named nobody is that of gVisor's own processes.
const nobodys = 0x7fff0001

// confine gives up everything a scribe does not need, for good. It was started as root in namespaces of its own.
func confine(root string) error {
	for _, limit := range []struct {
		what int
		most uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 64}} {
		if err := unix.Setrlimit(limit.what, &unix.Rlimit{Cur: limit.most, Max: limit.most}); err != nil {
			return fmt.Errorf("limiting the scribe: %w", err)
		}
	}
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("entering the empty root %s: %w", root, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("entering the empty root: %w", err)
	}
	// These three reach every thread, unlike the bare system calls.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leaving root's groups: %w", err)
	}
	if err := syscall.Setgid(nobodys); err != nil {
		return fmt.Errorf("leaving root's group: %w", err)
	}
	if err := syscall.Setuid(nobodys); err != nil {
		return fmt.Errorf("leaving root's account: %w", err)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("renouncing new privileges: %w", errno)
	}
	return nil
}
