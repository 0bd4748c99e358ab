package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/control/client"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/wire"
)

// A handle keeps open what the hot verbs need: the freezer's file and a connection to the sandbox's control socket.
// Everything in it can be had again from the host, so it may be thrown away at any time.
type handle struct {
	freezer *cgroup.Freezer
	socket  string
	client  *urpc.Client
	// tasks is what is known of the sentry's own pause, which nests and panics when resumed once too often.
	tasks taskState
}

type taskState int

const (
	tasksUnknown taskState = iota
	tasksRunning
	tasksPaused
)

func (h *handle) close() {
	h.freezer.Close()
	h.hangUp()
}

func (h *handle) hangUp() {
	if h.client != nil {
		h.client.Close()
		h.client = nil
	}
}

func (h *handle) dial() error {
	if h.client != nil {
		return nil
	}
	dialled, err := client.ConnectTo(h.socket)
	if err != nil {
		return fmt.Errorf("connecting to the sandbox's control socket: %w", err)
	}
	h.client = dialled
	return nil
}

// call asks the sentry over the kept connection, or a new one. When it breaks or times out it is unknown whether the
// sentry did as asked.
func (h *handle) call(ctx context.Context, method string, result any) error {
	if err := h.dial(); err != nil {
		return err
	}
	done := make(chan error, 1)
	connection := h.client
	go func() { done <- connection.Call(method, nil, result) }()
	select {
	case err := <-done:
		if err != nil && !isRemote(err) {
			h.hangUp()
		}
		return err
	case <-ctx.Done():
		connection.Socket.Shutdown()
		<-done
		h.hangUp()
		return wire.Errorf(wire.Deadline, "the sandbox did not answer %s in time", method)
	}
}

func isRemote(err error) bool {
	var remote urpc.RemoteError
	return errors.As(err, &remote)
}

// learn finds out whether the sentry's tasks are paused, where it is not known: after a restart of hostd, or a verb that broke in the middle.
func (h *handle) learn(ctx context.Context) error {
	if h.tasks != tasksUnknown {
		return nil
	}
	frozen, err := h.freezer.Frozen()
	if err != nil {
		return err
	}
	if frozen {
		h.tasks = tasksPaused // The freezer is only ever turned on over paused tasks.
		return nil
	}
	var stacks string
	if err := h.call(ctx, boot.DebugStacks, &stacks); err != nil {
		return fmt.Errorf("asking the sandbox whether it is paused: %w", err)
	}
	h.tasks = tasksRunning
	if allTasksStopped(stacks) {
		h.tasks = tasksPaused
	}
	return nil
}

// allTasksStopped reads the sentry's goroutine stacks: each task is a goroutine in (*Task).run, and a stopped one
// stands in (*Task).doStop. Only a pause stops them all: PID 1 of a sandbox cannot be stopped from inside.
func allTasksStopped(stacks string) bool {
	tasks := 0
	for _, stack := range strings.Split(stacks, "\n\n") {
		if !strings.Contains(stack, "kernel.(*Task).run(") {
			continue
		}
		tasks++
		if !strings.Contains(stack, "kernel.(*Task).doStop(") {
			return false
		}
	}
	return tasks > 0
}

// rollbackDeadline is for undoing half a pause, whatever became of the verb's own deadline.
const rollbackDeadline = 3 * time.Second

// pause stops the tasks, then freezes the processes. When the second half fails the first is undone, and the error says what came of it.
func (h *handle) pause(ctx context.Context) error {
	if err := h.learn(ctx); err != nil {
		return err
	}
	if h.tasks == tasksRunning {
		h.tasks = tasksUnknown
		if err := h.call(ctx, boot.ContMgrPause, nil); err != nil {
			return h.undo(fmt.Errorf("pausing the sandbox's tasks: %w", err))
		}
		h.tasks = tasksPaused
	}
	if err := h.freezer.Freeze(ctx); err != nil {
		return h.undo(fmt.Errorf("freezing the sandbox's processes: %w", err))
	}
	return nil
}

func (h *handle) undo(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), rollbackDeadline)
	defer cancel()
	if _, _, err := h.resume(ctx); err != nil {
		return fmt.Errorf("%w; it could not be set running again either: %w", cause, err)
	}
	return fmt.Errorf("%w; it was set running again", cause)
}

// resume thaws the processes, then lets the tasks go on. It tells how long each took.
func (h *handle) resume(ctx context.Context) (thaw, tasks time.Duration, err error) {
	begin := time.Now()
	if h.tasks == tasksUnknown {
		if err := h.learn(ctx); err != nil {
			return 0, 0, err
		}
	}
	if err := h.freezer.Thaw(ctx); err != nil {
		return 0, 0, fmt.Errorf("thawing the sandbox's processes: %w", err)
	}
	thawed := time.Now()
	if h.tasks == tasksPaused {
		h.tasks = tasksUnknown
		if err := h.call(ctx, boot.ContMgrResume, nil); err != nil {
			return 0, 0, fmt.Errorf("resuming the sandbox's tasks: %w", err)
		}
		h.tasks = tasksRunning
	}
	return thawed.Sub(begin), time.Since(thawed), nil
}
