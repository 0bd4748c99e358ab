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
	if err := leaveAllBut(root); err != nil {
		return fmt.Errorf("entering the empty root %s: %w", root, err)
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

// leaveAllBut makes a directory the root and lets go of the host's other mounts, of which a new namespace has copies: a disk
// that the host unmounts would else stay in use for as long as a scribe waits.
func leaveAllBut(root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil { // First, or the host would lose them too.
		return fmt.Errorf("keeping its mounts to itself: %w", err)
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("making it a mount: %w", err)
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // The old root now lies over the new one.
		return fmt.Errorf("changing roots: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("letting go of the old root: %w", err)
	}
	return unix.Chdir("/")
}
