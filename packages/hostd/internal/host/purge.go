package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"torpor.dev/hostd/internal/cgroup"
	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/network"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/swap"
)

// Purged counts what a purge found.
type Purged struct {
	Sandboxes int `json:"sandboxes"`
	Disks     int `json:"disks"`
	Netns     int `json:"netns"`
	Veths     int `json:"veths"`
}

// purge leaves the daemon as one that was never prepared.
func (h *Host) purge(ctx context.Context, _ struct{}) (any, error) {
	held, err := h.locks.Take(ctx, "node")
	if err != nil {
		return nil, err
	}
	defer held.Release()
	h.mutex.Lock()
	h.pool, h.net, h.node = nil, nil, nil
	h.mutex.Unlock()
	return purge(ctx, h.Scope, h.Paths, h.groups, h.sandboxes)
}

// Purge removes everything of a scope from the host, found by name alone, when no daemon runs.
func Purge(ctx context.Context, scope names.Scope, paths names.Paths) (Purged, error) {
	groups, err := cgroup.Detect(cgroup.Root)
	if err != nil {
		return Purged{}, err
	}
	purged, err := purge(ctx, scope, paths, groups, sandbox.Bare(scope, paths, groups))
	if err != nil {
		return purged, err
	}
	if at, err := mountBelow(paths.RunDir); err != nil || at != "" {
		return purged, fmt.Errorf("%s is still mounted, so the run directory is left as it is (%v)", at, err)
	}
	if err := os.RemoveAll(paths.RunDir); err != nil {
		return purged, fmt.Errorf("removing the run directory: %w", err)
	}
	return purged, nil
}

// mountBelow finds anything mounted in a directory that is about to be deleted with all it holds.
func mountBelow(directory string) (string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for _, line := range strings.Split(string(table), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], directory+"/") {
			return fields[4], nil
		}
	}
	return "", nil
}

// purge goes from what uses to what is used: processes, mounts and cgroups, then networks, then the pool.
func purge(ctx context.Context, scope names.Scope, paths names.Paths, groups cgroup.Hierarchy, sandboxes *sandbox.Sandboxes) (Purged, error) {
	var purged Purged
	traces, err := sandboxes.Traces()
	if err != nil {
		return purged, err
	}
	for _, id := range traces.All() {
		if err := sandboxes.Delete(ctx, id); err != nil {
			return purged, fmt.Errorf("purging sandbox %s: %w", id, err)
		}
		purged.Sandboxes++
	}
	if err := groups.RemoveParent(ctx, scope.CgroupParent()); err != nil {
		return purged, err
	}
	if err := sandbox.ReleaseRoot(paths); err != nil {
		return purged, err
	}
	if purged.Netns, purged.Veths, err = network.Remove(ctx, scope); err != nil {
		return purged, err
	}
	disks, err := disk.Disks(paths)
	if err != nil {
		return purged, err
	}
	purged.Disks = len(disks)
	if err := disk.Remove(paths); err != nil {
		return purged, err
	}
	if err := swap.Shared.Leave(ctx, scope); err != nil {
		return purged, err
	}
	if err := os.Remove(paths.NodeFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return purged, fmt.Errorf("forgetting what the node was prepared as: %w", err)
	}
	return purged, nil
}
