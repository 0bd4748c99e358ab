// Package sandbox makes gVisor sandboxes and steers them: create, start, pause, resume, kill, delete. A sandbox
// belongs to no process: it outlives hostd, and the next hostd finds everything it needs on the host.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
	layers   []string
	mutex    sync.Mutex
	handles  map[names.ID]*handle
}

// New makes this process able to steer sandboxes, and starts spawners. Lower directories of sandboxes must lie in layers.
func New(scope names.Scope, paths names.Paths, groups cgroup.Hierarchy, binary string, layers []string, spawners int) (*Sandboxes, error) {
	runsc := Runsc{Binary: binary, Root: paths.RunscRoot(), Bundles: paths.Bundles()}
	conf, err := runsc.configure()
	if err != nil {
		return nil, err
	}
	return &Sandboxes{
		scope: scope, paths: paths, groups: groups, conf: conf,
		spawners: NewSpawners(runsc, spawners), layers: layers, handles: map[names.ID]*handle{},
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

// Create makes a sandbox up to where its PID 1 can be started. The same ask again answers the same process; another ask, or a sandbox that has stopped, is already_exists.
func (s *Sandboxes) Create(ctx context.Context, ask Ask, netns string, lock *os.File) (Process, error) {
	if err := checkAsk(ask); err != nil {
		return Process{}, err
	}
	wanted, err := json.Marshal(ask)
	if err != nil {
		return Process{}, err
	}
	if s.hasRecord(ask.ID) {
		return s.existing(ask.ID, wanted)
	}
	// Whatever a create that was cut short left is taken away first.
	if err := s.Delete(ctx, ask.ID); err != nil {
		return Process{}, err
	}
	process, err := s.create(ctx, ask, netns, wanted, lock)
	if err != nil {
		cleanup, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if undo := s.Delete(cleanup, ask.ID); undo != nil {
			err = fmt.Errorf("%w; taking away what was made failed too: %w", err, undo)
		}
		return Process{}, err
	}
	return process, nil
}

func checkAsk(ask Ask) error {
	limits := ask.Limits
	if limits.MemoryMib < 32 || limits.Cpus < 0.01 || limits.Pids < 16 || limits.Nofile < 16 {
		return wire.Errorf(wire.BadRequest, "limits %+v: every limit must be given, at least 32 MiB, 0.01 cpus, 16 pids and 16 open files", limits)
	}
	if len(ask.Argv) == 0 || !filepath.IsAbs(ask.Argv[0]) {
		return wire.Errorf(wire.BadRequest, "argv %q must begin with the absolute path of PID 1", ask.Argv)
	}
	if ask.Hostname == "" || len(ask.Hostname) > 63 {
		return wire.Errorf(wire.BadRequest, "hostname %q must be 1 to 63 characters", ask.Hostname)
	}
	return nil
}

func (s *Sandboxes) existing(id names.ID, wanted []byte) (Process, error) {
	made, err := os.ReadFile(s.askFile(id))
	if err != nil || !bytes.Equal(made, wanted) {
		return Process{}, wire.Errorf(wire.AlreadyExists, "sandbox %s exists and was made with other arguments; delete it first", id)
	}
	loaded, err := s.load(id)
	if err != nil {
		return Process{}, err
	}
	process, alive := s.processOf(loaded, id)
	if !alive {
		return Process{}, wire.Errorf(wire.AlreadyExists, "sandbox %s exists but has stopped; delete it first", id)
	}
	return process, nil
}

func (s *Sandboxes) create(ctx context.Context, ask Ask, netns string, wanted []byte, lock *os.File) (Process, error) {
	bundle, disk := s.paths.Bundle(ask.ID), s.paths.Disk(ask.ID)
	lower, err := amongLayers(ask.Lower, s.layers)
	if err != nil {
		return Process{}, err
	}
	if _, err := os.Stat(netns); err != nil {
		return Process{}, wire.Errorf(wire.NotFound, "sandbox %s has no network namespace at %s; ask net.create first", ask.ID, netns)
	}
	if _, err := os.Stat(filepath.Join(disk, "upper")); err != nil {
		return Process{}, wire.Errorf(wire.NotFound, "sandbox %s has no disk at %s; ask disk.create first", ask.ID, disk)
	}
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		return Process{}, fmt.Errorf("making the bundle of %s: %w", ask.ID, err)
	}
	if err := os.WriteFile(s.askFile(ask.ID), wanted, 0o600); err != nil {
		return Process{}, fmt.Errorf("writing what %s was asked to be: %w", ask.ID, err)
	}
	if err := mountRootfs(s.paths.Rootfs(ask.ID), lower, disk); err != nil {
		return Process{}, err
	}
	group := s.group(ask.ID)
	if err := group.Create(cgroup.Limits{MemoryMib: ask.Limits.MemoryMib, Cpus: ask.Limits.Cpus, Pids: ask.Limits.Pids}); err != nil {
		return Process{}, err
	}
	described, err := json.Marshal(spec(ask, places{rootfs: s.paths.Rootfs(ask.ID), netns: netns, cgroup: group.OCIPath(), volumes: filepath.Join(disk, "vol")}))
	if err != nil {
		return Process{}, err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), described, 0o600); err != nil {
		return Process{}, fmt.Errorf("writing the bundle of %s: %w", ask.ID, err)
	}
	bounded, cancel := context.WithTimeout(ctx, spawnDeadline)
	defer cancel()
	made, err := s.spawners.Spawn(bounded, string(ask.ID), bundle, lock)
	if err != nil {
		return Process{}, withPanic(err, bundle)
	}
	return Process{Pid: made.Pid, StartTicks: startTicks(made.Pid)}, nil
}

// withPanic adds the first lines of what the sentry said when it died.
func withPanic(err error, bundle string) error {
	said, readErr := os.ReadFile(filepath.Join(bundle, "panic.log"))
	if readErr != nil || len(bytes.TrimSpace(said)) == 0 {
		return err
	}
	return fmt.Errorf("%w; gVisor's last words: %.600s", err, bytes.TrimSpace(said))
}

// Start runs PID 1. A sandbox that runs already is left alone.
func (s *Sandboxes) Start(id names.ID) error {
	loaded, err := s.load(id)
	if err != nil {
		return err
	}
	if _, alive := s.processOf(loaded, id); !alive {
		return wire.Errorf(wire.HostError, "sandbox %s has stopped before it was started; delete it and create it again", id)
	}
	if loaded.Status == container.Running {
		return nil
	}
	if err := onOwnThread(func() error { return loaded.Start(s.conf) }); err != nil {
		return withPanic(fmt.Errorf("starting sandbox %s: %w", id, err), s.paths.Bundle(id))
	}
	h, err := s.handle(id)
	if err != nil {
		return err
	}
	h.tasks = tasksRunning
	return h.dial()
}

// onOwnThread runs act on a thread that ends with it: a start visits the sandbox's network namespace, and a thread that failed to come back from there must serve nothing else.
func onOwnThread(act func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // Never unlocked.
		done <- act()
	}()
	return <-done
}

// Warm makes ready what a pause or resume needs, so that the first one after a restart is as quick as the rest.
func (s *Sandboxes) Warm(id names.ID) error {
	h, err := s.handle(id)
	if err != nil {
		return err
	}
	return h.dial()
}

// Rest is what pausing found and cost.
type Rest struct {
	Frozen     bool  `json:"frozen"`
	CPUUsageNs int64 `json:"cpuUsageNs"`
	TookUs     int64 `json:"tookUs"`
}

// Pause returns when the kernel says that nothing of the sandbox runs.
func (s *Sandboxes) Pause(ctx context.Context, id names.ID) (Rest, error) {
	begin := time.Now()
	h, err := s.handle(id)
	if err != nil {
		return Rest{}, err
	}
	if err := h.pause(ctx); err != nil {
		return Rest{}, s.explained(id, h, err)
	}
	took := time.Since(begin)
	usage, err := s.group(id).CPUUsageNs()
	if err != nil {
		return Rest{}, err
	}
	return Rest{Frozen: true, CPUUsageNs: usage, TookUs: took.Microseconds()}, nil
}

// Wake is what resuming cost.
type Wake struct {
	ThawUs   int64 `json:"thawUs"`
	ResumeUs int64 `json:"resumeUs"`
	Already  bool  `json:"already,omitempty"`
}

// Resume lets a paused sandbox go on; a running one is left alone.
func (s *Sandboxes) Resume(ctx context.Context, id names.ID) (Wake, error) {
	h, err := s.handle(id)
	if err != nil {
		return Wake{}, err
	}
	if err := h.learn(ctx); err != nil {
		return Wake{}, s.explained(id, h, err)
	}
	if h.tasks == tasksRunning {
		// Nobody resumes what runs, unless what we believe is wrong: so look.
		h.tasks = tasksUnknown
		if err := h.learn(ctx); err != nil {
			return Wake{}, s.explained(id, h, err)
		}
		if h.tasks == tasksRunning {
			return Wake{Already: true}, nil
		}
	}
	thaw, tasks, err := h.resume(ctx)
	if err != nil {
		return Wake{}, s.explained(id, h, err)
	}
	return Wake{ThawUs: thaw.Microseconds(), ResumeUs: tasks.Microseconds()}, nil
}

// explained says so when the reason is that the sandbox is dead.
func (s *Sandboxes) explained(id names.ID, h *handle, err error) error {
	loaded, loadErr := s.load(id)
	if loadErr != nil {
		s.dropHandle(id)
		return loadErr
	}
	if _, alive := s.processOf(loaded, id); !alive {
		s.dropHandle(id)
		return withPanic(wire.Errorf(wire.HostError, "sandbox %s has died (%v); delete it", id, err), s.paths.Bundle(id))
	}
	return fmt.Errorf("sandbox %s: %w", id, err)
}

func (s *Sandboxes) handle(id names.ID) (*handle, error) {
	s.mutex.Lock()
	kept := s.handles[id]
	s.mutex.Unlock()
	if kept != nil {
		return kept, nil
	}
	loaded, err := s.load(id)
	if err != nil {
		return nil, err
	}
	if _, alive := s.processOf(loaded, id); !alive {
		return nil, withPanic(wire.Errorf(wire.HostError, "sandbox %s has stopped; delete it", id), s.paths.Bundle(id))
	}
	freezer, err := s.group(id).OpenFreezer()
	if err != nil {
		return nil, err
	}
	made := &handle{freezer: freezer, socket: loaded.Sandbox.ControlSocketPath}
	s.mutex.Lock()
	s.handles[id] = made
	s.mutex.Unlock()
	return made, nil
}

func (s *Sandboxes) dropHandle(id names.ID) {
	s.mutex.Lock()
	h := s.handles[id]
	delete(s.handles, id)
	s.mutex.Unlock()
	if h != nil {
		h.close()
	}
}

func fullID(id names.ID) container.FullID {
	return container.FullID{SandboxID: string(id), ContainerID: string(id)}
}

// Has says whether runsc knows a sandbox of that id, in whatever state.
func (s *Sandboxes) Has(id names.ID) bool { return s.hasRecord(id) }

func (s *Sandboxes) hasRecord(id names.ID) bool {
	record := container.StateFile{RootDir: s.paths.RunscRoot(), ID: fullID(id)}
	_, err := record.Stat()
	return err == nil
}

func (s *Sandboxes) load(id names.ID) (*container.Container, error) {
	if !s.hasRecord(id) {
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

// Kill ends every process of a sandbox, thawing it first: frozen processes of cgroup v1 do not die. The record stays, and says stopped.
func (s *Sandboxes) Kill(ctx context.Context, id names.ID) error {
	s.dropHandle(id)
	group := s.group(id)
	if !group.Exists() {
		return nil
	}
	pids, err := group.Processes()
	if err != nil {
		return err
	}
	if err := signalAll(pids); err != nil {
		return err
	}
	freezer, err := group.OpenFreezer()
	if err == nil {
		defer freezer.Close()
		err = freezer.Thaw(ctx)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := group.KillAll(ctx); err != nil {
		return wire.Errorf(wire.Deadline, "killing sandbox %s: %w", id, err)
	}
	return nil
}

// signalAll comes before the thaw, so that nothing of a frozen sandbox runs again.
func signalAll(pids []int) error {
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("killing process %d: %w", pid, err)
		}
	}
	return nil
}

// Delete removes every trace of a sandbox but its disk and network; what is gone already is no error.
func (s *Sandboxes) Delete(ctx context.Context, id names.ID) error {
	if err := s.Kill(ctx, id); err != nil {
		return err
	}
	if err := s.group(id).Remove(ctx); err != nil {
		return err
	}
	if err := unmountRootfs(s.paths.Rootfs(id)); err != nil {
		return err
	}
	socket := filepath.Join(s.paths.RunscRoot(), "runsc-"+string(id)+".sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the control socket of %s: %w", id, err)
	}
	record := container.StateFile{RootDir: s.paths.RunscRoot(), ID: fullID(id)}
	if err := record.Destroy(); err != nil {
		return fmt.Errorf("removing runsc's record of %s: %w", id, err)
	}
	if err := removeBundle(s.paths.Bundle(id)); err != nil {
		return fmt.Errorf("removing the bundle of %s: %w", id, err)
	}
	return nil
}

// removeBundle never descends into the root's mount point, which must be an empty directory by now.
func removeBundle(bundle string) error {
	if err := os.Remove(filepath.Join(bundle, "rootfs")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.RemoveAll(bundle)
}

// State of a sandbox, from the kernel and runsc.
type State struct {
	Exists     bool   `json:"exists"`
	Pid        int    `json:"pid"`
	StartTicks int64  `json:"startTicks"`
	Runsc      string `json:"runsc"` // created, running, paused, stopped or absent.
	Frozen     bool   `json:"frozen"`
	MemoryMib  int64  `json:"memoryMib"`
	CPUUsageNs int64  `json:"cpuUsageNs"`
	OOMKills   int64  `json:"oomKills"`
}

// State never waits for a frozen sandbox: being frozen is being paused.
func (s *Sandboxes) State(ctx context.Context, id names.ID) (State, error) {
	usage, err := s.group(id).Usage()
	if err != nil {
		return State{}, err
	}
	state := State{Runsc: "absent", MemoryMib: usage.MemoryMib, CPUUsageNs: usage.CPUUsageNs, OOMKills: usage.OOMKills}
	loaded, err := s.load(id)
	if isNotFound(err) {
		return state, nil
	}
	if err != nil {
		return State{}, err
	}
	state.Exists = true
	process, alive := s.processOf(loaded, id)
	if !alive {
		state.Runsc = "stopped"
		return state, nil
	}
	state.Pid, state.StartTicks = process.Pid, process.StartTicks
	h, err := s.handle(id)
	if err != nil {
		return State{}, err
	}
	if state.Frozen, err = h.freezer.Frozen(); err != nil {
		return State{}, s.explained(id, h, err)
	}
	if loaded.Status == container.Created && !state.Frozen {
		state.Runsc = "created"
		return state, nil
	}
	if err := h.learn(ctx); err != nil {
		return State{}, s.explained(id, h, err)
	}
	state.Runsc = map[taskState]string{tasksRunning: "running", tasksPaused: "paused"}[h.tasks]
	return state, nil
}

func isNotFound(err error) bool {
	var coded *wire.Error
	return errors.As(err, &coded) && coded.Code == wire.NotFound
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

// Traces of sandboxes on the host: what runsc has a record of, what is mounted, and what has a cgroup.
type Traces struct{ Records, Bundles, Mounts, Cgroups []names.ID }

// Traces lists them.
func (s *Sandboxes) Traces() (Traces, error) {
	var traces Traces
	recorded, err := container.List(s.paths.RunscRoot())
	if err != nil {
		return Traces{}, fmt.Errorf("listing runsc's records: %w", err)
	}
	var found []string
	for _, id := range recorded {
		found = append(found, id.ContainerID)
	}
	traces.Records = idsAmong(found)
	entries, err := os.ReadDir(s.paths.Bundles())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Traces{}, fmt.Errorf("listing the bundles: %w", err)
	}
	found = nil
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	traces.Bundles = idsAmong(found)
	if traces.Mounts, err = mounted(s.paths); err != nil {
		return Traces{}, err
	}
	grouped, err := s.groups.Names(s.scope.CgroupParent())
	if err != nil {
		return Traces{}, err
	}
	traces.Cgroups = idsAmong(grouped)
	return traces, nil
}

func mounted(paths names.Paths) ([]names.ID, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing the mounts: %w", err)
	}
	var found []string
	for _, line := range strings.Split(string(table), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && filepath.Base(fields[4]) == "rootfs" {
			if bundle := filepath.Dir(fields[4]); filepath.Dir(bundle) == paths.Bundles() {
				found = append(found, filepath.Base(bundle))
			}
		}
	}
	return idsAmong(found), nil
}

func idsAmong(found []string) []names.ID {
	seen := map[names.ID]bool{}
	out := []names.ID{}
	for _, name := range found {
		if id, err := names.ParseID(name); err == nil && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	sort.Slice(out, func(a, b int) bool { return out[a] < out[b] })
	return out
}

// All are the ids that have any trace.
func (t Traces) All() []names.ID {
	var found []string
	for _, list := range [][]names.ID{t.Records, t.Bundles, t.Mounts, t.Cgroups} {
		for _, id := range list {
			found = append(found, string(id))
		}
	}
	return idsAmong(found)
}

// ReleaseRoot lets go what runsc pins for all sandboxes of its root together: the gofers' empty network namespace.
func ReleaseRoot(paths names.Paths) error {
	entries, err := os.ReadDir(paths.RunscRoot())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listing runsc's root: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(paths.RunscRoot(), entry.Name())
		for unix.Unmount(path, unix.MNT_DETACH) == nil {
		}
	}
	return nil
}

// Bare can find and delete sandboxes but neither make nor steer them: enough to clean up where no runsc is at hand.
func Bare(scope names.Scope, paths names.Paths, groups cgroup.Hierarchy) *Sandboxes {
	return &Sandboxes{scope: scope, paths: paths, groups: groups, handles: map[names.ID]*handle{}}
}
