// Package lock lets one verb at a time act on an instance, within this process and across a change of it: the file
// lock is shared with every process that carries part of a verb out, so a successor waits for what a killed hostd's
// children still finish.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Locks are the locks of one scope.
type Locks struct {
	paths names.Paths
	mutex sync.Mutex
	turns map[string]*turn
}

// turn is a mutex that can be waited for with a deadline; it is forgotten when nobody waits.
type turn struct {
	taken   chan struct{}
	waiting int // Whoever has it counts too.
}

// New keeps its files below paths.Locks().
func New(paths names.Paths) *Locks { return &Locks{paths: paths, turns: map[string]*turn{}} }

// Held is a lock in force. File may be given to a child, which then holds it too.
type Held struct {
	File    *os.File
	release func()
	path    string
	wanted  func() bool
}

// IsWanted says that somebody in this process waits for the lock.
func (h *Held) IsWanted() bool { return h.wanted() }

// Take waits until name is free, or until ctx ends: then the error is busy.
func (l *Locks) Take(ctx context.Context, name string) (*Held, error) {
	turn := l.join(name)
	select {
	case turn.taken <- struct{}{}:
	case <-ctx.Done():
		l.leave(name, turn)
		return nil, wire.Errorf(wire.Busy, "another verb on %s did not end in time", name)
	}
	release := func() { <-turn.taken; l.leave(name, turn) }
	file, err := takeFile(ctx, l.paths.Lock(name))
	if err != nil {
		release()
		return nil, err
	}
	wanted := func() bool {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		return turn.waiting > 1
	}
	return &Held{File: file, release: release, path: l.paths.Lock(name), wanted: wanted}, nil
}

func (l *Locks) join(name string) *turn {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.turns[name] == nil {
		l.turns[name] = &turn{taken: make(chan struct{}, 1)}
	}
	l.turns[name].waiting++
	return l.turns[name]
}

func (l *Locks) leave(name string, turn *turn) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if turn.waiting--; turn.waiting == 0 {
		delete(l.turns, name)
	}
}

// takeFile polls, since a blocking flock cannot be given a deadline; only a predecessor's children are ever waited for.
func takeFile(ctx context.Context, path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening the lock %s: %w", path, err)
		}
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isStillAt(file, path) {
			return file, nil
		}
		file.Close()
		if err == nil {
			continue // It was deleted between our opening and locking it.
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, wire.Errorf(wire.Busy, "what an earlier hostd began still holds %s", path)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func isStillAt(file *os.File, path string) bool {
	held, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(held, there)
}

// Leave has a child that was given the file hold the lock no longer: what it still does concerns no other verb.
func (h *Held) Leave() error {
	if err := unix.Flock(int(h.File.Fd()), unix.LOCK_UN); err != nil {
		return fmt.Errorf("unlocking %s: %w", h.path, err)
	}
	return nil
}

// Release lets the next one in.
func (h *Held) Release() {
	h.File.Close()
	h.release()
}

// Forget deletes the lock's file while it is held: an instance that is gone leaves nothing behind.
func (h *Held) Forget() error {
	if err := os.Remove(h.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the lock %s: %w", h.path, err)
	}
	return nil
}
