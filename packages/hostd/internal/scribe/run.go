package scribe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/sentry/state/stateipc"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"

	"torpor.dev/hostd/internal/image"
)

// Run is the child's whole life: the socket to hostd is file descriptor 3.
func Run(emptyRoot string) error {
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	given := os.NewFile(3, "hostd")
	generic, err := net.FileConn(given)
	if err != nil {
		return fmt.Errorf("using hostd's socket: %w", err)
	}
	given.Close()
	hostd := generic.(*net.UnixConn)
	if err := confine(emptyRoot); err != nil {
		return err
	}
	image.Warm()
	job, files, err := receive(hostd)
	if err != nil {
		return nil // hostd is gone or has no more use for us.
	}
	answer, err := json.Marshal(do(job, files, hostd))
	if err != nil {
		return err
	}
	for _, file := range files {
		file.Close() // The lock among them: what is asked of the instance next must not wait for our end.
	}
	if _, err := hostd.Write(answer); err != nil {
		return nil
	}
	io.Copy(io.Discard, hostd) // Until hostd lets go: the sentry may still be closing its files.
	return nil
}

// descriptorsMax is what comes with a job at most: files, sentry and lock.
const descriptorsMax = 5

func receive(hostd *net.UnixConn) (Job, []*os.File, error) {
	message, rights := make([]byte, 8<<10), make([]byte, unix.CmsgSpace(4*descriptorsMax))
	n, rn, _, _, err := hostd.ReadMsgUnix(message, rights)
	if err != nil || n == 0 {
		return Job{}, nil, net.ErrClosed
	}
	var job Job
	if err := json.Unmarshal(message[:n], &job); err != nil {
		return Job{}, nil, err
	}
	headers, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil || len(headers) != 1 {
		return Job{}, nil, errors.New("no files came with the job")
	}
	descriptors, err := unix.ParseUnixRights(&headers[0])
	if err != nil || len(descriptors) < len(Files) {
		return Job{}, nil, errors.New("too few files came with the job")
	}
	var files []*os.File
	for _, descriptor := range descriptors {
		unix.CloseOnExec(descriptor)
		files = append(files, os.NewFile(uintptr(descriptor), "given"))
	}
	return job, files, nil
}

func do(job Job, files []*os.File, hostd *net.UnixConn) Outcome {
	switch job.Work {
	case Verify:
		return verify(job, files)
	case Save:
		saving := newSaving(job, files)
		go saving.listen(hostd)
		err := serve(files[len(Files)], saving, saving.finished)
		return saving.outcome(err)
	case Load:
		loading := newLoading(job, files)
		err := serve(files[len(Files)], loading, loading.failed)
		return loading.outcome(err)
	}
	return outcomeOf(fmt.Errorf("work %q is not known", job.Work))
}

// serve answers the sentry until it hangs up or there is an outcome. What it then still asks is answered until the process ends.
func serve(socket *os.File, files stateipc.AsyncFileServerImpl, outcome <-chan struct{}) error {
	descriptor, err := unix.Dup(int(socket.Fd()))
	if err != nil {
		return fmt.Errorf("using the sentry's socket: %w", err)
	}
	socket.Close()
	sentry, err := unet.NewSocket(descriptor)
	if err != nil {
		return fmt.Errorf("using the sentry's socket: %w", err)
	}
	handler, err := stateipc.NewAsyncFileServer(files)
	if err != nil {
		return fmt.Errorf("readying files for the sentry: %w", err)
	}
	server := urpc.NewServer()
	server.Register(handler)
	hungUp := make(chan struct{})
	go func() { server.Handle(sentry); close(hungUp) }()
	select {
	case <-hungUp:
	case <-outcome:
	}
	return nil
}

func verify(job Job, files []*os.File) Outcome {
	var sums []image.Sum
	for i, role := range Files {
		// What was synced is dropped from the page cache, so that it is the disk that is read.
		if err := unix.Fadvise(int(files[i].Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return outcomeOf(fmt.Errorf("dropping %s from the page cache: %w", role, err))
		}
		reader, err := image.NewReader(files[i], job.Key, image.Name{Image: job.Image, Role: role})
		if err != nil {
			return outcomeOf(fmt.Errorf("%s: %w", role, err))
		}
		sum, err := reader.Verify()
		if err != nil {
			return outcomeOf(fmt.Errorf("%s: %w", role, err))
		}
		sums = append(sums, sum)
	}
	return Outcome{Sums: sums}
}

func outcomeOf(err error) Outcome {
	why := Failed
	switch {
	case errors.Is(err, image.ErrRefused):
		why = Refused
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		why = NoSpace
	case errors.Is(err, unix.EIO):
		why = Unreadable
	}
	return Outcome{Err: err.Error(), Why: why}
}
