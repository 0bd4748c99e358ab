package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Lean is what a sandbox takes once its guest's memory was paged out, in bytes.
type Lean struct {
	ResidentBytes int64 `json:"residentBytes"`
	// GuestBytes is what of it is the guest's memory.
	GuestBytes   int64 `json:"guestBytes"`
	SwappedBytes int64 `json:"swappedBytes"`
	// GaveWay says that it stopped early, so that there may be more to page out.
	GaveWay bool  `json:"gaveWay"`
	TookUs  int64 `json:"tookUs"`
}

// squeezeStep is how far the limit goes down at once: what waits for the sandbox waits no longer than one takes.
const squeezeStep = 2 << 20

// Lean pages out the guest's memory of a paused and frozen sandbox, and that alone: the kernel around it stays in RAM,
// which is why the wake is quick. It stops where goOn says so, and leaves the sandbox paused and frozen whatever happens.
func (s *Sandboxes) Lean(id names.ID, goOn func() bool) (Lean, error) {
	begin := time.Now()
	h, err := s.handle(id)
	if err != nil {
		return Lean{}, s.goneOr(id, err)
	}
	frozen, err := h.freezer.Frozen()
	if err != nil {
		return Lean{}, s.explained(id, h, err)
	}
	if !frozen {
		return Lean{}, wire.Errorf(wire.BadRequest, "sandbox %s is not paused; only a paused one is paged out", id)
	}
	if err := s.pageOut(id, goOn); err != nil {
		return Lean{}, err
	}
	where, err := s.group(id).Where()
	return Lean{
		ResidentBytes: where.Resident, GuestBytes: where.Shmem, SwappedBytes: where.Swapped,
		GaveWay: !goOn(), TookUs: time.Since(begin).Microseconds(),
	}, err
}

// pageOut writes what limits it changes to a file before it changes them. Whoever finds the file puts them back.
func (s *Sandboxes) pageOut(id names.ID, goOn func() bool) (err error) {
	group := s.group(id)
	bounds, err := group.MemoryBounds()
	if err != nil {
		return err
	}
	if err := s.noteBounds(id, bounds); err != nil {
		return err
	}
	defer func() {
		if backErr := s.putBoundsBack(id); backErr != nil {
			s.dropHandle(id) // Whoever opens the next one tries again.
			err = errors.Join(err, backErr)
		}
	}()
	if err := group.PreferSwap(bounds); err != nil {
		return err
	}
	pids, err := group.Processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := adviseOut(pid, goOn); err != nil {
			return fmt.Errorf("paging out process %d of sandbox %s: %w", pid, id, err)
		}
		forgetUses(pid)
	}
	if err := squeeze(group, goOn); err != nil {
		return err
	}
	return s.Reach("sandbox.lean.squeezed", "after")
}

// squeeze has the kernel let go of the rest of the guest's memory: the advice takes no page that both the sentry and a
// stub map, and leaves copies in RAM of what it has written to a slow swap. Step by step, since each is one call that cannot be cut short.
func squeeze(group cgroup.Group, goOn func() bool) error {
	where, err := group.Where()
	if err != nil {
		return err
	}
	least := where.Resident - where.SwapCached - where.Shmem
	for to := where.Resident; goOn() && to > least; {
		to = max(to-squeezeStep, least)
		if found, err := group.SqueezeTo(to); err != nil || !found {
			return err
		}
	}
	return nil
}

func (s *Sandboxes) boundsFile(id names.ID) string {
	return filepath.Join(s.paths.Bundle(id), "bounds.json")
}

func (s *Sandboxes) noteBounds(id names.ID, bounds cgroup.Bounds) error {
	text, err := json.Marshal(bounds)
	if err != nil {
		return err
	}
	partial := s.boundsFile(id) + ".partial"
	if err := errors.Join(os.WriteFile(partial, text, 0o600), os.Rename(partial, s.boundsFile(id))); err != nil {
		return fmt.Errorf("noting the limits of sandbox %s: %w", id, err)
	}
	return nil
}

// putBoundsBack does nothing where nothing was changed.
func (s *Sandboxes) putBoundsBack(id names.ID) error {
	text, err := os.ReadFile(s.boundsFile(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the limits that sandbox %s had: %w", id, err)
	}
	var bounds cgroup.Bounds
	if err := json.Unmarshal(text, &bounds); err != nil {
		return fmt.Errorf("reading the limits that sandbox %s had from %s: %w", id, s.boundsFile(id), err)
	}
	if err := s.group(id).PutBack(bounds); err != nil {
		return err
	}
	if err := os.Remove(s.boundsFile(id)); err != nil {
		return fmt.Errorf("forgetting the limits that sandbox %s had: %w", id, err)
	}
	return nil
}
