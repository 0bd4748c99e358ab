package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/specutils"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/thread"
	"torpor.dev/hostd/internal/wire"
)

// A spawner is a child of hostd that makes sandboxes, one at a time. It exists because on cgroup v1 a process is
// started inside a group by joining the group first, with all one's threads: hostd itself must never be a member of
// a tenant's group, nor can it be in two at once. It holds the instance's file lock while it works, so that a hostd
// that comes after a killed one waits for it. When its socket closes it ends.

// birth is what a spawner is asked for, and life what it answers. A spawner may be of an earlier hostd than the one that asks: fields are only added, and
// what an earlier one does not know is asked of none.
type birth struct {
	ID     string `json:"id"`
	Bundle string `json:"bundle"`
	// Restore has it bring a shell back instead, from the socket that comes with the request.
	Restore    bool `json:"restore,omitempty"`
	Background bool `json:"background,omitempty"`
}

type life struct {
	Pid      int    `json:"pid"`
	GoferPid int    `json:"goferPid"`
	Err      string `json:"err,omitempty"`
}

// spawnDeadline bounds a create whose client gave none that is shorter.
const spawnDeadline = 20 * time.Second

// birthsMax is after how many a spawner is replaced, which bounds whatever a library leaks in it.
const birthsMax = 64

// Spawners keeps a few ready.
type Spawners struct {
	hostd string
	runsc Runsc
	ready chan *spawner
}

type spawner struct {
	process *os.Process
	ended   chan struct{}
	socket  *net.UnixConn
	births  int
}

// NewSpawners starts count spawners of a hostd in the background.
func NewSpawners(hostd string, runsc Runsc, count int) *Spawners {
	s := &Spawners{hostd: hostd, runsc: runsc, ready: make(chan *spawner, count)}
	for range count {
		go s.replace(nil)
	}
	return s
}

// replace ends one spawner and puts a new one in its place. A place is never lost: without a process it is filled at the next use.
func (s *Spawners) replace(old *spawner) {
	if old != nil {
		old.end()
	}
	fresh, err := s.start()
	if err != nil {
		fresh = &spawner{}
	}
	s.ready <- fresh
}

func (s *Spawners) start() (*spawner, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a spawner's socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "spawner"), os.NewFile(uintptr(pair[1]), "hostd")
	defer ours.Close()
	defer theirs.Close()
	socket, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("using a spawner's socket: %w", err)
	}
	process := exec.Command(s.hostd, "spawn", s.runsc.Binary, s.runsc.Root, s.runsc.Bundles)
	process.ExtraFiles = []*os.File{theirs}
	// Sandboxes inherit what a spawner has: nothing of the host's environment, and no terminal.
	process.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	process.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := process.Start(); err != nil {
		socket.Close()
		return nil, fmt.Errorf("starting a spawner: %w", err)
	}
	ended := make(chan struct{})
	go func() { process.Wait(); close(ended) }()
	return &spawner{process: process.Process, ended: ended, socket: socket.(*net.UnixConn)}, nil
}

// end lets it finish by itself: its socket is closed, which it notices when it is done.
func (w *spawner) end() {
	if w.process != nil {
		w.socket.Close()
	}
}

// kill returns when it is gone. What it had started is in the sandbox's cgroup, where a cleanup finds it.
func (w *spawner) kill() {
	if w.process != nil {
		w.process.Kill()
		<-w.ended
		w.socket.Close()
		w.process = nil
	}
}

// Spawn has a sandbox made or restored; the lock, the first of the files, is held by whoever does it.
func (s *Spawners) Spawn(ctx context.Context, asked birth, files ...*os.File) (life, error) {
	id := asked.ID
	var chosen *spawner
	select {
	case chosen = <-s.ready:
	case <-ctx.Done():
		return life{}, wire.Errorf(wire.Busy, "no spawner became free in time for sandbox %s", id)
	}
	made, err := s.askWith(ctx, chosen, asked, files)
	if err != nil {
		chosen.kill() // Else it could go on making what the caller now cleans up.
	}
	if chosen.births++; err != nil || made.Err != "" || chosen.births >= birthsMax {
		go s.replace(chosen)
	} else {
		s.ready <- chosen
	}
	if err != nil {
		return life{}, fmt.Errorf("asking a spawner for sandbox %s: %w", id, err)
	}
	if made.Err != "" {
		return life{}, fmt.Errorf("making sandbox %s: runsc says: %s", id, made.Err)
	}
	return made, nil
}

// askWith fills an empty place first, and a place whose spawner has died meanwhile: such a one was asked nothing yet.
func (s *Spawners) askWith(ctx context.Context, chosen *spawner, ask birth, files []*os.File) (life, error) {
	if chosen.process != nil {
		made, err := chosen.ask(ctx, ask, files)
		if !errors.Is(err, unix.EPIPE) {
			return made, err
		}
		chosen.kill()
	}
	fresh, err := s.start()
	if err != nil {
		return life{}, err
	}
	*chosen = *fresh
	return chosen.ask(ctx, ask, files)
}

func (w *spawner) ask(ctx context.Context, ask birth, files []*os.File) (life, error) {
	message, err := json.Marshal(ask)
	if err != nil {
		return life{}, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		w.socket.SetDeadline(deadline)
	}
	rights := make([]int, len(files))
	for at, file := range files {
		rights[at] = int(file.Fd())
	}
	if _, _, err := w.socket.WriteMsgUnix(message, unix.UnixRights(rights...), nil); err != nil {
		return life{}, err
	}
	buffer := make([]byte, 64<<10)
	n, err := w.socket.Read(buffer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return life{}, wire.Errorf(wire.Deadline, "the sandbox was not made in time")
	}
	if err != nil {
		return life{}, err
	}
	var made life
	return made, json.Unmarshal(buffer[:n], &made)
}

// RunSpawner is the child's whole life: the socket is file descriptor 3.
func RunSpawner(runsc Runsc) error {
	conf, err := runsc.configure()
	if err != nil {
		return err
	}
	given := os.NewFile(3, "hostd")
	generic, err := net.FileConn(given)
	if err != nil {
		return fmt.Errorf("using hostd's socket: %w", err)
	}
	given.Close() // By its owner: closed behind its back, its finalizer would one day close whatever is number 3 by then.
	socket := generic.(*net.UnixConn)
	var busy sync.Mutex
	var births births
	go reapAll(&busy, &births)
	for {
		ask, files, err := receive(socket)
		if err != nil {
			return nil // hostd is gone or has no more use for us.
		}
		busy.Lock()
		var made life
		if ask.Restore {
			made = comeBack(conf, ask, files)
		} else {
			made = bear(conf, ask)
			births.remember(made.Pid, ask.Bundle)
		}
		busy.Unlock()
		for _, file := range files {
			file.Close()
		}
		answer, err := json.Marshal(made)
		if err != nil {
			return err
		}
		if _, err := socket.Write(answer); err != nil {
			return nil
		}
	}
}

// filesMax come with a request: the lock, and where a restore reads from.
const filesMax = 2

func receive(socket *net.UnixConn) (birth, []*os.File, error) {
	message, rights := make([]byte, 8<<10), make([]byte, unix.CmsgSpace(4*filesMax))
	n, rn, _, _, err := socket.ReadMsgUnix(message, rights)
	if err != nil || n == 0 {
		return birth{}, nil, net.ErrClosed
	}
	var ask birth
	if err := json.Unmarshal(message[:n], &ask); err != nil {
		return birth{}, nil, err
	}
	headers, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil || len(headers) != 1 {
		return birth{}, nil, errors.New("no lock came with the request")
	}
	numbers, err := unix.ParseUnixRights(&headers[0])
	if err != nil || len(numbers) == 0 {
		return birth{}, nil, errors.New("no lock came with the request")
	}
	files := make([]*os.File, len(numbers))
	for at, number := range numbers {
		unix.CloseOnExec(number)
		files[at] = os.NewFile(uintptr(number), "from hostd")
	}
	return ask, files, nil
}

func bear(conf *config.Config, ask birth) life {
	spec, err := specutils.ReadSpec(ask.Bundle, conf)
	if err != nil {
		return life{Err: err.Error()}
	}
	made, err := container.New(conf, container.Args{ID: ask.ID, Spec: spec, BundleDir: ask.Bundle})
	if err != nil {
		return life{Err: err.Error()}
	}
	return life{Pid: made.SandboxPid(), GoferPid: made.GoferPid.Load()}
}

func comeBack(conf *config.Config, ask birth, files []*os.File) life {
	if len(files) != filesMax {
		return life{Err: "no socket came with the request to restore"}
	}
	loaded, err := container.Load(conf.RootDir, fullID(names.ID(ask.ID)), container.LoadOpts{Exact: true, SkipCheck: true})
	if err == nil {
		err = thread.Alone(func() error { return restore(loaded, conf, Image{Socket: files[1], Background: ask.Background}) })
	}
	if err != nil {
		return life{Err: err.Error()}
	}
	return life{Pid: loaded.SandboxPid()}
}

// reapAll collects sandboxes that end while their spawner lives; busy keeps it from a child that runsc itself waits for.
func reapAll(busy *sync.Mutex, births *births) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	for range ended {
		busy.Lock()
		for pid := endedChild(); pid != 0; pid = endedChild() {
			births.bury(pid)
		}
		busy.Unlock()
	}
}
