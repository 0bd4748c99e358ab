// Package sandbox makes gVisor sandboxes and steers them: create, start, pause, resume, kill, delete. A sandbox
// belongs to no process: it outlives hostd, and the next hostd finds everything it needs on the host.
package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Sandboxes of one scope. Its methods on one id must not overlap: the caller holds the instance's lock.
type Sandboxes struct {
	scope    names.Scope
	paths    names.Paths
	groups   cgroup.Hierarchy
	conf     *config.Config
	spawners *Spawners
	builds   builds
	// elders make and restore sandboxes of other builds than ours.
	elders  map[Build]*Spawners
	layers  []string
	mutex   sync.Mutex
	handles map[names.ID]*handle
	// starts that are under way; the channel closes with the start.
	starts map[names.ID]chan struct{}
	births births
}

// New makes this process able to steer sandboxes, and starts spawners. Lower directories of sandboxes must lie in layers.
func New(scope names.Scope, paths names.Paths, groups cgroup.Hierarchy, binary string, layers []string, spawners int) (*Sandboxes, error) {
	runsc := Runsc{Binary: binary, Root: paths.RunscRoot(), Bundles: paths.Bundles()}
	conf, err := runsc.configure()
	if err != nil {
		return nil, err
	}
	known, err := buildsBeside(binary)
	if err != nil {
		return nil, err
	}
	return &Sandboxes{
		scope: scope, paths: paths, groups: groups, conf: conf, builds: known, elders: map[Build]*Spawners{},
		spawners: NewSpawners("/proc/self/exe", runsc, spawners), layers: layers, handles: map[names.ID]*handle{}, starts: map[names.ID]chan struct{}{},
	}, nil
}

// Process names a process for ever, as long as the host is up.
type Process struct {
	Pid        int   `json:"pid"`
	StartTicks int64 `json:"startTicks"`
}

func (s *Sandboxes) group(id names.ID) cgroup.Group {
	return s.groups.Group(s.scope.CgroupParent(), string(id))
}

func (s *Sandboxes) askFile(id names.ID) string {
	return filepath.Join(s.paths.Bundle(id), "ask.json")
}

// Bare can find and delete sandboxes but neither make nor steer them: enough to clean up where no runsc is at hand.
func Bare(scope names.Scope, paths names.Paths, groups cgroup.Hierarchy) *Sandboxes {
	return &Sandboxes{scope: scope, paths: paths, groups: groups, handles: map[names.ID]*handle{}}
}

func fullID(id names.ID) container.FullID {
	return container.FullID{SandboxID: string(id), ContainerID: string(id)}
}

// Has says whether runsc knows a sandbox of that id, in whatever state.
func (s *Sandboxes) Has(id names.ID) bool {
	record := container.StateFile{RootDir: s.paths.RunscRoot(), ID: fullID(id)}
	_, err := record.Stat()
	return err == nil
}

func (s *Sandboxes) load(id names.ID) (*container.Container, error) {
	// A start holds runsc's lock on its record, and nothing else is to be known of it meanwhile.
	if s.isStarting(id) {
		return nil, wire.Errorf(wire.Busy, "sandbox %s is still being started", id)
	}
	if !s.Has(id) {
		return nil, wire.Errorf(wire.NotFound, "there is no sandbox %s", id)
	}
	loaded, err := container.Load(s.paths.RunscRoot(), fullID(id), container.LoadOpts{Exact: true, SkipCheck: true})
	if err != nil {
		return nil, fmt.Errorf("reading runsc's record of sandbox %s: %w", id, err)
	}
	return loaded, nil
}

// processOf finds the sandbox's process and makes sure that it is still that one, by the cgroup it is in.
func (s *Sandboxes) processOf(loaded *container.Container, id names.ID) (Process, bool) {
	pid := loaded.Sandbox.Getpid()
	ticks := startTicks(pid)
	if pid <= 0 || ticks == 0 {
		return Process{}, false
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(groups)+"\n", s.group(id).OCIPath()+"\n") {
		return Process{}, false
	}
	return Process{Pid: pid, StartTicks: ticks}, true
}

// Usage of a sandbox, from its cgroup alone.
func (s *Sandboxes) Usage(id names.ID) (cgroup.Usage, error) { return s.group(id).Usage() }

// SlotOf a sandbox, as it was asked for.
func (s *Sandboxes) SlotOf(id names.ID) (names.Slot, bool) {
	var ask Ask
	made, err := os.ReadFile(s.askFile(id))
	if err != nil || json.Unmarshal(made, &ask) != nil {
		return 0, false
	}
	return ask.Slot, true
}
