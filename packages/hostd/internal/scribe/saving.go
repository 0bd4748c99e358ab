package scribe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sentry/memmap"
	"gvisor.dev/gvisor/pkg/sentry/state/stateio"

	"torpor.dev/hostd/internal/image"
)

// saving takes in what one sentry saves.
//
// A sentry whose save fails does not always live on, and it is the only copy of its tenant's memory. So it never hears of
// a failure here: what cannot be written is let fall, the sentry is told that all is well, and hostd is told the truth.
type saving struct {
	job   Job
	files []*os.File
	pages *pages
	mutex sync.Mutex
	lost  error
	sums  map[string]image.Sum
	// finished closes when the last file is.
	finished chan struct{}
}

func newSaving(job Job, files []*os.File) *saving {
	return &saving{job: job, files: files, pages: startPages(), sums: map[string]image.Sum{}, finished: make(chan struct{})}
}

// listen waits for hostd to lose interest, or to die. It ends with the process.
func (s *saving) listen(hostd *net.UnixConn) {
	hostd.Read(make([]byte, len(discard)))
	s.lose(errors.New("the save was given up before it was done"))
}

func (s *saving) lose(why error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.lost == nil && len(s.sums) < len(Files) {
		s.lost = why
	}
}

func (s *saving) isLost() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.lost != nil
}

func (s *saving) outcome(err error) Outcome {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	switch {
	case s.lost != nil:
		return outcomeOf(s.lost)
	case err != nil:
		return outcomeOf(err)
	}
	var sums []image.Sum
	for _, role := range Files {
		sum, whole := s.sums[role]
		if !whole {
			return outcomeOf(fmt.Errorf("the sentry did not finish %s", role))
		}
		sums = append(sums, sum)
	}
	return Outcome{Sums: sums}
}

// Destroy implements stateipc.AsyncFileServerImpl.
func (s *saving) Destroy() {}

// OpenRead implements stateipc.AsyncFileServerImpl: nothing is given to a sentry that saves.
func (s *saving) OpenRead(string) (stateio.AsyncReader, error) { return nil, unix.EACCES }

// OpenWrite implements stateipc.AsyncFileServerImpl.
func (s *saving) OpenWrite(role string) (stateio.AsyncWriter, error) {
	number := slices.Index(Files, role)
	if number < 0 {
		return nil, unix.ENOENT
	}
	writer, err := image.NewWriter(s.files[number], s.job.Key, image.Name{Image: s.job.Image, Role: role}, s.job.Compress)
	if err != nil {
		s.lose(err)
	}
	return &savedFile{flight: newFlight(s.pages), of: s, role: role, writer: writer}, nil
}

// savedFile is one file as the sentry sees it. Chunks are numbered as they are added, so they may be written in any order.
type savedFile struct {
	*flight
	of     *saving
	role   string
	writer *image.Writer
	next   uint64
}

func (f *savedFile) MaxWriteBytes() uint64 { return image.ChunkSize }
func (f *savedFile) Reserve(uint64)        {}

func (f *savedFile) AddWrite(id int, _ stateio.SourceFile, _ memmap.FileRange, from []byte) {
	f.put(id, uint64(len(from)), from)
}

func (f *savedFile) AddWritev(id int, total uint64, _ stateio.SourceFile, _ []memmap.FileRange, from []unix.Iovec) {
	pieces := make([][]byte, len(from))
	for i, piece := range from {
		pieces[i] = stateio.SliceFromIovec(piece)
	}
	f.put(id, total, pieces...)
}

func (f *savedFile) put(id int, total uint64, pieces ...[]byte) {
	number := f.next
	f.next++
	f.add(func() stateio.Completion {
		if !f.of.isLost() {
			if err := f.writer.Put(number, pieces...); err != nil {
				f.of.lose(fmt.Errorf("%s: %w", f.role, err))
			}
		}
		return stateio.Completion{ID: id, N: total}
	})
}

// Finalize comes when nothing is under way.
func (f *savedFile) Finalize() error {
	if f.of.isLost() {
		return nil
	}
	sum, err := f.writer.Finish()
	if err != nil {
		f.of.lose(fmt.Errorf("%s: %w", f.role, err))
		return nil
	}
	f.of.mutex.Lock()
	defer f.of.mutex.Unlock()
	f.of.sums[f.role] = sum
	if len(f.of.sums) == len(Files) {
		close(f.of.finished)
	}
	return nil
}
