package process

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/output"
)

// pumps read the streams of one incarnation into the log, until every stream ended.
//
// Both streams are read by one goroutine in the order in which the kernel says they became readable, so that lines
// that a program writes to stdout and then to stderr are kept in that order. Hence an epoll of our own, which itself waits in the
// runtime's poller and so holds no thread.
type pumps struct {
	log      *output.Log
	epoll    *os.File
	streams  map[int32]output.Stream // by descriptor, the open ones
	buffer   []byte
	input    *os.File      // what belongs to the same ends; see kept
	done     chan struct{} // closed when every stream ended
	lastByte atomic.Int64  // unix nanoseconds
}

const pumpBytes = 32 << 10

// openPumps takes over the reading ends. Nothing is read before run.
func openPumps(from kept) (*pumps, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll: %w", err)
	}
	opened := &pumps{epoll: pollable(epoll, "epoll"), streams: map[int32]output.Stream{}, input: from.input, done: make(chan struct{})}
	for fd, stream := range map[int]output.Stream{from.stdout: output.Stdout, from.stderr: output.Stderr} {
		if fd < 0 {
			continue
		}
		// The descriptors stay blocking: they are read only when the epoll says so.
		err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		if err != nil {
			opened.epoll.Close()
			return nil, fmt.Errorf("watch the output: %w", err)
		}
		opened.streams[int32(fd)] = stream
	}
	return opened, nil
}

// abandon closes pumps that never ran.
func (r *pumps) abandon() {
	r.epoll.Close()
	for fd := range r.streams {
		syscall.Close(int(fd))
	}
	if r.input != nil {
		r.input.Close()
	}
}

func (r *pumps) run(log *output.Log) {
	r.log, r.buffer = log, make([]byte, pumpBytes)
	defer close(r.done)
	defer r.epoll.Close()
	waiting, err := r.epoll.SyscallConn()
	if err != nil {
		return // only a closed file has none
	}
	for len(r.streams) > 0 {
		if waiting.Read(r.pumpReady) != nil {
			return
		}
	}
	r.buffer = nil
}

// pumpReady reads what is ready now. False means: wait for more.
func (r *pumps) pumpReady(epoll uintptr) bool {
	var events [2]unix.EpollEvent
	count, err := unix.EpollWait(int(epoll), events[:], 0)
	if err != nil && !errors.Is(err, syscall.EINTR) {
		return true
	}
	for _, event := range events[:max(count, 0)] {
		r.pump(event.Fd)
	}
	return count != 0
}

func (r *pumps) pump(fd int32) {
	count, err := syscall.Read(int(fd), r.buffer)
	if count > 0 {
		r.log.Append(r.streams[fd], r.buffer[:count])
		r.lastByte.Store(time.Now().UnixNano())
		return
	}
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	// EOF, or EIO of a terminal that nobody has open any more. Closing takes it out of the epoll.
	syscall.Close(int(fd))
	delete(r.streams, fd)
}

// drain waits for the end of the streams, or for silence on them, or at most drainMax.
func (r *pumps) drain() {
	select {
	case <-r.done:
		return
	default:
	}
	begun := time.Now()
	wait := time.NewTimer(silence)
	defer wait.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-wait.C:
		}
		quiet := time.Since(later(begun, time.Unix(0, r.lastByte.Load())))
		if quiet >= silence || time.Since(begun) >= drainMax {
			return
		}
		wait.Reset(silence - quiet)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
