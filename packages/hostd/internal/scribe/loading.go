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
	// memories are the sentry's files that it has chunks written to.
	memories []*os.File
}

func (f *loadedFile) MaxReadBytes() uint64 { return image.ChunkSize }

// RegisterDestinationFD keeps a file of the sentry's: writing to it costs half of what touching each of its pages for the
// first time through a mapping does, which would also clear what is about to be overwritten.
func (f *loadedFile) RegisterDestinationFD(descriptor int32, _ uint64, _ []stateio.ClientFileRangeSetting) (stateio.DestinationFile, error) {
	own, err := unix.FcntlInt(uintptr(descriptor), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, f.of.lose(fmt.Errorf("keeping the sentry's memory for %s: %w", f.role, err))
	}
	memory := os.NewFile(uintptr(own), "the sentry's memory")
	f.memories = append(f.memories, memory)
	return memory, nil
}

func (f *loadedFile) AddRead(id int, offset int64, to stateio.DestinationFile, at memmap.FileRange, _ []byte) {
	f.get(id, offset, to.(*os.File), at)
}

func (f *loadedFile) AddReadv(id int, offset int64, _ uint64, to stateio.DestinationFile, at []memmap.FileRange, _ []unix.Iovec) {
	f.get(id, offset, to.(*os.File), at...)
}

func (f *loadedFile) get(id int, offset int64, to *os.File, at ...memmap.FileRange) {
	f.add(func() stateio.Completion {
		n, err := f.fill(to, at, uint64(offset))
		if err != nil && err != io.EOF {
			err = f.of.lose(fmt.Errorf("%s: %w", f.role, err))
		}
		return stateio.Completion{ID: id, N: n, Err: err}
	})
}

// fill writes what begins at offset to the ranges, one after another; they come to no more than a chunk.
func (f *loadedFile) fill(to *os.File, at []memmap.FileRange, offset uint64) (uint64, error) {
	use := plains.Get().(*[image.ChunkSize]byte)
	defer plains.Put(use)
	wanted := uint64(0)
	for _, each := range at {
		wanted += each.Length()
	}
	got, err := f.reader.ReadAt(offset, use[:wanted])
	if err != nil && err != io.EOF {
		return 0, err
	}
	left := use[:got]
	for _, each := range at {
		n := min(each.Length(), uint64(len(left)))
		if _, err := to.WriteAt(left[:n], int64(each.Start)); err != nil {
			return 0, fmt.Errorf("giving the sentry its memory: %w", err)
		}
		left = left[n:]
	}
	return uint64(got), err
}

// Close returns when nothing of the sentry's is written to any more.
func (f *loadedFile) Close() error {
	err := f.flight.Close()
	for _, memory := range f.memories {
		memory.Close()
	}
	return err
}

// plains hold a chunk each, that was just opened.
var plains = sync.Pool{New: func() any { return new([image.ChunkSize]byte) }}
