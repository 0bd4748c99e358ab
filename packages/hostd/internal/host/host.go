// Package host puts the parts together into one node's host and answers the protocol's verbs. It decides nothing: it
// does what a verb says, or tells what is.
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/failpoint"
	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/network"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/scribe"
	"torpor.dev/hostd/internal/wire"
)

// Options of one hostd.
type Options struct {
	Scope names.Scope
	Paths names.Paths
	Runsc string
	// Layers are the only places from which sandboxes may have their read-only directories.
	Layers []string
	// RunscVersion identifies the build; runsc itself does not know its own.
	RunscVersion string
	// Owner is the node-agent's uid, to whom parcels belong.
	Owner  int
	Points failpoint.Points
	Log    *slog.Logger
}

// Host is one node's host.
type Host struct {
	Options
	started   time.Time
	groups    cgroup.Hierarchy
	locks     *lock.Locks
	sandboxes *sandbox.Sandboxes
	scribes   *scribe.Scribes

	// prepared is what node.prepare said; its pool and net are made from that.
	mutex sync.RWMutex
	pool  *disk.Pool
	net   *network.Net
	node  *nodeArgs
}

// Open takes up the host as it is: what an earlier hostd of the same scope prepared and left running is served on.
func Open(options Options) (*Host, error) {
	groups, err := cgroup.Detect(cgroup.Root)
	if err != nil {
		return nil, err
	}
	for _, directory := range []string{options.Paths.RunDir, options.Paths.RunscRoot(), options.Paths.Bundles(), options.Paths.Locks(), options.Paths.EmptyDir()} {
		if err := os.MkdirAll(directory, 0o711); err != nil {
			return nil, fmt.Errorf("making %s: %w", directory, err)
		}
	}
	sandboxes, err := sandbox.New(options.Scope, options.Paths, groups, options.Runsc, options.Layers, min(max(runtime.NumCPU(), 2), 8))
	if err != nil {
		return nil, err
	}
	sandboxes.Reach = options.Points.Reach
	sandboxes.AdoptOrphans(options.Log)
	h := &Host{
		Options: options, started: time.Now(), groups: groups, locks: lock.New(options.Paths),
		sandboxes: sandboxes, scribes: scribe.NewScribes(options.Paths.EmptyDir(), scribesReady),
	}
	if err := h.takeUp(); err != nil {
		return nil, err
	}
	go h.warm()
	return h, nil
}

// scribesReady is how many wait for work: one for a wake, one for a store meanwhile.
const scribesReady = 2

const warmDeadline = 10 * time.Second

// warm readies what earlier hostds left running or paused. What cannot be is found out again, and told, by the verb that needs it.
func (h *Host) warm() {
	traces, err := h.sandboxes.Traces()
	if err != nil {
		h.Log.Warn("finding the sandboxes to warm", "err", err)
		return
	}
	for _, id := range traces.Records {
		ctx, cancel := context.WithTimeout(context.Background(), warmDeadline)
		if err := h.locked(ctx, id, func(*lock.Held) error { return h.sandboxes.Warm(id) }); err != nil {
			h.Log.Info("a sandbox cannot be warmed", "id", id, "err", err)
		}
		cancel()
	}
}

// takeUp reads what the last node.prepare said. It lies on a tmpfs beside what it describes: after a reboot both are gone, and node.prepare is asked again.
func (h *Host) takeUp() error {
	text, err := os.ReadFile(h.Paths.NodeFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what the node was prepared as: %w", err)
	}
	var node nodeArgs
	if err := json.Unmarshal(text, &node); err != nil {
		return fmt.Errorf("reading what the node was prepared as from %s: %w", h.Paths.NodeFile(), err)
	}
	rules, err := node.rules()
	if err != nil {
		return err
	}
	pool, err := disk.Open(h.Paths, node.Pool.ReserveMib)
	if err != nil {
		h.Log.Warn("the pool is not there; node.prepare must be asked", "err", err)
		return nil
	}
	h.pool, h.net, h.node = pool, network.Open(h.Scope, rules), &node
	return nil
}

// Handle answers one request and tells of it.
func (h *Host) Handle(ctx context.Context, request wire.Request) (any, error) {
	begin := time.Now()
	result, err := h.carryOut(ctx, request)
	h.note(request, time.Since(begin), err)
	return result, err
}

func (h *Host) carryOut(ctx context.Context, request wire.Request) (any, error) {
	verb, known := verbs[request.Verb]
	if !known {
		return nil, wire.Errorf(wire.Unsupported, "verb %q is not one of protocol %d", request.Verb, wire.Version)
	}
	if err := h.Points.Reach(request.Verb, "before"); err != nil {
		return nil, err
	}
	result, err := verb(h, ctx, request.Args)
	if err == nil {
		err = h.Points.Reach(request.Verb, "after")
	}
	if errors.Is(err, context.DeadlineExceeded) && wire.AsError(err).Code == wire.HostError {
		err = wire.Errorf(wire.Deadline, "%s: %w", request.Verb, err)
	}
	return result, err
}

// prepared is what most verbs need; without it they cannot be served.
func (h *Host) prepared() (*disk.Pool, *network.Net, error) {
	h.mutex.RLock()
	defer h.mutex.RUnlock()
	if h.pool == nil || h.net == nil {
		return nil, nil, wire.NotReady("this node is not prepared; ask node.prepare first")
	}
	return h.pool, h.net, nil
}

// locked carries act out while no other verb acts on the same instance.
func (h *Host) locked(ctx context.Context, id names.ID, act func(held *lock.Held) error) error {
	held, err := h.locks.Take(ctx, string(id))
	if err != nil {
		return err
	}
	defer held.Release()
	return act(held)
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// writeWhole replaces a file so that a reader finds the old one or the new one.
func writeWhole(path string, text []byte) error {
	partial := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".partial")
	if err := os.WriteFile(partial, text, 0o600); err != nil {
		return err
	}
	return os.Rename(partial, path)
}
