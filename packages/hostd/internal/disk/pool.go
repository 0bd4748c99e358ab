// Package disk keeps the pool, a btrfs file system in a fallocated file, and in it one subvolume for each instance and
// each volume, with a limit that the kernel enforces.
//
// Two promises shape it. The file is allocated in full and never discarded, so the host's own disk filling up cannot
// turn the pool read-only. And all tenants' subvolumes are members of one quota group that ends where the reserve
// begins, and metadata has a chunk of its own from the start, so however full they are, it keeps room: a tenant meets its own
// limit or, together with all others, that of the group, and never makes a neighbour's fsync fail.
package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// tenants is the quota group 1/0 that all instances' and volumes' subvolumes belong to.
const tenants = uint64(1) << 48

// systemMib is what the file system keeps besides data and metadata, and a little more.
const systemMib = 16

// minimumMib is the smallest pool mkfs and the reserve leave something useful of.
const minimumMib = 512

// Pool is a prepared pool.
type Pool struct {
	paths names.Paths
	uuid  string
	// simple quotas count an extent to whoever wrote it; the older groups count what a subvolume refers to.
	simple     bool
	reserveMib int64
}

// Size of a pool in MiB; the reserve is part of it.
type Size struct {
	SizeMib    int64 `json:"sizeMib"`
	ReserveMib int64 `json:"reserveMib"`
}

// Space is what a pool has, in MiB.
type Space struct{ TotalMib, UsedMib, FreeMib, ReserveMib int64 }

// Prepare makes whatever of the pool is missing and tells what it made.
func Prepare(ctx context.Context, paths names.Paths, size Size) (*Pool, []string, error) {
	if size.SizeMib < minimumMib || size.ReserveMib < 0 || size.ReserveMib >= size.SizeMib {
		return nil, nil, wire.Errorf(wire.BadRequest, "a pool of %d MiB with a reserve of %d MiB cannot be: give at least %d MiB and a smaller reserve", size.SizeMib, size.ReserveMib, minimumMib)
	}
	var created []string
	if !isMounted(paths.PoolDir) {
		made, err := makeAndMount(ctx, paths, size)
		if err != nil {
			return nil, nil, err
		}
		created = append(created, made...)
	}
	pool, err := Open(paths, size.ReserveMib)
	if err != nil {
		return nil, nil, err
	}
	if err := pool.roomForMetadata(ctx); err != nil {
		return nil, nil, err
	}
	if err := pool.bound(); err != nil {
		return nil, nil, err
	}
	return pool, created, nil
}

func notMounted(paths names.Paths) error {
	return wire.NotReady("no disk pool is mounted on %s; ask node.prepare first", paths.PoolDir)
}

// Seen is what a look into the pool came to: where the whole pool is gone from its place, nothing is known not to be in it.
func (p *Pool) Seen(err error) error {
	if err != nil && wire.AsError(err).Code == wire.NotFound && !isMounted(p.paths.PoolDir) {
		return notMounted(p.paths)
	}
	return err
}

// Open finds a pool that is mounted and makes sure of its quotas and directories.
func Open(paths names.Paths, reserveMib int64) (*Pool, error) {
	if !isMounted(paths.PoolDir) {
		return nil, notMounted(paths)
	}
	pool := &Pool{paths: paths, reserveMib: reserveMib}
	err := within(paths.PoolDir, func(root *os.File) error {
		uuid, err := fsUUID(root)
		if err != nil {
			return fmt.Errorf("reading the pool's identity: %w", err)
		}
		pool.uuid = uuid
		return pool.startQuotas(root)
	})
	if err != nil {
		return nil, err
	}
	for _, directory := range []string{paths.Disks(), paths.Volumes(), paths.Snapshots()} {
		if err := os.MkdirAll(directory, 0o700); err != nil {
			return nil, fmt.Errorf("making %s: %w", directory, err)
		}
	}
	return pool, nil
}

func makeAndMount(ctx context.Context, paths names.Paths, size Size) ([]string, error) {
	var created []string
	fresh, err := allocate(paths.PoolFile, size.SizeMib)
	if err != nil {
		return nil, err
	}
	if fresh {
		created = append(created, paths.PoolFile)
	}
	// A pool file from before a reboot, or whose mkfs was cut short, is told apart by what is in it.
	is, err := holdsBtrfs(paths.PoolFile)
	if err != nil {
		return nil, err
	}
	if !is {
		if err := format(ctx, paths.PoolFile); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(paths.PoolDir, 0o700); err != nil {
		return nil, fmt.Errorf("making the pool's mount point: %w", err)
	}
	device, err := deviceFor(paths.PoolFile)
	if err != nil {
		return nil, err
	}
	defer device.Close()
	// nodiscard, here and at mkfs: a discard would punch holes into the file that was allocated so as to have none.
	// commit: deleted disks are cleaned away with the commit after next, so their space is back in seconds.
	flags := uintptr(unix.MS_NOATIME | unix.MS_NOSUID | unix.MS_NODEV)
	if err := unix.Mount(device.Name(), paths.PoolDir, "btrfs", flags, "nodiscard,commit=5"); err != nil {
		return nil, fmt.Errorf("mounting the pool %s on %s: %w", device.Name(), paths.PoolDir, err)
	}
	return append(created, device.Name(), paths.PoolDir), nil
}

// deviceFor takes up a loop device that an earlier, cut short prepare left bound, else binds one.
func deviceFor(file string) (*os.File, error) {
	bound, err := loopsOf(file)
	if err != nil {
		return nil, err
	}
	for _, name := range bound {
		if device, err := os.OpenFile(name, os.O_RDWR, 0); err == nil {
			return device, nil
		}
	}
	return AttachLoop(file)
}

// allocate makes the file with all its blocks. An existing file is kept and, when it is shorter, left as it is: growing is not done behind a mounted pool's back.
func allocate(path string, sizeMib int64) (bool, error) {
	if _, err := os.Stat(path); err == nil {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, fmt.Errorf("making the pool file's directory: %w", err)
	}
	partial := path + ".partial"
	file, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return false, fmt.Errorf("making the pool file: %w", err)
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, sizeMib<<20); err != nil {
		os.Remove(partial)
		if errors.Is(err, unix.ENOSPC) {
			return false, wire.Errorf(wire.NoSpace, "allocating a pool of %d MiB at %s: the host's disk has not that much; ask for a smaller pool", sizeMib, path)
		}
		return false, fmt.Errorf("allocating a pool of %d MiB at %s: %w", sizeMib, path, err)
	}
	if err := os.Rename(partial, path); err != nil {
		return false, fmt.Errorf("naming the pool file: %w", err)
	}
	return true, nil
}

// holdsBtrfs must know: what it does not find is formatted.
func holdsBtrfs(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("looking for a file system in %s: %w", path, err)
	}
	defer file.Close()
	magic := make([]byte, 8)
	if _, err = file.ReadAt(magic, 0x10040); err != nil {
		return false, fmt.Errorf("looking for a file system in %s: %w", path, err)
	}
	return string(magic) == "_BHRfS_M", nil
}

func format(ctx context.Context, path string) error {
	// One copy of the metadata: two on one file would only cost space.
	command := exec.CommandContext(ctx, "mkfs.btrfs", "--quiet", "--nodiscard", "--force", "--metadata", "single", "--data", "single", path)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.btrfs on %s: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func isMounted(directory string) bool {
	var at, above unix.Stat_t
	if unix.Lstat(directory, &at) != nil || unix.Lstat(filepath.Dir(directory), &above) != nil {
		return false
	}
	var fs unix.Statfs_t
	return at.Dev != above.Dev && unix.Statfs(directory, &fs) == nil && fs.Type == unix.BTRFS_SUPER_MAGIC
}

// startQuotas prefers simple quotas (Linux 6.7): the older groups walk back references and cost more with every snapshot.
func (p *Pool) startQuotas(root *os.File) error {
	mode, err := os.ReadFile(fmt.Sprintf("/sys/fs/btrfs/%s/qgroups/mode", p.uuid))
	if err == nil && strings.TrimSpace(string(mode)) != "disabled" {
		p.simple = strings.TrimSpace(string(mode)) == "squota"
		return nil
	}
	if enableQuota(root, quotaEnableSimple) == nil {
		p.simple = true
	} else if err := enableQuota(root, quotaEnable); err != nil {
		return fmt.Errorf("enabling btrfs quotas on %s: %w; the kernel must be built with them", p.paths.PoolDir, err)
	}
	return nil
}

// bound sets where the tenants together end.
func (p *Pool) bound() error {
	return within(p.paths.PoolDir, func(root *os.File) error {
		if err := createQgroup(root, tenants); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("making the quota group of all tenants: %w", err)
		}
		space, err := p.Space()
		if err != nil {
			return err
		}
		metadataMib, err := p.metadataMib()
		if err != nil {
			return err
		}
		ends := space.TotalMib - max(p.reserveMib, metadataMib+systemMib)
		if err := limitQgroup(root, tenants, uint64(ends)<<20); err != nil {
			return fmt.Errorf("limiting all tenants to %d MiB: %w", ends, err)
		}
		return nil
	})
}

// Space asks the file system.
func (p *Pool) Space() (Space, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(p.paths.PoolDir, &fs); err != nil {
		return Space{}, fmt.Errorf("asking %s for its space: %w", p.paths.PoolDir, err)
	}
	mib := func(blocks uint64) int64 { return int64(blocks) * fs.Bsize >> 20 }
	return Space{TotalMib: mib(fs.Blocks), UsedMib: mib(fs.Blocks - fs.Bfree), FreeMib: mib(fs.Bavail), ReserveMib: p.reserveMib}, nil
}

// Remove unmounts the pool, lets its device go and deletes the file. What is gone already is no error.
func Remove(paths names.Paths) error {
	for isMounted(paths.PoolDir) {
		if err := unix.Unmount(paths.PoolDir, 0); err != nil {
			return fmt.Errorf("unmounting the pool %s: %w", paths.PoolDir, err)
		}
	}
	bound, err := loopsOf(paths.PoolFile)
	if err != nil {
		return err
	}
	for _, device := range bound {
		if err := detachLoop(device); err != nil {
			return err
		}
	}
	for _, path := range []string{paths.PoolFile, paths.PoolFile + ".partial", paths.PoolDir} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", path, err)
		}
	}
	return nil
}
