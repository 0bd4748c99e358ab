package sandbox

import (
	"context"
	"fmt"
	"time"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Rest is what pausing found and cost.
type Rest struct {
	Frozen     bool  `json:"frozen"`
	CPUUsageNs int64 `json:"cpuUsageNs"`
	TookUs     int64 `json:"tookUs"`
}

// Pause returns when the kernel says that nothing of the sandbox runs.
func (s *Sandboxes) Pause(ctx context.Context, id names.ID) (Rest, error) {
	begin := time.Now()
	h, err := s.handle(id)
	if err != nil {
		return Rest{}, err
	}
	if err := h.pause(ctx); err != nil {
		return Rest{}, s.explained(id, h, err)
	}
	took := time.Since(begin)
	usage, err := s.group(id).CPUUsageNs()
	if err != nil {
		return Rest{}, err
	}
	return Rest{Frozen: true, CPUUsageNs: usage, TookUs: took.Microseconds()}, nil
}

// Wake is what resuming cost.
type Wake struct {
	ThawUs   int64 `json:"thawUs"`
	ResumeUs int64 `json:"resumeUs"`
	Already  bool  `json:"already,omitempty"`
}

// Resume lets a paused sandbox go on; a running one is left alone.
func (s *Sandboxes) Resume(ctx context.Context, id names.ID) (Wake, error) {
	h, err := s.handle(id)
	if err != nil {
		return Wake{}, err
	}
	if err := h.learn(ctx); err != nil {
		return Wake{}, s.explained(id, h, err)
	}
	if h.tasks == tasksRunning {
		// Nobody resumes what runs, unless what we believe is wrong: so look.
		h.tasks = tasksUnknown
		if err := h.learn(ctx); err != nil {
			return Wake{}, s.explained(id, h, err)
		}
		if h.tasks == tasksRunning {
			return Wake{Already: true}, nil
		}
	}
	thaw, tasks, err := h.resume(ctx)
	if err != nil {
		return Wake{}, s.explained(id, h, err)
	}
	return Wake{ThawUs: thaw.Microseconds(), ResumeUs: tasks.Microseconds()}, nil
}

// Warm makes ready what a pause or resume needs, so that the first one after a restart is as quick as the rest.
func (s *Sandboxes) Warm(id names.ID) error {
	h, err := s.handle(id)
	if err != nil {
		return err
	}
	return h.dial()
}

// explained says so when the reason is that the sandbox is dead.
func (s *Sandboxes) explained(id names.ID, h *handle, err error) error {
	loaded, loadErr := s.load(id)
	if loadErr != nil {
		s.dropHandle(id)
		return loadErr
	}
	if _, alive := s.processOf(loaded, id); !alive {
		s.dropHandle(id)
		return wire.Errorf(wire.HostError, "sandbox %s has died: %s (%v); delete it", id, s.deathOf(id, loaded), err)
	}
	return fmt.Errorf("sandbox %s: %w", id, err)
}

func (s *Sandboxes) handle(id names.ID) (*handle, error) {
	s.mutex.Lock()
	kept := s.handles[id]
	s.mutex.Unlock()
	if kept != nil {
		return kept, nil
	}
	loaded, err := s.load(id)
	if err != nil {
		return nil, err
	}
	if _, alive := s.processOf(loaded, id); !alive {
		return nil, wire.Errorf(wire.HostError, "sandbox %s has stopped: %s; delete it", id, s.deathOf(id, loaded))
	}
	// A hostd that died while it paged the sandbox out has left its limits as no running sandbox may have them.
	if err := s.putBoundsBack(id); err != nil {
		return nil, err
	}
	// And one that died while it saved, or right after it had restored, has left it a quota that was ours.
	if err := s.boundCpus(id); err != nil {
		return nil, err
	}
	freezer, err := s.group(id).OpenFreezer()
	if err != nil {
		return nil, err
	}
	made := &handle{freezer: freezer, socket: loaded.Sandbox.ControlSocketPath}
	s.mutex.Lock()
	s.handles[id] = made
	s.mutex.Unlock()
	return made, nil
}

func (s *Sandboxes) dropHandle(id names.ID) {
	s.mutex.Lock()
	h := s.handles[id]
	delete(s.handles, id)
	s.mutex.Unlock()
	if h != nil {
		h.close()
	}
}
