package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Freezer holds a group's freezer file open, so that a thaw is one write.
type Freezer struct {
	control *os.File
	events  *os.File // v2 only: the kernel's own word lies in another file than the order.
}

// OpenFreezer fails with os.ErrNotExist when the group is not there.
func (g Group) OpenFreezer() (*Freezer, error) {
	if !g.h.v2 {
		control, err := os.OpenFile(filepath.Join(g.Path("freezer"), "freezer.state"), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("opening the freezer of cgroup %s: %w", g.name, err)
		}
		return &Freezer{control: control}, nil
	}
	control, err := os.OpenFile(filepath.Join(g.Path(""), "cgroup.freeze"), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the freezer of cgroup %s: %w", g.name, err)
	}
	events, err := os.Open(filepath.Join(g.Path(""), "cgroup.events"))
	if err != nil {
		control.Close()
		return nil, fmt.Errorf("opening the events of cgroup %s: %w", g.name, err)
	}
	return &Freezer{control: control, events: events}, nil
}

// Close lets the files go.
func (f *Freezer) Close() {
	f.control.Close()
	if f.events != nil {
		f.events.Close()
	}
}

// Freeze returns when the kernel says that every task stands still.
func (f *Freezer) Freeze(ctx context.Context) error { return f.turn(ctx, true) }

// Thaw returns when the kernel says that the tasks may run.
func (f *Freezer) Thaw(ctx context.Context) error { return f.turn(ctx, false) }

func (f *Freezer) turn(ctx context.Context, frozen bool) error {
	order := map[bool]string{true: "FROZEN", false: "THAWED"}[frozen]
	if f.events != nil {
		order = map[bool]string{true: "1", false: "0"}[frozen]
	}
	if err := f.write(order); err != nil {
		return fmt.Errorf("writing %s to the freezer: %w", order, err)
	}
	for try := 0; ; try++ {
		is, err := f.Frozen()
		if err != nil {
			return err
		}
		if is == frozen {
			return nil
		}
		if err := f.pause(ctx, try); err != nil {
			return fmt.Errorf("waiting for the kernel to say %s: %w", order, err)
		}
		// A v1 freezer stays FREEZING when a task was forked meanwhile; asking again makes it look again.
		if f.events == nil && frozen && try%20 == 19 {
			if err := f.write(order); err != nil {
				return fmt.Errorf("writing %s to the freezer again: %w", order, err)
			}
		}
	}
}

// pause spins a little first: the usual wait is some tens of microseconds, less than any timer.
func (f *Freezer) pause(ctx context.Context, try int) error {
	if try < 10 && ctx.Err() == nil {
		runtime.Gosched()
		return nil
	}
	return sleep(ctx, 100*time.Microsecond)
}

func (f *Freezer) write(value string) error {
	_, err := unix.Pwrite(int(f.control.Fd()), []byte(value), 0)
	return err
}

// Frozen is the kernel's word: FREEZING is not frozen.
func (f *Freezer) Frozen() (bool, error) {
	var buffer [256]byte
	file := f.control
	if f.events != nil {
		file = f.events
	}
	n, err := unix.Pread(int(file.Fd()), buffer[:], 0)
	if errors.Is(err, unix.ENODEV) {
		return false, fmt.Errorf("reading the freezer: the cgroup is gone: %w", os.ErrNotExist)
	}
	if err != nil {
		return false, fmt.Errorf("reading the freezer: %w", err)
	}
	return saysFrozen(buffer[:n], f.events != nil), nil
}

func saysFrozen(text []byte, v2 bool) bool {
	if v2 {
		return bytes.Contains(text, []byte("frozen 1"))
	}
	return bytes.Equal(bytes.TrimSpace(text), []byte("FROZEN"))
}
