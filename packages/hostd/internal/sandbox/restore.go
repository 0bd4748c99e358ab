package sandbox

import (
	"context"
	"fmt"
	"os"
	"time"
	_ "unsafe" // For go:linkname.

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gvisor.dev/gvisor/pkg/control/client"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/specutils"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Restored is the process that an image lives in again, and what that took.
type Restored struct {
	Process
	RestoreMs float64 `json:"restoreMs"`
}

// Image is where a sandbox is restored from.
type Image struct {
	Socket *os.File
	// Lock is held by whoever restores it.
	Lock *os.File
	// Background has the sandbox run before all its memory is there: what it touches comes first.
	Background bool
	// Why is asked what went wrong, before what is left is killed; it may know better than the sentry, or nothing.
	Why func() error
}

// Restore makes a sandbox that was created and not started into what the image gives. It comes back running. When it
// fails, the sandbox is dead: nothing else can be made of one that was half restored.
func (s *Sandboxes) Restore(ctx context.Context, id names.ID, image Image) (Restored, error) {
	loaded, err := s.load(id)
	if err != nil {
		return Restored{}, err
	}
	process, alive := s.processOf(loaded, id)
	if !alive || loaded.Status != container.Created {
		return Restored{}, wire.Errorf(wire.AlreadyExists, "sandbox %s has been started or has stopped; an image wants one that was only created", id)
	}
	ask, err := s.asked(id)
	if err != nil {
		return Restored{}, err
	}
	tighten, err := s.giveHeadroom(id)
	if err != nil {
		return Restored{}, err
	}
	defer tighten()
	begin := time.Now()
	select {
	case err = <-s.beginStart(id, func() error { return s.restoreBy(ctx, ask.Build, loaded, image) }):
	case <-ctx.Done():
		err = wire.Errorf(wire.Deadline, "sandbox %s was not restored in time", id)
	}
	if err != nil {
		if known := image.Why(); known != nil {
			err = known
		}
		return Restored{}, s.ended(id, err)
	}
	took := time.Since(begin)
	h, err := s.handle(id)
	if err != nil {
		return Restored{}, err
	}
	h.tasks = tasksRunning
	return Restored{Process: process, RestoreMs: float64(took.Microseconds()) / 1000}, h.dial()
}

// ended kills what is left of a shell after a restore that failed.
func (s *Sandboxes) ended(id names.ID, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackDeadline)
	defer cancel()
	if err := s.Kill(ctx, id); err != nil {
		return fmt.Errorf("%w; ending what is left of it failed too: %w", cause, err)
	}
	return s.withLastWords(id, fmt.Errorf("restoring sandbox %s: %w; delete it", id, cause))
}

// restoreBy has it done by who made the shell. One without a build is an earlier hostd's, which had none but ours.
func (s *Sandboxes) restoreBy(ctx context.Context, build Build, loaded *container.Container, image Image) error {
	if build == s.builds.own || build == (Build{}) {
		return restore(loaded, s.conf, image)
	}
	spawners, err := s.spawnersOf(build)
	if err != nil {
		return err
	}
	_, err = spawners.Spawn(ctx, birth{ID: loaded.ID, Restore: true, Background: image.Background}, image.Lock, image.Socket)
	return err
}

// restore is what container.Restore does, but for where the image comes from: that one opens files by path, which for us
// would have to lie there in plain text.
func restore(loaded *container.Container, conf *config.Config, image Image) error {
	return runscStart(loaded, conf, "restore", func(conf *config.Config, _ *specs.Spec) error {
		sentry, err := client.ConnectTo(loaded.Sandbox.ControlSocketPath)
		if err != nil {
			return fmt.Errorf("connecting to the sandbox's control socket: %w", err)
		}
		defer sentry.Close()
		if err := runscNetwork(sentry, loaded.Sandbox.Getpid(), conf, false, true); err != nil {
			return fmt.Errorf("handing over the network: %w", err)
		}
		order := boot.RestoreOpts{FilePayload: urpc.FilePayload{Files: []*os.File{image.Socket}}, UseCheckpointGofer: true, Background: image.Background}
		if err := sentry.Call(boot.ContMgrRestore, &order, nil); err != nil {
			return err
		}
		loaded.Sandbox.Restored = true
		return nil
	}, nil)
}

// runscStart wraps the start of a container in what runsc does about its record.
//
//go:linkname runscStart gvisor.dev/gvisor/runsc/container.(*Container).startImpl
func runscStart(c *container.Container, conf *config.Config, action string, root func(*config.Config, *specs.Spec) error, sub runscStartSub) error

type runscStartSub func(spec *specs.Spec, conf *config.Config, cid string, stdios, goferFiles, goferFilestores []*os.File, devIOFile *os.File, goferConfs []specutils.GoferMountConf) error

// runscNetwork takes address and routes off the namespace's device and gives them to the sentry.
//
//go:linkname runscNetwork gvisor.dev/gvisor/runsc/sandbox.setupNetwork
func runscNetwork(conn *urpc.Client, pid int, conf *config.Config, disableIPv6, isRestore bool) error

// JoinMemory has what a process touches counted as a sandbox's memory.
func (s *Sandboxes) JoinMemory(id names.ID, pid int) error { return s.group(id).JoinMemory(pid) }
