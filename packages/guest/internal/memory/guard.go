package memory

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// When the memory of an instance reaches its limit, the host ends the whole sandbox: everything is lost. The guard ends the
// largest program before that. It looks only while programs run, and the more often the less memory is left, as if the worst
// program had just begun: so a pool that waits and a sandbox without programs cost nothing.

const (
	// worstGrowth is how fast a program may fill memory, in bytes per second.
	worstGrowth = 2 << 30
	lookFirst   = 20 * time.Millisecond
	lookLast    = 2 * time.Second
	// victimLeast: ending anything smaller would not help.
	victimLeast = 16 << 20
	// goneLimit is how long an ended program may take to give its memory back before another is ended.
	goneLimit = 2 * time.Second
)

// Reserve is what must stay free: the kernel's own memory around the programs, and what a program takes between two looks.
func Reserve(limit int64) int64 { return 32<<20 + limit/25 }

// Guard watches over one instance.
type Guard struct {
	limit  int64
	idle   func(pid int) bool
	ending func(Program)

	mu      sync.Mutex
	looking bool
	again   bool // a program was started since the last look
}

// NewGuard calls ending just before it kills a program. A process that is idle does not count as one.
func NewGuard(limit int64, idle func(pid int) bool, ending func(Program)) *Guard {
	return &Guard{limit: limit, idle: idle, ending: ending}
}

// Started says that a program was started, so there is something to watch.
func (g *Guard) Started() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.again = true
	if !g.looking {
		g.looking = true
		go g.look()
	}
}

func (g *Guard) look() {
	time.Sleep(lookFirst) // most commands end before, and should not pay for a look
	for g.wanted() {
		use, err := Read()
		if err != nil {
			time.Sleep(lookLast) // no descriptors left, most likely; the next look may succeed
			continue
		}
		spare := spareOf(use, g.limit)
		if spare < 0 {
			g.endLargest()
		}
		time.Sleep(pauseFor(spare))
	}
}

// spareOf is how much programs may still take; below 0 something must end.
func spareOf(use Use, limit int64) int64 {
	used := use.Total - use.Available
	return limit - used - Reserve(limit)
}

// pauseFor is the time in which the worst program could take half of what is spare.
func pauseFor(spare int64) time.Duration {
	pause := time.Duration(float64(max(spare, 0)) / 2 / worstGrowth * float64(time.Second))
	return min(max(pause, lookFirst), lookLast)
}

// wanted says whether to look once more: not when no program is left.
func (g *Guard) wanted() bool {
	g.mu.Lock()
	started := g.again
	g.again = false
	g.mu.Unlock()
	if started || len(programs(g.idle)) > 0 {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looking = g.again
	return g.looking
}

func (g *Guard) endLargest() {
	victim, found := largest(programs(g.idle))
	if !found {
		return
	}
	g.ending(victim)
	if syscall.Kill(victim.Pid, syscall.SIGKILL) != nil {
		return // it ended by itself
	}
	deadline := time.Now().Add(goneLimit)
	for time.Now().Before(deadline) {
		if _, err := os.Stat(procPath(victim.Pid, "stat")); err != nil {
			return
		}
		time.Sleep(lookFirst)
	}
}

func largest(programs []Program) (Program, bool) {
	var found Program
	for _, program := range programs {
		if program.ResidentBytes > found.ResidentBytes {
			found = program
		}
	}
	return found, found.ResidentBytes >= victimLeast
}
