// Package swap gives the host a place for what sleeps: an area made where the host has none, shared by every
// installation on it, made by the first that asks and removed with the last. Swap belongs to the kernel, so all who
// share it go by one directory on a tmpfs: what it tells of is gone after a reboot, and so is the directory.
package swap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Kind of an area.
type Kind string

const (
	// Crypt is a file below dm-crypt, under a key that only the kernel holds and that nobody can have again.
	Crypt Kind = "crypt"
	// Zram is compressed, in RAM.
	Zram Kind = "zram"
	// File is a plain file: tenants' secrets lie readable on the disk.
	File Kind = "file"
	// Host is one that was there already, and is left alone.
	Host Kind = "host"
)

// Ask is what an installation wants. The first of Kinds that this kernel can do is made; none where Kinds is empty.
type Ask struct {
	Kinds   []Kind `json:"kinds"`
	SizeMib int64  `json:"sizeMib"`
}

// Refuse says what is wrong with it.
func (a Ask) Refuse() error {
	for _, kind := range a.Kinds {
		if _, known := makers[kind]; !known {
			return wire.Errorf(wire.BadRequest, `swap kind %q must be "crypt", "zram" or "file"`, kind)
		}
	}
	if len(a.Kinds) > 0 && a.SizeMib < 16 {
		return wire.Errorf(wire.BadRequest, "a swap area of %d MiB cannot be: ask for at least 16", a.SizeMib)
	}
	return nil
}

// Place is where all installations of a host find each other.
type Place struct {
	// Dir is on a tmpfs.
	Dir string
	// File holds an area of kind crypt or file. It outlives a reboot, which leaves nothing of use in it.
	File string
}

// Shared is the place on every host.
var Shared = Place{Dir: "/run/torpor/swap", File: "/var/lib/torpor/.swap"}

// made is what Place.Dir remembers of the area. It is written before there is one to forget.
type made struct {
	Kind Kind `json:"kind"`
	// Device is what the kernel swaps to, and Below what else was made for it, the uppermost first.
	Device string   `json:"device"`
	Below  []string `json:"below,omitempty"`
}

// Join makes an area unless there is one, and has scope hold on to it. RunDir tells later whether scope still exists.
// It says why kinds were passed over.
func (p Place) Join(ctx context.Context, scope names.Scope, runDir string, ask Ask) (passedOver []string, err error) {
	if len(ask.Kinds) == 0 {
		return nil, p.Leave(ctx, scope)
	}
	return passedOver, p.alone(ctx, func() error {
		ours, err := p.ours()
		if err != nil {
			return err
		}
		active, err := devices()
		if err != nil {
			return err
		}
		switch {
		case ours != nil && active[ours.Device]:
			return p.hold(scope, runDir)
		case len(active) > 0:
			return nil // The host has its own.
		}
		if err := p.remove(ours); err != nil {
			return err
		}
		if passedOver, err = p.makeFirst(ask); err != nil {
			return err
		}
		return p.hold(scope, runDir)
	})
}

func (p Place) makeFirst(ask Ask) (passedOver []string, err error) {
	for _, kind := range ask.Kinds {
		if err = p.makeOne(kind, ask.SizeMib<<20); err == nil {
			return passedOver, nil
		}
		passedOver = append(passedOver, fmt.Sprintf("%s: %v", kind, err))
	}
	return nil, wire.Errorf(wire.Unsupported, "this host cannot have a swap area (%s)", strings.Join(passedOver, "; "))
}

func (p Place) makeOne(kind Kind, bytes int64) error {
	area := made{Kind: kind}
	err := makers[kind](p, &area, bytes)
	if err == nil {
		err = swapOn(area.Device)
	}
	if err != nil {
		return errors.Join(err, p.remove(&area))
	}
	return nil
}

// Leave lets scope's hold go, and the area when nobody else holds on.
func (p Place) Leave(ctx context.Context, scope names.Scope) error {
	if _, err := os.Stat(p.Dir); errors.Is(err, os.ErrNotExist) {
		return p.removeFile() // A reboot may have left that.
	}
	return p.alone(ctx, func() error {
		if err := os.Remove(p.holder(scope)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("letting go of the swap area: %w", err)
		}
		held, err := p.isHeld()
		if err != nil || held {
			return err
		}
		ours, err := p.ours()
		if err != nil {
			return err
		}
		if err := p.remove(ours); err != nil {
			return err
		}
		return os.RemoveAll(p.Dir)
	})
}

func (p Place) holder(scope names.Scope) string {
	return filepath.Join(p.Dir, "holder."+string(scope))
}

func (p Place) hold(scope names.Scope, runDir string) error {
	if err := os.WriteFile(p.holder(scope), []byte(runDir), 0o600); err != nil {
		return fmt.Errorf("holding on to the swap area: %w", err)
	}
	return nil
}

// isHeld passes over holders whose run directory is gone: nobody will come to let go for them.
func (p Place) isHeld() (bool, error) {
	holders, err := filepath.Glob(filepath.Join(p.Dir, "holder.*"))
	if err != nil {
		return false, err
	}
	for _, holder := range holders {
		runDir, err := os.ReadFile(holder)
		if err != nil {
			return false, fmt.Errorf("reading who holds on to the swap area: %w", err)
		}
		if _, err := os.Stat(string(runDir)); err == nil {
			return true, nil
		}
	}
	return false, nil
}

func (p Place) areaFile() string { return filepath.Join(p.Dir, "area.json") }

// ours is nil where nothing was made.
func (p Place) ours() (*made, error) {
	text, err := os.ReadFile(p.areaFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what swap area was made: %w", err)
	}
	var area made
	if err := json.Unmarshal(text, &area); err != nil {
		return nil, fmt.Errorf("reading what swap area was made from %s: %w", p.areaFile(), err)
	}
	return &area, nil
}

func (p Place) remember(area *made) error {
	text, err := json.Marshal(area)
	if err != nil {
		return err
	}
	partial := p.areaFile() + ".partial"
	if err := errors.Join(os.WriteFile(partial, text, 0o600), os.Rename(partial, p.areaFile())); err != nil {
		return fmt.Errorf("writing what swap area is made: %w", err)
	}
	return nil
}

// remove ends an area, whole or half made: the kernel brings back what lies in it, or refuses where there is no room.
func (p Place) remove(area *made) error {
	if area == nil {
		return p.removeFile()
	}
	if area.Device != "" {
		if err := swapOff(area.Device); err != nil {
			return err
		}
	}
	for _, below := range area.Below {
		if err := unmake(below); err != nil {
			return err
		}
	}
	if err := p.removeFile(); err != nil {
		return err
	}
	if err := os.Remove(p.areaFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forgetting the swap area: %w", err)
	}
	return nil
}

func (p Place) removeFile() error {
	if err := os.Remove(p.File); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the swap file %s: %w", p.File, err)
	}
	return nil
}

// alone keeps other hostds of this host out meanwhile.
func (p Place) alone(ctx context.Context, act func() error) error {
	if err := os.MkdirAll(p.Dir, 0o711); err != nil {
		return fmt.Errorf("making %s: %w", p.Dir, err)
	}
	path := filepath.Join(filepath.Dir(p.Dir), ".swap.lock") // Beside the directory, which goes.
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer lock.Close()
	for unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		select {
		case <-ctx.Done():
			return wire.Errorf(wire.Busy, "another hostd of this host holds %s", path)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := os.MkdirAll(p.Dir, 0o711); err != nil { // Who had the lock before may have removed it.
		return fmt.Errorf("making %s: %w", p.Dir, err)
	}
	return act()
}
