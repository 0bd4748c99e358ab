package network

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NetnsDir is where tools look for named network namespaces.
const NetnsDir = "/run/netns"

// shareDirectory makes the directory of named namespaces a shared mount of itself, as the first `ip netns add` on a host does. Were that to
// do it after namespaces had been pinned here, each would be pinned twice, and the lower one could never be unpinned again.
func shareDirectory() error {
	held, err := holdDirectory()
	if err != nil {
		return err
	}
	defer held.Close()
	err = unix.Mount("", NetnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return why(err, "sharing the mount %s", NetnsDir)
	}
	// Not a mount yet. Where somebody has pinned namespaces all the same, it is too late, and hiding them would be worse.
	if entries, err := os.ReadDir(NetnsDir); err != nil || len(entries) > 0 {
		return why(err, "listing %s", NetnsDir)
	}
	if err := unix.Mount(NetnsDir, NetnsDir, "none", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting %s on itself: %w", NetnsDir, err)
	}
	return why(unix.Mount("", NetnsDir, "none", unix.MS_SHARED|unix.MS_REC, ""), "sharing the mount %s", NetnsDir)
}

// leaveDirectory takes that mount away again when nobody has a namespace in it.
func leaveDirectory() error {
	held, err := holdDirectory()
	if err != nil {
		return err
	}
	if entries, err := held.ReadDir(1); len(entries) > 0 {
		return errors.Join(err, held.Close())
	}
	if err := held.Close(); err != nil {
		return err
	}
	if err := unix.Unmount(NetnsDir, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("unmounting %s: %w", NetnsDir, err)
	}
	return nil
}

// holdDirectory takes the lock that `ip netns add` takes while it does the same.
func holdDirectory() (*os.File, error) {
	if err := os.MkdirAll(NetnsDir, 0o755); err != nil {
		return nil, fmt.Errorf("making %s: %w", NetnsDir, err)
	}
	directory, err := os.Open(NetnsDir)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", NetnsDir, err)
	}
	if err := unix.Flock(int(directory.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", NetnsDir, err), directory.Close())
	}
	return directory, nil
}

func why(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
