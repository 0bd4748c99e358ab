package network

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// NetnsDir is where tools look for named network namespaces.
const NetnsDir = "/run/netns"

// inDirectory runs act with the directory of named namespaces as a shared mount of itself, as the first `ip netns add` on a host makes it. Were that
// to do it after namespaces had been pinned here, each would be pinned twice, and the lower one could never be unpinned again.
func inDirectory(act func() error) error {
	return inTurn(func() error {
		if err := shareDirectory(); err != nil {
			return err
		}
		return act()
	})
}

func shareDirectory() error {
	if err := os.MkdirAll(NetnsDir, 0o755); err != nil {
		return fmt.Errorf("making %s: %w", NetnsDir, err)
	}
	// The lock that `ip netns add` takes while it does the same.
	return locked(NetnsDir, func() error {
		err := unix.Mount("", NetnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
		if !errors.Is(err, unix.EINVAL) {
			return why(err, "sharing the mount %s", NetnsDir)
		}
		// Not a mount yet. Where somebody has pinned namespaces all the same, it is too late, and hiding them would be worse.
		entries, err := os.ReadDir(NetnsDir)
		if err != nil {
			return fmt.Errorf("listing %s: %w", NetnsDir, err)
		}
		for _, entry := range entries {
			if isNetns(filepath.Join(NetnsDir, entry.Name())) {
				return nil
			}
		}
		if err := unix.Mount(NetnsDir, NetnsDir, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting %s on itself: %w", NetnsDir, err)
		}
		return why(unix.Mount("", NetnsDir, "none", unix.MS_SHARED|unix.MS_REC, ""), "sharing the mount %s", NetnsDir)
	})
}

// leaveDirectory takes that mount away again when nobody has a namespace in it.
func leaveDirectory() error {
	return inTurn(func() error {
		entries, err := os.ReadDir(NetnsDir)
		if errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing %s: %w", NetnsDir, err)
		}
		// Busy is what somebody pins a namespace in at this moment.
		if err := unix.Unmount(NetnsDir, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("unmounting %s: %w", NetnsDir, err)
		}
		return nil
	})
}

// inTurn keeps the hostds of a host from taking the mount away while another is about to pin in it. The lock lies outside: an open file inside would
// keep it mounted.
func inTurn(act func() error) error { return locked(filepath.Dir(NetnsDir), act) }

func locked(path string, act func() error) error {
	directory, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer directory.Close()
	if err := unix.Flock(int(directory.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	return act()
}

func why(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}
