package scribe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/wire"
)

// Scribes keeps a few ready, since starting one would cost a wake some tens of milliseconds.
type Scribes struct {
	emptyRoot string
	ready     chan *scribe
}

type scribe struct {
	process *exec.Cmd
	ended   chan struct{}
	socket  *net.UnixConn
}

// NewScribes starts count of them in the background. emptyRoot is a directory with nothing in it.
func NewScribes(emptyRoot string, count int) *Scribes {
	s := &Scribes{emptyRoot: emptyRoot, ready: make(chan *scribe, count)}
	for range count {
		go s.refill()
	}
	return s
}

// refill puts one more at the ready, or throws it away when there are enough. One that cannot be started is started when it is needed.
func (s *Scribes) refill() {
	fresh, err := s.start()
	if err != nil {
		return
	}
	select {
	case s.ready <- fresh:
	default:
		fresh.end()
	}
}

func (s *Scribes) start() (*scribe, error) {
	ours, theirs, err := pair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	socket, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("using a scribe's socket: %w", err)
	}
	process := exec.Command("/proc/self/exe", "scribe", s.emptyRoot)
	process.ExtraFiles = []*os.File{theirs}
	process.Env = []string{"GOGC=off", "GOMEMLIMIT=64MiB"} // It does one job and ends: what it leaves behind is not worth collecting.
	process.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
	}
	if err := process.Start(); err != nil {
		socket.Close()
		return nil, fmt.Errorf("starting a scribe: %w", err)
	}
	ended := make(chan struct{})
	go func() { process.Wait(); close(ended) }()
	return &scribe{process: process, ended: ended, socket: socket.(*net.UnixConn)}, nil
}

func (w *scribe) end() { w.socket.Close() }

func pair(kind int) (ours, theirs *os.File, err error) {
	made, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a pair of sockets: %w", err)
	}
	return os.NewFile(uintptr(made[0]), "ours"), os.NewFile(uintptr(made[1]), "theirs"), nil
}

// Task is a job under way.
type Task struct {
	// Sentry is the end of the socket that the sentry is given; nil when none takes part.
	Sentry *os.File
	pool   *Scribes
	worker *scribe
	once   sync.Once
}

// Begin sets a scribe to work on the files. Lock, the instance's, is held by the scribe too, so that a successor of a killed
// hostd waits for it; nil means that no sentry takes part. Prepare, when not nil, is called with the scribe's pid beforehand.
func (s *Scribes) Begin(job Job, files []*os.File, lock *os.File, prepare func(pid int) error) (*Task, error) {
	task := &Task{pool: s}
	given := append([]*os.File{}, files...)
	if lock != nil {
		sentry, theirs, err := pair(unix.SOCK_STREAM)
		if err != nil {
			return nil, err
		}
		defer theirs.Close()
		task.Sentry = sentry
		given = append(given, theirs, lock)
	}
	if err := task.begin(job, given, prepare); err != nil {
		task.Close()
		return nil, err
	}
	return task, nil
}

// begin tries another scribe when the first has died while it waited.
func (t *Task) begin(job Job, given []*os.File, prepare func(pid int) error) error {
	message, err := json.Marshal(job)
	if err != nil {
		return err
	}
	var rights []int
	for _, file := range given {
		rights = append(rights, int(file.Fd()))
	}
	for try := 0; ; try++ {
		if err := t.take(try > 0); err != nil {
			return err
		}
		err := error(nil)
		if prepare != nil {
			err = prepare(t.worker.process.Process.Pid)
		}
		if err == nil {
			_, _, err = t.worker.socket.WriteMsgUnix(message, unix.UnixRights(rights...), nil)
		}
		if err == nil || try > 0 {
			return err
		}
		t.worker.end()
	}
}

func (t *Task) take(fresh bool) (err error) {
	if !fresh {
		select {
		case t.worker = <-t.pool.ready:
			return nil
		default:
		}
	}
	t.worker, err = t.pool.start()
	return err
}

// Discard has a save under way write nothing more.
func (t *Task) Discard() { t.worker.socket.Write([]byte(discard)) }

// Outcome waits for the scribe's word. It is an error only when there is none.
func (t *Task) Outcome(ctx context.Context) (Outcome, error) {
	stop := context.AfterFunc(ctx, func() { t.worker.socket.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buffer := make([]byte, 64<<10)
	n, err := t.worker.socket.Read(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Outcome{}, wire.Errorf(wire.Deadline, "the image's files were not done with in time")
	}
	if err != nil || n == 0 {
		return Outcome{}, fmt.Errorf("the process that handles the image's files ended without a word (%v)", err)
	}
	var said Outcome
	return said, json.Unmarshal(buffer[:n], &said)
}

// refillAfter is how long a place stays empty: what was just woken wants the processors more.
const refillAfter = 500 * time.Millisecond

// Close lets the scribe go, and readies another.
func (t *Task) Close() {
	t.once.Do(func() {
		if t.Sentry != nil {
			t.Sentry.Close()
		}
		if t.worker != nil {
			t.worker.end()
		}
		time.AfterFunc(refillAfter, t.pool.refill)
	})
}

// Kill ends it, whatever it does, and returns when it is gone.
func (t *Task) Kill() {
	if t.worker != nil {
		t.worker.process.Process.Kill()
		<-t.worker.ended
	}
	t.Close()
}
