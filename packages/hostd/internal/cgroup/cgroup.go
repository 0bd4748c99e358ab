// Package cgroup puts every sandbox into cgroups of its own, with limits, accounting and a freezer, on hosts with
// cgroup v1 (or the hybrid layout) and with v2 alone. A group is made before the sandbox's first process, so nothing
// a tenant causes is ever uncounted, and it is removed by name alone.
package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Root is where hosts mount their cgroup file systems.
const Root = "/sys/fs/cgroup"

// Limits of one sandbox, its gofer included. Cpus may be a fraction.
type Limits struct {
	MemoryMib int64
	Cpus      float64
	Pids      int64
}

// Hierarchy is how this host lays its controllers out.
type Hierarchy struct {
	root string
	v2   bool
	// controllers in use: v1 mounts each below root, v2 has them all in one tree.
	controllers []string
}

// wantedV1 holds, besides what limits and freezes, every hierarchy that runsc would else make a group in by itself: one that nobody would remove.
var wantedV1 = []string{
	"memory", "cpu", "cpuacct", "cpuset", "pids", "freezer", "devices", "blkio",
	"hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "systemd",
}
var wantedV2 = []string{"memory", "cpu", "cpuset", "pids", "io"}

// Detect looks at what is mounted at root and fails when a limit or the freezer could not be kept.
func Detect(root string) (Hierarchy, error) {
	if available, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); err == nil {
		return detectV2(root, string(available))
	}
	h := Hierarchy{root: root}
	for _, name := range wantedV1 {
		if _, err := os.Stat(filepath.Join(root, name, "cgroup.procs")); err == nil {
			h.controllers = append(h.controllers, name)
		}
	}
	return h, h.requires("memory", "cpu", "cpuacct", "pids", "freezer")
}

func detectV2(root, available string) (Hierarchy, error) {
	h := Hierarchy{root: root, v2: true}
	for _, name := range wantedV2 {
		if contains(strings.Fields(available), name) {
			h.controllers = append(h.controllers, name)
		}
	}
	return h, h.requires("memory", "cpu", "pids")
}

func (h Hierarchy) requires(names ...string) error {
	for _, name := range names {
		if !contains(h.controllers, name) {
			return fmt.Errorf("the host offers no cgroup controller %q below %s; enable it, sandboxes cannot be limited without", name, h.root)
		}
	}
	return nil
}

func contains(list []string, want string) bool {
	for _, item := range list {
		if item == want {
			return true
		}
	}
	return false
}

// Version is "v1" or "v2".
func (h Hierarchy) Version() string {
	if h.v2 {
		return "v2"
	}
	return "v1"
}

// Controllers that are in use.
func (h Hierarchy) Controllers() []string { return h.controllers }

// Group is one sandbox's cgroup: parent/name in each hierarchy in use.
type Group struct {
	h            Hierarchy
	parent, name string
}

// Group names a group without touching the host.
func (h Hierarchy) Group(parent, name string) Group { return Group{h, parent, name} }

// Path is the group's directory for a controller; v2 has one directory for all.
func (g Group) Path(controller string) string {
	if g.h.v2 {
		return filepath.Join(g.h.root, g.parent, g.name)
	}
	return filepath.Join(g.h.root, controller, g.parent, g.name)
}

// OCIPath is how a container runtime is told of the group.
func (g Group) OCIPath() string { return "/" + filepath.Join(g.parent, g.name) }

func (g Group) directories() []string {
	if g.h.v2 {
		return []string{g.Path("")}
	}
	var out []string
	for _, controller := range g.h.controllers {
		out = append(out, g.Path(controller))
	}
	return out
}

// Create makes the group and sets its limits; on an existing group it sets them again.
func (g Group) Create(limits Limits) error {
	if g.h.v2 {
		if err := g.h.delegate(g.parent); err != nil {
			return err
		}
	}
	for _, directory := range g.directories() {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return fmt.Errorf("making cgroup %s: %w", directory, err)
		}
	}
	return applyAll(g.settings(limits))
}

// delegate hands the controllers down to the parent's children.
func (h Hierarchy) delegate(parent string) error {
	directory := filepath.Join(h.root, parent)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("making cgroup %s: %w", directory, err)
	}
	line := "+" + strings.Join(h.controllers, " +")
	for _, at := range []string{h.root, directory} {
		if err := writeExisting(filepath.Join(at, "cgroup.subtree_control"), line); err != nil {
			return fmt.Errorf("enabling %s below cgroup %s: %w; processes directly in it must move to a child first", line, at, err)
		}
	}
	return nil
}

// setting is one value in one file. Optional ones depend on the kernel's configuration, such as swap accounting.
type setting struct {
	path, value string
	optional    bool
}

func (s setting) apply() error {
	err := writeExisting(s.path, s.value)
	if err == nil || (s.optional && errors.Is(err, os.ErrNotExist)) {
		return nil
	}
	return fmt.Errorf("writing %q to %s: %w", s.value, s.path, err)
}

func applyAll(settings []setting) error {
	for _, each := range settings {
		if err := each.apply(); err != nil {
			return err
		}
	}
	return nil
}

// writeExisting never tries to create: cgroup file systems answer that with a misleading "permission denied".
func writeExisting(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(value)
	return err
}

const cpuPeriodUs = 100_000

func (g Group) settings(limits Limits) []setting {
	memory := g.memoryLimit(limits.MemoryMib << 20)
	pids := strconv.FormatInt(limits.Pids, 10)
	if g.h.v2 {
		at := func(file string) string { return filepath.Join(g.Path(""), file) }
		return append(memory, []setting{
			// The whole sandbox dies at its limit: a sentry without its gofer, or the reverse, is no sandbox.
			{at("memory.oom.group"), "1", true},
			g.cpuLimit(limits.Cpus),
			{at("pids.max"), pids, false},
		}...)
	}
	at := func(controller, file string) string { return filepath.Join(g.Path(controller), file) }
	settings := append(memory, []setting{
		{at("cpu", "cpu.cfs_period_us"), strconv.Itoa(cpuPeriodUs), false},
		g.cpuLimit(limits.Cpus),
		{at("pids", "pids.max"), pids, false},
	}...)
	if contains(g.h.controllers, "cpuset") {
		settings = append(g.inheritedCpuset(), settings...)
	}
	return settings
}

// cpuLimit is in force on a group whose period is set already, or on v2.
func (g Group) cpuLimit(cpus float64) setting {
	quota := strconv.FormatInt(int64(cpus*cpuPeriodUs), 10)
	if g.h.v2 {
		return setting{filepath.Join(g.Path(""), "cpu.max"), quota + " " + strconv.Itoa(cpuPeriodUs), false}
	}
	return setting{filepath.Join(g.Path("cpu"), "cpu.cfs_quota_us"), quota, false}
}

// LimitCpus sets anew how much of the processors the group may have.
func (g Group) LimitCpus(cpus float64) error { return g.cpuLimit(cpus).apply() }

// inheritedCpuset copies the root's processors and memory nodes down: a v1 cpuset is born empty and takes no process while it is.
func (g Group) inheritedCpuset() []setting {
	var out []setting
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(g.h.root, "cpuset", file))
		if err != nil {
			continue
		}
		for _, at := range []string{filepath.Join(g.h.root, "cpuset", g.parent), g.Path("cpuset")} {
			out = append(out, setting{filepath.Join(at, file), string(bytes.TrimSpace(value)), false})
		}
	}
	return out
}

// Exists tells whether any part of the group is there.
func (g Group) Exists() bool {
	for _, directory := range g.directories() {
		if _, err := os.Stat(directory); err == nil {
			return true
		}
	}
	return false
}

// Processes are the pids in the group, in any of its hierarchies.
func (g Group) Processes() ([]int, error) {
	seen := map[int]bool{}
	var out []int
	for _, directory := range g.directories() {
		text, err := os.ReadFile(filepath.Join(directory, "cgroup.procs"))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing the processes of cgroup %s: %w", directory, err)
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && !seen[pid] {
				seen[pid] = true
				out = append(out, pid)
			}
		}
	}
	return out, nil
}

// KillAll sends SIGKILL to every process of the thawed group until none is left.
func (g Group) KillAll(ctx context.Context) error {
	for {
		pids, err := g.Processes()
		if err != nil {
			return err
		}
		living := 0
		for _, pid := range pids {
			if isZombie(pid) {
				continue
			}
			living++
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("killing process %d of cgroup %s: %w", pid, g.name, err)
			}
		}
		if living == 0 {
			return nil
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("waiting for %d processes of cgroup %s to die: %w", living, g.name, err)
		}
	}
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(after, []byte(" Z")) || bytes.HasPrefix(after, []byte(" X"))
}

// Remove deletes the group's directories, which must hold no process; the kernel needs a moment after the last exit.
func (g Group) Remove(ctx context.Context) error {
	for _, directory := range g.directories() {
		for {
			err := unix.Rmdir(directory)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("removing cgroup %s: %w", directory, err)
			}
			if err := sleep(ctx, time.Millisecond); err != nil {
				return fmt.Errorf("waiting for cgroup %s to empty: %w", directory, err)
			}
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Names lists the groups below a parent.
func (h Hierarchy) Names(parent string) ([]string, error) {
	roots := []string{h.root}
	if !h.v2 {
		roots = nil
		for _, controller := range h.controllers {
			roots = append(roots, filepath.Join(h.root, controller))
		}
	}
	seen := map[string]bool{}
	var out []string
	for _, root := range roots {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("listing the cgroups of %s: %w", parent, err)
		}
		for _, entry := range entries {
			if entry.IsDir() && !seen[entry.Name()] {
				seen[entry.Name()] = true
				out = append(out, entry.Name())
			}
		}
	}
	return out, nil
}

// RemoveParent deletes the emptied parent.
func (h Hierarchy) RemoveParent(ctx context.Context, parent string) error {
	return Group{h, parent, ""}.Remove(ctx)
}
