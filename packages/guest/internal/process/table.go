// Package process keeps the programs that callers asked for: it starts them, restarts them, limits them, and remembers how they ended.
package process

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
	"torpor/guest/internal/output"
	"torpor/guest/internal/spawn"
)

const (
	// exitedKept is how many ended processes are remembered.
	exitedKept = 1000
	// streamBytes is the cap of one stream of one process.
	streamBytes = 32 << 20
)

// Table is every process of the instance, in the order of their start.
type Table struct {
	children    *spawn.Children
	ready       *Ready
	spare       *spare
	book        *account.Book
	template    map[string]string
	dir         string
	Started     func() // called after each start
	outputBytes int64  // all outputs together; the oldest ended ones go first

	mu      sync.Mutex
	all     []*Process
	byID    map[string]*Process
	count   int
	running int
	awake   int
	idle    chan struct{} // closed and replaced when the last keep-alive process ends
	names   map[string]*Process
}

// NewTable keeps outputs below dir, outputBytes in total at most.
func NewTable(children *spawn.Children, ready *Ready, book *account.Book, template map[string]string, dir string, outputBytes int64) *Table {
	table := &Table{
		Started:  func() {},
		children: children, ready: ready, spare: &spare{}, book: book, template: template, dir: dir, outputBytes: outputBytes,
		byID: map[string]*Process{}, names: map[string]*Process{}, idle: make(chan struct{}),
	}
	table.spare.refill()
	return table
}

// Start starts a process. A name may be used by one running process only.
func (t *Table) Start(ask Ask, around Surroundings) (*Process, error) {
	if err := check(ask); err != nil {
		return nil, err
	}
	program, err := resolve(ask, around, t.template, t.book)
	if err != nil {
		return nil, err
	}
	process, err := t.enter(ask, program)
	if err != nil {
		return nil, err
	}
	process.startedAt = time.Now()
	child, pumps, err := process.launch()
	if err != nil {
		t.withdraw(process)
		return nil, err
	}
	t.list(process)
	t.Started()
	process.begin(child, pumps, func() { t.ended(process) })
	return process, nil
}

// enter gives the process its id and reserves its name, before it exists.
func (t *Table) enter(ask Ask, program program) (*Process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, taken := t.names[ask.Name]; taken && ask.Name != "" {
		return nil, fault.Exists("a process named %q is running already", ask.Name)
	}
	t.count++
	id := "prc-" + strconv.Itoa(t.count)
	process := &Process{
		ID: id, ask: ask, program: program, children: t.children, ready: t.ready, spare: t.spare,
		Log:     output.NewLog(filepath.Join(t.dir, id), min(streamBytes, t.outputBytes/2)),
		settled: make(chan struct{}), stop: make(chan struct{}),
	}
	if ask.Name != "" {
		t.names[ask.Name] = process
	}
	t.running++
	if ask.KeepAlive {
		t.awake++
	}
	return process, nil
}

func (t *Table) list(process *Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[process.ID] = process
	t.all = append(t.all, process)
}

func (t *Table) withdraw(process *Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(process)
}

// release is called with the lock held, once per process.
func (t *Table) release(process *Process) {
	if t.names[process.ask.Name] == process {
		delete(t.names, process.ask.Name)
	}
	t.running--
	if process.ask.KeepAlive {
		t.awake--
		if t.awake == 0 {
			close(t.idle)
			t.idle = make(chan struct{})
		}
	}
}

func (t *Table) ended(process *Process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.release(process)
	t.forget()
}

// forget lets go of the oldest ended processes beyond exitedKept, and of the oldest outputs beyond outputBytes.
func (t *Table) forget() {
	surplus := len(t.all) - t.running - exitedKept
	total := int64(0)
	for _, process := range t.all {
		total += process.Log.Kept()
	}
	kept := t.all[:0]
	for _, process := range t.all {
		if !process.over() {
			kept = append(kept, process)
			continue
		}
		if surplus > 0 || total > t.outputBytes {
			total -= process.Log.Kept()
			process.Log.Drop()
			os.RemoveAll(filepath.Join(t.dir, process.ID))
		}
		if surplus > 0 {
			surplus--
			delete(t.byID, process.ID)
			continue
		}
		kept = append(kept, process)
	}
	clear(t.all[len(kept):])
	t.all = kept
}

func (p *Process) over() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// Find looks a process up by id, by pid, or by name; the newest of that name or pid.
func (t *Table) Find(key string) (*Process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if process, found := t.byID[key]; found {
		return process, nil
	}
	pid, pidErr := strconv.Atoi(key)
	for index := len(t.all) - 1; index >= 0; index-- {
		process := t.all[index]
		if (pidErr == nil && process.pid() == pid) || process.ask.Name == key {
			return process, nil
		}
	}
	return nil, fault.NotFound("there is no process %q (looked for an id, a pid, a name)", key)
}

func (p *Process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child.Pid
}

// All is every process, the newest last.
func (t *Table) All() []*Process {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*Process{}, t.all...)
}

// Running is every process that has not ended, the newest last.
func (t *Table) Running() []View {
	views := []View{}
	for _, process := range t.All() {
		if !process.over() {
			views = append(views, process.View())
		}
	}
	return views
}

// Busy counts the running processes, and those among them that keep the instance awake.
func (t *Table) Busy() (keepAlive, running int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.awake, t.running
}

// AwaitIdle returns when no keep-alive process runs, or when the context ends.
func (t *Table) AwaitIdle(ctx context.Context) {
	for {
		t.mu.Lock()
		awake, idle := t.awake, t.idle
		t.mu.Unlock()
		if awake == 0 {
			return
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return
		}
	}
}

// RunningID is the id of the running process with this pid, or empty.
func (t *Table) RunningID(pid int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for index := len(t.all) - 1; index >= 0; index-- {
		if process := t.all[index]; process.pid() == pid && !process.over() {
			return process.ID
		}
	}
	return ""
}

// MemoryRanOut records that a program of this session is about to be killed for its memory.
func (t *Table) MemoryRanOut(session int, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, process := range t.all {
		if process.pid() == session && !process.over() {
			process.memoryRanOut(what)
		}
	}
}
