package scribe

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sentry/memmap"
	"gvisor.dev/gvisor/pkg/sentry/state/stateio"

	"torpor.dev/hostd/internal/image"
)

// loading gives one sentry what it asks for, each chunk checked before the sentry hears that it is there.
type loading struct {
	job   Job
	files []*os.File
	pages *pages
	mutex sync.Mutex
	lost  error
	// failed closes with the first failure, so that hostd hears of it whatever the sentry does next.
	failed chan struct{}
}

func newLoading(job Job, files []*os.File) *loading {
	return &loading{job: job, files: files, pages: startPages(), failed: make(chan struct{})}
}

func (l *loading) lose(why error) error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.lost == nil {
		l.lost = why
		close(l.failed)
	}
	return unix.EIO
}

func (l *loading) outcome(err error) Outcome {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.lost != nil {
		return outcomeOf(l.lost)
	}
	if err != nil {
		return outcomeOf(err)
	}
	return Outcome{}
}

// Destroy implements stateipc.AsyncFileServerImpl.
func (l *loading) Destroy() {}

// OpenWrite implements stateipc.AsyncFileServerImpl: an image is never changed.
func (l *loading) OpenWrite(string) (stateio.AsyncWriter, error) { return nil, unix.EACCES }

// OpenRead implements stateipc.AsyncFileServerImpl.
func (l *loading) OpenRead(role string) (stateio.AsyncReader, error) {
	number := slices.Index(Files, role)
	if number < 0 {
		return nil, unix.ENOENT
	}
	reader, err := image.NewReader(l.files[number], l.job.Key, image.Name{Image: l.job.Image, Role: role})
	if err != nil {
		return nil, l.lose(fmt.Errorf("%s: %w", role, err))
	}
	return &loadedFile{flight: newFlight(l.pages), of: l, role: role, reader: reader}, nil
}

type loadedFile struct {
	*flight
	of     *loading
	role   string
	reader *image.Reader
}

func (f *loadedFile) MaxReadBytes() uint64 { return image.ChunkSize }

func (f *loadedFile) AddRead(id int, offset int64, _ stateio.DestinationFile, _ memmap.FileRange, into []byte) {
	f.get(id, offset, into)
}

func (f *loadedFile) AddReadv(id int, offset int64, _ uint64, _ stateio.DestinationFile, _ []memmap.FileRange, into []unix.Iovec) {
	pieces := make([][]byte, len(into))
	for i, piece := range into {
		pieces[i] = stateio.SliceFromIovec(piece)
	}
	f.get(id, offset, pieces...)
}

func (f *loadedFile) get(id int, offset int64, pieces ...[]byte) {
	f.add(func() stateio.Completion {
		n, err := f.reader.ReadAt(uint64(offset), pieces...)
		if err != nil && err != io.EOF {
			err = f.of.lose(fmt.Errorf("%s: %w", f.role, err))
		}
		return stateio.Completion{ID: id, N: uint64(n), Err: err}
	})
}
