package process

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/output"
	"torpor/guest/internal/spawn"
)

// Why a process ended, when it did not simply exit.
const (
	EndTimeout = "timeout"
	EndSignal  = "signal"
	EndOOM     = "oom"
)

const (
	// silence is how long left-over descendants may hold the output open after the exit before it counts as complete.
	silence = 100 * time.Millisecond
	// drainMax bounds that wait when they go on writing.
	drainMax            = time.Second
	defaultRestartDelay = time.Second
)

// Process is one asked-for program over all its restarts.
//
//	running --exit 0, or no restarts left, or ended by a caller--> exited
//	running --exit != 0, restarts left--> running (after the delay, same id, restarts + 1)
type Process struct {
	ID  string
	Log *output.Log

	ask      Ask
	program  program
	children *spawn.Children
	ready    *Ready
	spare    *spare
	settled  chan struct{} // closed when the process is over and its output is complete
	stop     chan struct{} // closed when it is not to be restarted

	mu          sync.Mutex
	child       *spawn.Child
	input       *os.File // the writing end of stdin, or the terminal; nil without either
	inputOpen   bool
	writing     sync.Mutex // one stdin writer at a time, so that bodies do not mix
	stopped     bool
	exited      bool
	exit        spawn.Exit
	startedAt   time.Time
	exitedAt    time.Time
	restarts    int
	endReason   string
	outOfMemory bool // a program of this process was killed for its memory
	limitTimer  *time.Timer
}

// View is a process as callers see it.
type View struct {
	ID          string   `json:"id"`
	Pid         int      `json:"pid"`
	Name        string   `json:"name"`
	Argv        []string `json:"argv"`
	Command     string   `json:"command"`
	Cwd         string   `json:"cwd"`
	User        string   `json:"user"`
	Status      string   `json:"status"`
	ExitCode    *int     `json:"exitCode"`
	Signal      *string  `json:"signal"`
	StartedAt   string   `json:"startedAt"`
	ExitedAt    *string  `json:"exitedAt"`
	StdoutBytes int64    `json:"stdoutBytes"`
	StderrBytes int64    `json:"stderrBytes"`
	KeepAlive   bool     `json:"keepAlive"`
	Stdin       bool     `json:"stdin"`
	Pty         bool     `json:"pty"`
	Restarts    int      `json:"restarts"`
	EndReason   string   `json:"endReason,omitempty"`
}

// Stamp is the time format of the protocol.
func Stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

func (p *Process) View() View {
	stdout, stderr := p.Log.Sizes()
	p.mu.Lock()
	defer p.mu.Unlock()
	view := View{
		ID: p.ID, Pid: p.child.Pid, Name: p.ask.Name, Argv: p.program.argv, Command: p.program.command,
		Cwd: p.program.cwd, User: p.program.user, Status: "running", StartedAt: Stamp(p.startedAt),
		StdoutBytes: stdout, StderrBytes: stderr, KeepAlive: p.ask.KeepAlive, Stdin: p.ask.Stdin, Pty: p.ask.Pty != nil,
		Restarts: p.restarts, EndReason: p.endReason,
	}
	if p.exited {
		view.Status = "exited"
		code, at := p.exit.Code, Stamp(p.exitedAt)
		view.ExitCode, view.ExitedAt = &code, &at
		if p.exit.Signal != 0 {
			name := SignalName(p.exit.Signal)
			view.Signal = &name
		}
	}
	return view
}

// Settled is closed once the process is over and its output is complete.
func (p *Process) Settled() <-chan struct{} { return p.settled }

// launch starts the program once and begins to read its output.
func (p *Process) launch() (*spawn.Child, *pumps, error) {
	if child, running := p.ready.answer(p.ask, p.program); child != nil {
		p.attach(child, running)
		return child, running, nil
	}
	ready, err := p.spare.ends(p.ask, p.program.uid)
	if err != nil {
		return nil, nil, err
	}
	child, err := p.program.start(p.children, ready.theirs)
	ready.theirs.close()
	if err != nil {
		ready.pumps.abandon()
		return nil, nil, err
	}
	p.attach(child, ready.pumps)
	return child, ready.pumps, nil
}

// attach makes a started child the process's present incarnation.
func (p *Process) attach(child *spawn.Child, running *pumps) {
	go running.run(p.Log)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.child = child
	p.input = running.input
	p.inputOpen = running.input != nil
}

// begin is called once, after the first launch.
func (p *Process) begin(child *spawn.Child, pumps *pumps, over func()) {
	if p.ask.TimeoutMs > 0 {
		p.mu.Lock()
		p.limitTimer = time.AfterFunc(time.Duration(p.ask.TimeoutMs)*time.Millisecond, p.timeLimitPassed)
		p.mu.Unlock()
	}
	go p.follow(child, pumps, over)
}

func (p *Process) follow(child *spawn.Child, running *pumps, over func()) {
	for {
		<-child.Done
		endedAt := time.Now()
		running.drain()
		p.closeInput()
		if !p.waitToRestart(child.Exit) {
			p.finish(child.Exit, endedAt, running, over)
			return
		}
		next, nextPumps, err := p.launch()
		if err != nil {
			p.note("could not start again: %v", err)
			p.finish(child.Exit, endedAt, running, over)
			return
		}
		child, running = next, nextPumps
		p.endIfStopped()
	}
}

// waitToRestart says whether the program is to be started again, after the delay.
func (p *Process) waitToRestart(exit spawn.Exit) bool {
	policy := p.ask.Restart
	p.mu.Lock()
	again := policy != nil && exit.Code != 0 && !p.stopped && (policy.MaxRestarts < 0 || p.restarts < policy.MaxRestarts)
	if again {
		p.restarts++
	}
	count := p.restarts
	p.mu.Unlock()
	if !again {
		return false
	}
	delay := defaultRestartDelay
	if policy.DelayMs > 0 {
		delay = time.Duration(policy.DelayMs) * time.Millisecond
	}
	p.note("exited with code %d; restart %d%s in %d ms", exit.Code, count, outOf(policy.MaxRestarts), delay.Milliseconds())
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.stop:
		return false
	}
}

func outOf(limit int) string {
	if limit < 0 {
		return ""
	}
	return fmt.Sprintf(" of %d", limit)
}

// note writes a line of our own into the log, as a person reading it would want to know.
func (p *Process) note(format string, args ...any) {
	p.Log.Append(output.Stderr, []byte("[torpor] "+fmt.Sprintf(format, args...)+"\n"))
}

func (p *Process) finish(exit spawn.Exit, endedAt time.Time, last *pumps, over func()) {
	p.mu.Lock()
	p.exited = true
	p.exit = exit
	p.exitedAt = endedAt
	if p.endReason == "" && p.outOfMemory && exit.Code != 0 {
		p.endReason = EndOOM
	}
	if p.limitTimer != nil {
		p.limitTimer.Stop()
	}
	p.mu.Unlock()
	p.Log.End()
	over()
	close(p.settled)
	p.spare.refill()
	<-last.done // left-over descendants may hold the output open as long as they live
	p.Log.Rest()
}

func (p *Process) timeLimitPassed() { p.End(EndTimeout, syscall.SIGKILL) }

// End kills the whole group for a reason of the guest's own and prevents a restart.
func (p *Process) End(reason string, signal syscall.Signal) {
	p.mu.Lock()
	child, over := p.child, p.exited
	if !over {
		p.endReason = reason
		p.forbidRestart()
	}
	p.mu.Unlock()
	if over {
		return
	}
	if p.children.Signal(child, signal, true) != nil {
		p.children.SignalGroupLeft(child, signal)
	}
}

// memoryRanOut: a restart stays allowed, as for any failure.
func (p *Process) memoryRanOut(what string) {
	p.mu.Lock()
	p.outOfMemory = true
	p.mu.Unlock()
	p.note("%s", what)
}

// endIfStopped ends an incarnation that was started just while a caller ended the process.
func (p *Process) endIfStopped() {
	p.mu.Lock()
	child, stopped := p.child, p.stopped
	p.mu.Unlock()
	if stopped {
		_ = p.children.Signal(child, syscall.SIGKILL, true) // ESRCH: it ended by itself
	}
}

// forbidRestart is called with the lock held.
func (p *Process) forbidRestart() {
	if !p.stopped {
		p.stopped = true
		close(p.stop)
	}
}

// Signal sends what a caller asked for. A signal that usually ends a program also ends its restarts.
func (p *Process) Signal(signal syscall.Signal, group bool) error {
	p.mu.Lock()
	child, over := p.child, p.exited
	if !over && endsProgram(signal) {
		p.endReason = EndSignal
		p.forbidRestart()
	}
	p.mu.Unlock()
	if over {
		return fault.Conflict("process %q has already exited", p.called())
	}
	err := p.children.Signal(child, signal, group)
	if err == syscall.ESRCH {
		return nil // it is between its end and its record of it
	}
	return err
}

func endsProgram(signal syscall.Signal) bool {
	switch signal {
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGABRT:
		return true
	}
	return false
}

// called is what a person knows the process by: the name it was started under, or its id when it has none.
func (p *Process) called() string {
	if p.ask.Name != "" {
		return p.ask.Name
	}
	return p.ID
}

// Resize tells the terminal its new size.
func (p *Process) Resize(size Size) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ask.Pty == nil {
		return fault.Conflict("process %q has no terminal: it was started without pty", p.called())
	}
	if p.exited || !p.inputOpen {
		return fault.Conflict("process %q has already exited", p.called())
	}
	raw, err := p.input.SyscallConn()
	if err != nil {
		return fault.Conflict("the terminal of process %q is closed", p.called())
	}
	var failure error
	if err := raw.Control(func(fd uintptr) { failure = resize(int(fd), size) }); err != nil {
		return fault.Conflict("the terminal of process %q is closed", p.called())
	}
	return failure
}
