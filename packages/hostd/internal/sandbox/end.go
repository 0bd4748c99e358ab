package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/container"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Kill ends every process of a sandbox, thawing it first: frozen processes of cgroup v1 do not die. The record stays, and says stopped.
func (s *Sandboxes) Kill(ctx context.Context, id names.ID) error {
	s.dropHandle(id)
	group := s.group(id)
	if !group.Exists() {
		return nil
	}
	pids, err := group.Processes()
	if err != nil {
		return err
	}
	if err := s.markKilled(id); err != nil {
		return err
	}
	if err := signalAll(pids); err != nil {
		return err
	}
	freezer, err := group.OpenFreezer()
	if err == nil {
		defer freezer.Close()
		err = freezer.Thaw(ctx)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := group.KillAll(ctx); err != nil {
		return wire.Errorf(wire.Deadline, "killing sandbox %s: %w", id, err)
	}
	if !s.startIsOver(ctx, id) {
		return wire.Errorf(wire.Deadline, "sandbox %s was killed, but its start has not noticed in time", id)
	}
	return nil
}

// signalAll comes before the thaw, so that nothing of a frozen sandbox runs again.
func signalAll(pids []int) error {
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("killing process %d: %w", pid, err)
		}
	}
	return nil
}

// Delete removes every trace of a sandbox but its disk and network; what is gone already is no error.
func (s *Sandboxes) Delete(ctx context.Context, id names.ID) error {
	if err := s.Kill(ctx, id); err != nil {
		return err
	}
	if err := s.group(id).Remove(ctx); err != nil {
		return err
	}
	if err := unmountRootfs(s.paths.Rootfs(id)); err != nil {
		return err
	}
	socket := filepath.Join(s.paths.RunscRoot(), "runsc-"+string(id)+".sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the control socket of %s: %w", id, err)
	}
	record := container.StateFile{RootDir: s.paths.RunscRoot(), ID: fullID(id)}
	if err := record.Destroy(); err != nil {
		return fmt.Errorf("removing runsc's record of %s: %w", id, err)
	}
	s.births.forget(s.paths.Bundle(id))
	if err := removeBundle(s.paths.Bundle(id)); err != nil {
		return fmt.Errorf("removing the bundle of %s: %w", id, err)
	}
	return nil
}

// removeBundle never descends into the root's mount point, which must be an empty directory by now. It looks again when whoever collects ended
// processes has just written down there how one ended.
func removeBundle(bundle string) error {
	if err := os.Remove(filepath.Join(bundle, "rootfs")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err := os.RemoveAll(bundle)
	for range 3 {
		if !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
		err = os.RemoveAll(bundle)
	}
	return err
}
