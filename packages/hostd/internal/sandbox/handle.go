package sandbox

import (
	"context"
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
	// pending is an order that outlived its verb's deadline. The sentry will still carry it out, perhaps much later
	// when its processor quota is used up, so nothing else is asked of it before the outcome is known.
	pending *order
}

type taskState int

const (
	tasksUnknown taskState = iota
	tasksRunning
	tasksPaused
)

type order struct {
	method string
	then   taskState
	done   chan error
}

func (h *handle) close() {
	h.freezer.Close()
	h.hangUp()
}

// hangUp ends a pending order's wait too, since its answer cannot come any more.
func (h *handle) hangUp() {
	if h.client == nil {
		return
	}
	h.client.Socket.Shutdown()
	if h.pending != nil {
		<-h.pending.done
		h.pending = nil
	}
	h.client.Close()
	h.client = nil
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

// ask has the sentry do something after which its tasks are as then says; result may take an answer.
func (h *handle) ask(ctx context.Context, method string, then taskState, result any) error {
	return h.order(ctx, method, nil, then, result)
}

// order is to ask with an argument.
func (h *handle) order(ctx context.Context, method string, argument any, then taskState, result any) error {
	if err := h.settle(ctx); err != nil {
		return err
	}
	if err := h.dial(); err != nil {
		return err
	}
	h.tasks = tasksUnknown
	h.pending = &order{method: method, then: then, done: make(chan error, 1)}
	go func(connection *urpc.Client, done chan error) { done <- connection.Call(method, argument, result) }(h.client, h.pending.done)
	return h.settle(ctx)
}

// settle waits for a pending order's outcome.
func (h *handle) settle(ctx context.Context) error {
	if h.pending == nil {
		return nil
	}
	select {
	case err := <-h.pending.done:
		settled := h.pending
		h.pending = nil
		if err == nil {
			h.tasks = settled.then
			return nil
		}
		h.hangUp()
		return fmt.Errorf("%s: %w", settled.method, err)
	case <-ctx.Done():
		return wire.Errorf(wire.Deadline, "the sandbox did not answer %s in time", h.pending.method)
	}
}

// learn finds out whether the sentry's tasks are paused, where it is not known: after a restart of hostd, or a verb that broke in the middle.
func (h *handle) learn(ctx context.Context) error {
	// A failed order is no reason not to look: what it left is what is to be found out.
	if err := h.settle(ctx); err != nil && h.pending != nil {
		return err
	}
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
	return h.look(ctx)
}

// look reads the sentry's stacks until no order of an earlier hostd is under way there.
func (h *handle) look(ctx context.Context) error {
	for {
		var stacks string
		if err := h.ask(ctx, boot.DebugStacks, tasksUnknown, &stacks); err != nil {
			return fmt.Errorf("asking the sandbox whether it is paused: %w", err)
		}
		found := tasksIn(stacks)
		if found == tasksUnknown {
			select {
			case <-time.After(2 * time.Millisecond):
				continue
			case <-ctx.Done():
				return wire.Errorf(wire.Deadline, "an earlier pause or resume of the sandbox did not end in time")
			}
		}
		h.tasks = found
		return nil
	}
}

// tasksIn reads the sentry's goroutine stacks. Each task is a goroutine in (*Task).run, and a stopped one waits in
// (*Task).doStop on a condition. Only a pause stops them all, or a tenant that sends SIGSTOP to every process of its own,
// PID 1 included: its sandbox may then be resumed once too often, and die of it. It is not to be known, and to be looked at again, while a pause, resume or save is under way, or while tasks are on their way
// into the stop or out of it: those are in doStop but do not wait.
func tasksIn(stacks string) taskState {
	for _, underWay := range []string{"Pause(", "Resume(", "Checkpoint("} {
		if strings.Contains(stacks, "boot.(*containerManager)."+underWay) {
			return tasksUnknown
		}
	}
	stopped, moving := 0, 0
	for _, stack := range strings.Split(stacks, "\n\n") {
		switch {
		case !strings.Contains(stack, "kernel.(*Task).run("):
		case !strings.Contains(stack, "kernel.(*Task).doStop("):
			return tasksRunning
		case strings.Contains(strings.SplitN(stack, "\n", 2)[0], "[sync.Cond.Wait"):
			stopped++
		default:
			moving++
		}
	}
	switch {
	case moving > 0:
		return tasksUnknown
	case stopped > 0:
		return tasksPaused
	default: // Nothing was started yet.
		return tasksRunning
	}
}

// rollbackDeadline is for undoing half a pause, whatever became of the verb's own deadline.
const rollbackDeadline = 3 * time.Second

// pause stops the tasks, then freezes the processes. When either half fails all is undone, and the error says what came of it.
func (h *handle) pause(ctx context.Context) error {
	if err := h.learn(ctx); err != nil {
		return err
	}
	if h.tasks == tasksRunning {
		if err := h.ask(ctx, boot.ContMgrPause, tasksPaused, nil); err != nil {
			return h.undo(fmt.Errorf("pausing the sandbox's tasks: %w", err))
		}
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
	// Frozen processes answer nothing, so what is not known is learnt after the thaw; that they were frozen is known already.
	if h.tasks == tasksUnknown && h.pending == nil {
		if err := h.learn(ctx); err != nil {
			return 0, 0, err
		}
	}
	if err := h.freezer.Thaw(ctx); err != nil {
		return 0, 0, fmt.Errorf("thawing the sandbox's processes: %w", err)
	}
	thawed := time.Now()
	if err := h.learn(ctx); err != nil {
		return 0, 0, err
	}
	if h.tasks == tasksPaused {
		if err := h.ask(ctx, boot.ContMgrResume, tasksRunning, nil); err != nil {
			return 0, 0, fmt.Errorf("resuming the sandbox's tasks: %w", err)
		}
	}
	return thawed.Sub(begin), time.Since(thawed), nil
}
