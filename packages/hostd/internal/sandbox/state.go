package sandbox

import (
	"context"
	"errors"

	"gvisor.dev/gvisor/runsc/container"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// State of a sandbox, from the kernel and runsc.
type State struct {
	Exists     bool   `json:"exists"`
	Pid        int    `json:"pid"`
	StartTicks int64  `json:"startTicks"`
	Runsc      string `json:"runsc"` // created, running, paused, stopped or absent.
	Frozen     bool   `json:"frozen"`
	MemoryMib  int64  `json:"memoryMib"`
	CPUUsageNs int64  `json:"cpuUsageNs"`
	cgroup.Strikes
	// Death is there when Runsc is stopped.
	Death *Death `json:"death,omitempty"`
}

// State never waits for a frozen sandbox: being frozen is being paused.
func (s *Sandboxes) State(ctx context.Context, id names.ID) (State, error) {
	usage, err := s.group(id).Usage()
	if err != nil {
		return State{}, err
	}
	strikes, err := s.group(id).Strikes()
	if err != nil {
		return State{}, err
	}
	state := State{Runsc: "absent", MemoryMib: usage.MemoryMib, CPUUsageNs: usage.CPUUsageNs, Strikes: strikes}
	loaded, err := s.load(id)
	if isNotFound(err) {
		return state, nil
	}
	if err != nil {
		return State{}, err
	}
	state.Exists = true
	process, alive := s.processOf(loaded, id)
	if !alive {
		if state.Strikes, err = s.group(id).Strikes(); err != nil { // It may have been struck since.
			return State{}, err
		}
		state.Runsc, state.Death = "stopped", s.deathOf(id, loaded)
		return state, nil
	}
	state.Pid, state.StartTicks = process.Pid, process.StartTicks
	h, err := s.handle(id)
	if err != nil {
		return State{}, err
	}
	if state.Frozen, err = h.freezer.Frozen(); err != nil {
		return State{}, s.explained(id, h, err)
	}
	if loaded.Status == container.Created && !state.Frozen {
		state.Runsc = "created"
		return state, nil
	}
	if err := h.learn(ctx); err != nil {
		return State{}, s.explained(id, h, err)
	}
	state.Runsc = map[taskState]string{tasksRunning: "running", tasksPaused: "paused"}[h.tasks]
	return state, nil
}

func isNotFound(err error) bool {
	var coded *wire.Error
	return errors.As(err, &coded) && coded.Code == wire.NotFound
}
