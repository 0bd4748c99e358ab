package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Create makes a sandbox up to where its PID 1 can be started. The same ask again answers the same process; another ask, or a sandbox that has stopped, is already_exists.
func (s *Sandboxes) Create(ctx context.Context, ask Ask, netns string, lock *os.File) (Process, error) {
	if err := checkAsk(ask); err != nil {
		return Process{}, err
	}
	if ask.Build == (Build{}) {
		ask.Build = s.builds.own
		if made, err := s.asked(ask.ID); err == nil && s.Has(ask.ID) { // By an earlier hostd, maybe.
			ask.Build = made.Build
		}
	}
	wanted, err := json.Marshal(ask)
	if err != nil {
		return Process{}, err
	}
	if s.Has(ask.ID) {
		return s.existing(ask.ID, wanted)
	}
	// Whatever a create that was cut short left is taken away first.
	if err := s.Delete(ctx, ask.ID); err != nil {
		return Process{}, err
	}
	process, err := s.create(ctx, ask, netns, wanted, lock)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if undo := s.Delete(cleanup, ask.ID); undo != nil {
			err = fmt.Errorf("%w; taking away what was made failed too: %w", err, undo)
		}
		return Process{}, err
	}
	return process, nil
}

func checkAsk(ask Ask) error {
	limits := ask.Limits
	if limits.MemoryMib < 32 || limits.Cpus < 0.01 || limits.Pids < 16 || limits.Nofile < 16 {
		return wire.Errorf(wire.BadRequest, "limits %+v: every limit must be given, at least 32 MiB, 0.01 cpus, 16 pids and 16 open files", limits)
	}
	if len(ask.Argv) == 0 || !filepath.IsAbs(ask.Argv[0]) {
		return wire.Errorf(wire.BadRequest, "argv %q must begin with the absolute path of PID 1", ask.Argv)
	}
	if ask.Hostname == "" || len(ask.Hostname) > 63 {
		return wire.Errorf(wire.BadRequest, "hostname %q must be 1 to 63 characters", ask.Hostname)
	}
	return nil
}

func (s *Sandboxes) existing(id names.ID, wanted []byte) (Process, error) {
	made, err := os.ReadFile(s.askFile(id))
	if err != nil || !bytes.Equal(made, wanted) {
		return Process{}, wire.Errorf(wire.AlreadyExists, "sandbox %s exists and was made with other arguments; delete it first", id)
	}
	loaded, err := s.load(id)
	if err != nil {
		return Process{}, err
	}
	process, alive := s.processOf(loaded, id)
	if !alive {
		return Process{}, wire.Errorf(wire.AlreadyExists, "sandbox %s exists but has stopped; delete it first", id)
	}
	return process, nil
}

func (s *Sandboxes) create(ctx context.Context, ask Ask, netns string, wanted []byte, lock *os.File) (Process, error) {
	bundle, disk := s.paths.Bundle(ask.ID), s.paths.Disk(ask.ID)
	lower, err := amongLayers(ask.Lower, s.layers)
	if err != nil {
		return Process{}, err
	}
	spawners, err := s.spawnersOf(ask.Build)
	if err != nil {
		return Process{}, err
	}
	if _, err := os.Stat(netns); err != nil {
		return Process{}, wire.Errorf(wire.NotFound, "sandbox %s has no network namespace at %s; ask net.create first", ask.ID, netns)
	}
	if _, err := os.Stat(filepath.Join(disk, "upper")); err != nil {
		return Process{}, wire.Errorf(wire.NotFound, "sandbox %s has no disk at %s; ask disk.create first", ask.ID, disk)
	}
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		return Process{}, fmt.Errorf("making the bundle of %s: %w", ask.ID, err)
	}
	if err := os.WriteFile(s.askFile(ask.ID), wanted, 0o600); err != nil {
		return Process{}, fmt.Errorf("writing what %s was asked to be: %w", ask.ID, err)
	}
	if err := mountRootfs(s.paths.Rootfs(ask.ID), lower, disk); err != nil {
		return Process{}, err
	}
	group := s.group(ask.ID)
	// The processor quota that was asked for comes into force with the first of its processes.
	if err := group.Create(cgroup.Limits{MemoryMib: ask.Limits.MemoryMib, Cpus: hastyCpus(ask.Limits.Cpus), Pids: hostTasks(ask.Limits.Pids)}); err != nil {
		return Process{}, err
	}
	described, err := json.Marshal(spec(ask, places{
		rootfs: s.paths.Rootfs(ask.ID), netns: netns, cgroup: group.OCIPath(), volumes: filepath.Join(disk, "vol"),
		keepTmp: bringsTmp(lower),
	}))
	if err != nil {
		return Process{}, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), described, 0o600); err != nil {
		return Process{}, fmt.Errorf("writing the bundle of %s: %w", ask.ID, err)
	}
	bounded, cancel := context.WithTimeout(ctx, spawnDeadline)
	defer cancel()
	made, err := spawners.Spawn(bounded, birth{ID: string(ask.ID), Bundle: bundle}, lock)
	if err != nil {
		return Process{}, s.withLastWords(ask.ID, err)
	}
	s.births.remember(made.Pid, bundle) // Its spawner may end before it does: then it is ours to collect.
	return Process{Pid: made.Pid, StartTicks: startTicks(made.Pid)}, nil
}
