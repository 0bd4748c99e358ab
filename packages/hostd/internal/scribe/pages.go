package scribe

import (
	"runtime"
	"sync"

	"gvisor.dev/gvisor/pkg/sentry/state/stateio"

	"torpor.dev/hostd/internal/image"
)

// How a sentry may use a file: pieces of one chunk each, made up of as many ranges as a chunk has pages, so many under way at once.
const (
	rangesMax   = image.ChunkSize / 4096
	parallelMax = 32
)

// pages are a few routines that seal or open chunks, for all files together: as many as there are processors.
type pages struct{ work chan func() }

func startPages() *pages {
	p := &pages{work: make(chan func(), parallelMax*len(Files))}
	for range runtime.NumCPU() {
		go func() {
			for act := range p.work {
				act()
			}
		}()
	}
	return p
}

// flight is what one file has under way. All but the work itself is called by one routine.
type flight struct {
	stateio.NoRegisterClientFD
	pages  *pages
	under  int
	flying sync.WaitGroup
	done   chan stateio.Completion
}

func newFlight(pages *pages) *flight {
	return &flight{pages: pages, done: make(chan stateio.Completion, parallelMax)}
}

func (f *flight) MaxRanges() int   { return rangesMax }
func (f *flight) MaxParallel() int { return parallelMax }

func (f *flight) add(work func() stateio.Completion) {
	f.under++
	f.flying.Add(1)
	f.pages.work <- func() {
		defer f.flying.Done()
		f.done <- work()
	}
}

// Wait lets half of what is under way be done before the sentry hears of any: each time costs a change to its process and
// back, for which a busy host lets it wait, and the other half keeps the processors busy meanwhile.
func (f *flight) Wait(into []stateio.Completion, least int) ([]stateio.Completion, error) {
	before := len(into)
	out, err := stateio.CompletionChanWait(f.done, into, max(least, f.under/2))
	f.under -= len(out) - before
	return out, err
}

// Close returns when nothing touches the sentry's memory any more.
func (f *flight) Close() error {
	f.flying.Wait()
	return nil
}
