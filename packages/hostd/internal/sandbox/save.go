package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/pkg/state/statefile"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Saved is how long a save kept the sandbox from being woken.
type Saved struct {
	// Save is the sentry's part, Stall the whole from the thaw until all is frozen again.
	Save, Stall time.Duration
}

const (
	// lateSave is how much longer than its deadline a save may take: it cannot be cancelled, only be told to hurry.
	lateSave = 30 * time.Second
	// refreezeDeadline bounds the way back to paused and frozen, whatever became of the save.
	refreezeDeadline = 10 * time.Second
)

// Save has a paused and frozen sandbox write what it is to the socket, and leaves it paused and frozen, also when it
// fails. It fails with gone when the sandbox is dead. hurry is called when ctx ends.
//
// It is always asked to live on (Resume): without that, gVisor ends a sandbox with its save, also with one that failed.
func (s *Sandboxes) Save(ctx context.Context, id names.ID, to *os.File, hurry func()) (Saved, error) {
	h, err := s.handle(id)
	if err != nil {
		return Saved{}, s.goneOr(id, err)
	}
	if err := h.learn(ctx); err != nil {
		return Saved{}, s.explained(id, h, err)
	}
	if frozen, err := h.freezer.Frozen(); err != nil || !frozen || h.tasks != tasksPaused {
		return Saved{}, errors.Join(err, wire.Errorf(wire.BadRequest, "sandbox %s is not paused; only a paused one is saved", id))
	}
	tighten, err := s.giveHeadroom(id)
	if err != nil {
		return Saved{}, err
	}
	defer tighten()
	begin := time.Now()
	if err := h.freezer.Thaw(ctx); err != nil {
		return Saved{}, s.refrozen(id, h, fmt.Errorf("thawing it for the save: %w", err))
	}
	thawed := time.Now()
	err = h.save(ctx, to, hurry)
	took := time.Since(thawed)
	return Saved{Save: took, Stall: time.Since(begin)}, s.refrozen(id, h, err)
}

func (h *handle) save(ctx context.Context, to *os.File, hurry func()) error {
	bounded, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		hurry()
		time.AfterFunc(lateSave, cancel)
	})
	defer stop()
	return h.order(bounded, boot.ContMgrCheckpoint, &control.SaveOpts{
		FilePayload:        urpc.FilePayload{Files: []*os.File{to}},
		UseCheckpointGofer: true,
		HavePagesFile:      true,
		Metadata:           statefile.CompressionLevelNone.ToMetadata(), // The pages then come by themselves, in an order that a restore wants them in.
		Resume:             true,
	}, tasksPaused, nil)
}

// refrozen brings the sandbox back to paused and frozen after a save, or says that it is dead.
func (s *Sandboxes) refrozen(id names.ID, h *handle, saveErr error) error {
	ctx, cancel := context.WithTimeout(context.Background(), refreezeDeadline)
	defer cancel()
	if err := h.pause(ctx); err != nil {
		return s.goneOr(id, s.explained(id, h, errors.Join(saveErr, fmt.Errorf("freezing it again after the save: %w", err))))
	}
	if saveErr != nil {
		return s.goneOr(id, s.explained(id, h, fmt.Errorf("saving it: %w", saveErr)))
	}
	return nil
}

// headroomMib is what a sentry and a scribe take for themselves while they save or restore. A guest that has used up its
// own memory would else be killed for it.
const headroomMib = 96

// giveHeadroom raises a sandbox's limits of memory and processors until tighten is called. What is then above the limit of
// memory stays, if the kernel finds nothing to reclaim, and is the last that it gets.
func (s *Sandboxes) giveHeadroom(id names.ID) (tighten func(), err error) {
	ask, err := s.asked(id)
	if err != nil {
		return nil, err
	}
	group := s.group(id)
	if err := group.LimitMemory(ask.Limits.MemoryMib + headroomMib); err != nil {
		return nil, err
	}
	if err := s.hasten(id); err != nil {
		return nil, err
	}
	return func() {
		if s.boundCpus(id) != nil {
			s.dropHandle(id) // Whoever opens the next one tries again.
		}
		for over := int64(0); over <= headroomMib; over += headroomMib / 8 {
			if group.TightenMemory(ask.Limits.MemoryMib+over) == nil {
				return
			}
		}
	}, nil
}

// goneOr says gone where there is a record of the sandbox but no process any more.
func (s *Sandboxes) goneOr(id names.ID, err error) error {
	loaded, loadErr := s.load(id)
	if loadErr != nil {
		return err
	}
	if _, alive := s.processOf(loaded, id); alive {
		return err
	}
	return wire.Errorf(wire.Gone, "%s", wire.AsError(err).Message)
}
