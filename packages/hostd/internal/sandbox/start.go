package sandbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gvisor.dev/gvisor/runsc/container"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/thread"
	"torpor.dev/hostd/internal/wire"
)

// A start is carried out by the sentry, which may be late: its processor quota is used up, or somebody froze it. So a start may outlive its verb's
// deadline. It is then waited for by the next start, and by the kill that ends it.

// Start runs PID 1. A sandbox that runs already is left alone.
func (s *Sandboxes) Start(ctx context.Context, id names.ID) error {
	begin := time.Now()
	if !s.startIsOver(ctx, id) {
		return lateStart(id, begin)
	}
	loaded, err := s.load(id)
	if err != nil {
		return err
	}
	if _, alive := s.processOf(loaded, id); !alive {
		return wire.Errorf(wire.HostError, "sandbox %s has stopped before it was started (%s); delete it and create it again", id, s.deathOf(id, loaded))
	}
	if loaded.Status == container.Running {
		return s.boundCpus(id)
	}
	start := func() error { return errors.Join(loaded.Start(s.conf), s.boundCpus(id)) }
	select {
	case err = <-s.beginStart(id, start):
	case <-ctx.Done():
		return lateStart(id, begin)
	}
	if err != nil {
		return s.withLastWords(id, fmt.Errorf("starting sandbox %s: %w", id, err))
	}
	h, err := s.handle(id)
	if err != nil {
		return err
	}
	h.tasks = tasksRunning
	return h.dial()
}

func (s *Sandboxes) beginStart(id names.ID, start func() error) <-chan error {
	over := make(chan struct{})
	s.mutex.Lock()
	s.starts[id] = over
	s.mutex.Unlock()
	outcome := make(chan error, 1)
	go func() {
		// It visits the sandbox's network namespace, and a thread that failed to come back from there must serve nothing else.
		err := thread.Alone(start)
		s.mutex.Lock()
		delete(s.starts, id)
		s.mutex.Unlock()
		close(over)
		outcome <- err // Last: whoever hears it asks for the handle, which a start under way refuses.
	}()
	return outcome
}

func (s *Sandboxes) isStarting(id names.ID) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.starts[id] != nil
}

// startIsOver waits for a start under way; false when ctx ended first.
func (s *Sandboxes) startIsOver(ctx context.Context, id names.ID) bool {
	s.mutex.Lock()
	over := s.starts[id]
	s.mutex.Unlock()
	if over == nil {
		return true
	}
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

func lateStart(id names.ID, begin time.Time) error {
	return wire.Errorf(wire.Deadline, "the timer \"sandbox.start\" ended after %d ms: gVisor has not said that PID 1 of %s runs; ask again to go on waiting, or delete it", time.Since(begin).Milliseconds(), id)
}
