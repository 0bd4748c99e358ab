// Package spawn starts the children of PID 1 and reaps everything that ends below it.
//
// One goroutine owns wait(2). It first looks at who ended (WNOWAIT), and reaps under the same lock that Signal takes,
// so no signal ever reaches a process id that was given away again. Nothing polls: with nothing running it sleeps on a condition.
package spawn

import (
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Exit says how a process ended. Signal is 0 for an ordinary exit; else Code is 128 + Signal.
type Exit struct {
	Code   int
	Signal syscall.Signal
}

// Child is one started process. Done is closed after Exit is set and the process is reaped.
type Child struct {
	Pid  int
	Exit Exit
	Done chan struct{}
}

// Children knows every direct child that was started through it and reaps the orphans it was given.
type Children struct {
	nurseries chan order

	mu       sync.Mutex
	arrived  *sync.Cond
	alive    map[int]*Child
	starting int
	// early holds the exits of unknown processes while a start is under way: a child may end before its starter registers it.
	early map[int]Exit
}

// New starts the reaper and the nursery threads. The calling process must be PID 1 or a child subreaper.
func New(nurseryThreads int) *Children {
	children := &Children{
		nurseries: make(chan order),
		alive:     map[int]*Child{},
		early:     map[int]Exit{},
	}
	children.arrived = sync.NewCond(&children.mu)
	for range nurseryThreads {
		go nursery(children.nurseries)
	}
	go children.reap()
	return children
}

// Start starts one process. The error is the errno of the step that failed (chdir, exec, …).
func (c *Children) Start(spec Spec) (*Child, error) {
	c.mu.Lock()
	c.starting++
	c.mu.Unlock()

	pid, err := c.deliver(spec)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.starting--
	defer func() {
		if c.starting == 0 {
			clear(c.early)
		}
		c.arrived.Signal()
	}()
	if err != nil {
		return nil, err
	}
	child := &Child{Pid: pid, Done: make(chan struct{})}
	if exit, ended := c.early[pid]; ended {
		child.Exit = exit
		close(child.Done)
		return child, nil
	}
	c.alive[pid] = child
	return child, nil
}

// Signal sends to the child, or to its whole process group. ESRCH when it has been reaped.
func (c *Children) Signal(child *Child, signal syscall.Signal, group bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alive[child.Pid] != child {
		return syscall.ESRCH
	}
	if group {
		return syscall.Kill(-child.Pid, signal)
	}
	return syscall.Kill(child.Pid, signal)
}

// SignalGroupLeft sends to what is left of an ended child's process group; used only shortly after its end.
func (c *Children) SignalGroupLeft(child *Child, signal syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, reused := c.alive[child.Pid]; !reused {
		_ = syscall.Kill(-child.Pid, signal) // ESRCH is the usual answer: the group ended with its leader
	}
}

func (c *Children) reap() {
	for {
		pid, err := peekEnded()
		switch err {
		case nil:
			c.settle(pid)
		case syscall.EINTR:
		case syscall.ECHILD:
			c.awaitArrival()
		default:
			panic("waitid: " + err.Error()) // only a programming error gives EINVAL
		}
	}
}

// settle reaps one ended process and tells its owner, if it has one.
func (c *Children) settle(pid int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var status syscall.WaitStatus
	reaped, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
	if err != nil || reaped != pid {
		return
	}
	exit := exitOf(status)
	if child, known := c.alive[pid]; known {
		delete(c.alive, pid)
		child.Exit = exit
		close(child.Done)
	} else if c.starting > 0 {
		c.early[pid] = exit
	}
}

// awaitArrival returns when a child exists. An orphan cannot arrive while there is no child at all.
func (c *Children) awaitArrival() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.alive) == 0 {
		c.arrived.Wait()
	}
}

func exitOf(status syscall.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Code: 128 + int(status.Signal()), Signal: status.Signal()}
	}
	return Exit{Code: status.ExitStatus()}
}

// peekEnded waits for any child to end and leaves it a zombie.
func peekEnded() (int, error) {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
	if err != nil {
		return 0, err
	}
	// On 64-bit Linux si_pid follows the three leading int32 and four bytes of padding.
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(&info), 16))), nil
}

// BecomeReaper makes orphans of our descendants our children when we are not PID 1.
func BecomeReaper() error {
	if os.Getpid() == 1 {
		return nil
	}
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}
