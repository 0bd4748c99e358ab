package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/container"

	"torpor.dev/hostd/internal/names"
)

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
