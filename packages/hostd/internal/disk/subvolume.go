package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// Usage of one subvolume in MiB.
type Usage struct {
	UsedMib  int64 `json:"usedMib"`
	LimitMib int64 `json:"limitMib"`
}

// CreateDisk makes an instance's subvolume with upper/, work/ and vol/, limited to limitMib; from names an instance to snapshot instead.
func (p *Pool) CreateDisk(id names.ID, limitMib int64, from names.ID) (string, error) {
	path := p.paths.Disk(id)
	source := ""
	if from != "" {
		source = p.paths.Disk(from)
	}
	return path, p.create(path, source, limitMib, func(staged string) error {
		vol := filepath.Join(staged, "vol")
		if source != "" {
			return forgetAttached(vol)
		}
		for _, name := range []string{"upper", "work", "vol"} {
			if err := os.Mkdir(filepath.Join(staged, name), 0o755); err != nil {
				return fmt.Errorf("making %s of disk %s: %w", name, id, err)
			}
		}
		return setImmutable(vol, true)
	})
}

// CreateVolume makes a volume's subvolume; from names a volume to snapshot, attached or not. One that exists, attached or not, gets the new limit.
// It is there after a power cut, too: whoever keeps a record of it writes that down next.
func (p *Pool) CreateVolume(volume string, limitMib int64, from string) error {
	if at, err := p.attachment(volume); err != nil {
		return err
	} else if at != nil {
		return p.reach(at.number, func(there string) error { return p.limit(there, limitMib) })
	}
	clone := func(source string) error {
		return p.createVolume(volume, source, limitMib)
	}
	if from == "" {
		return clone("")
	}
	at, err := p.attachment(from)
	if err != nil {
		return err
	}
	if at == nil {
		return clone(p.paths.Volume(from))
	}
	return p.reach(at.number, clone)
}

func (p *Pool) createVolume(volume, source string, limitMib int64) error {
	named := func(staged string) error { return nameVolume(staged, volume) }
	if err := p.create(p.paths.Volume(volume), source, limitMib, named); err != nil {
		return err
	}
	return p.syncVolumes()
}

// syncVolumes keeps where the volumes lie over a power cut. The kernel would by itself, seconds later.
func (p *Pool) syncVolumes() error {
	if err := syncDirectory(p.paths.Volumes()); err != nil {
		return fmt.Errorf("syncing the directory of the volumes: %w", err)
	}
	return nil
}

// stagedSuffix marks a subvolume that is not finished; no id or volume name can hold a dot.
const stagedSuffix = ".new"

// create builds under another name and renames, so that what bears the name is whole and limited even after a kill.
func (p *Pool) create(path, source string, limitMib int64, fill func(staged string) error) error {
	if limitMib <= 0 {
		return wire.Errorf(wire.BadRequest, "a disk limit of %d MiB cannot be", limitMib)
	}
	if exists, err := isSubvolume(path); err == nil && exists {
		return p.limit(path, limitMib)
	}
	space, err := p.Space()
	if err != nil {
		return err
	}
	if space.FreeMib <= p.reserveMib {
		return wire.Errorf(wire.NoSpace, "creating %s: the pool has %d MiB free and keeps a reserve of %d; delete disks or give the node a larger pool", path, space.FreeMib, p.reserveMib)
	}
	staged := path + stagedSuffix
	if err := p.destroy(staged); err != nil {
		return err
	}
	if err := p.make(staged, source); err != nil {
		return err
	}
	if err := fill(staged); err != nil {
		return err
	}
	if err := p.limit(staged, limitMib); err != nil {
		return err
	}
	if err := os.Rename(staged, path); err != nil {
		return fmt.Errorf("naming the subvolume %s: %w", path, err)
	}
	return nil
}

func (p *Pool) make(staged, source string) error {
	if source == "" {
		if err := createSubvolume(staged, tenants); err != nil {
			return fmt.Errorf("creating the subvolume %s: %w", staged, err)
		}
		return nil
	}
	err := snapshotSubvolume(source, staged, tenants)
	if errors.Is(err, os.ErrNotExist) {
		return wire.Errorf(wire.NotFound, "there is no disk %s to make a snapshot of", source)
	}
	if err != nil {
		return fmt.Errorf("making a snapshot of %s: %w", source, err)
	}
	return nil
}

// forgetAttached removes the empty stubs that a snapshot holds in its vol/ where its source had volumes attached.
func forgetAttached(directory string) error {
	if err := setImmutable(directory, false); err != nil {
		return err
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return fmt.Errorf("listing the stubs of volumes in %s: %w", directory, err)
	}
	for _, entry := range entries {
		if err := unix.Rmdir(filepath.Join(directory, entry.Name())); err != nil && !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("removing the stub of volume %s: %w", entry.Name(), err)
		}
	}
	return setImmutable(directory, true)
}

func (p *Pool) limit(path string, limitMib int64) error {
	number, err := subvolumeNumber(path)
	if err != nil {
		return fmt.Errorf("reading the number of subvolume %s: %w", path, err)
	}
	return within(p.paths.PoolDir, func(root *os.File) error {
		if err := limitQgroup(root, number, uint64(limitMib)<<20); err != nil {
			return fmt.Errorf("limiting %s to %d MiB: %w", path, limitMib, err)
		}
		return nil
	})
}

// DeleteDisk removes an instance's subvolume. A volume still attached is moved back first: it has a life of its own.
func (p *Pool) DeleteDisk(id names.ID) error {
	if err := p.destroy(p.paths.Disk(id) + stagedSuffix); err != nil {
		return err
	}
	if err := p.detachAll(id); err != nil {
		return err
	}
	return p.destroy(p.paths.Disk(id))
}

// DeleteVolume removes a volume that is attached nowhere.
func (p *Pool) DeleteVolume(volume string) error {
	if at, err := p.attachment(volume); err != nil {
		return err
	} else if at != nil {
		return wire.Errorf(wire.Busy, "volume %s is attached to instance %s; detach it first", volume, at.to)
	}
	if err := p.destroy(p.paths.Volume(volume) + stagedSuffix); err != nil {
		return err
	}
	if err := p.destroy(p.paths.Volume(volume)); err != nil {
		return err
	}
	return p.syncVolumes()
}

func (p *Pool) destroy(path string) error {
	is, err := isSubvolume(path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", path, err)
	}
	if !is {
		return fmt.Errorf("%s is not a subvolume; hostd did not make it and leaves it", path)
	}
	number, err := subvolumeNumber(path)
	if err != nil {
		return fmt.Errorf("reading the number of subvolume %s: %w", path, err)
	}
	if err := destroySubvolume(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("deleting the subvolume %s: %w", path, err)
	}
	// The group goes when the kernel has cleaned the subvolume away; trying now catches the empty ones, Sweep the rest.
	within(p.paths.PoolDir, func(root *os.File) error { return deleteQgroup(root, number) })
	return nil
}

// Usage of an instance's subvolume, as the kernel counts it now.
func (p *Pool) Usage(id names.ID) (Usage, error) { return p.usageOf(p.paths.Disk(id)) }

// Usages of several instances' subvolumes; instances that have none are left out.
func (p *Pool) Usages(ids []names.ID) (map[names.ID]Usage, error) {
	out := make(map[names.ID]Usage, len(ids))
	for _, id := range ids {
		usage, err := p.Usage(id)
		if err == nil {
			out[id] = usage
			continue
		}
		// A disk may go while its counters are read.
		if _, there := os.Lstat(p.paths.Disk(id)); !errors.Is(there, os.ErrNotExist) {
			return nil, err
		}
	}
	return out, nil
}

// VolumeUsage of a volume, attached or not.
func (p *Pool) VolumeUsage(volume string) (Usage, error) {
	at, err := p.attachment(volume)
	if err != nil {
		return Usage{}, err
	}
	if at == nil {
		return p.usageOf(p.paths.Volume(volume))
	}
	var usage Usage
	err = p.reach(at.number, func(there string) (err error) {
		usage, err = p.usageOf(there)
		return err
	})
	return usage, err
}

// Place is a volume, and where it was attached as far as the caller knows.
type Place struct {
	Volume string
	ID     names.ID
	Name   string
}

// VolumeUsages of several volumes; those that do not exist are left out. One that lies where the caller says is not looked for.
func (p *Pool) VolumeUsages(places []Place) (map[string]Usage, error) {
	out := make(map[string]Usage, len(places))
	for _, at := range places {
		path := p.paths.Volume(at.Volume)
		if at.ID != "" {
			path = p.mounted(at.ID, at.Name)
		}
		usage, err := p.usageOf(path)
		if err != nil || volumeAt(path) != at.Volume {
			usage, err = p.VolumeUsage(at.Volume)
		}
		if err == nil {
			out[at.Volume] = usage
		} else if wire.AsError(err).Code != wire.NotFound {
			return nil, err
		}
	}
	return out, nil
}

func (p *Pool) usageOf(path string) (Usage, error) {
	number, err := subvolumeNumber(path)
	if errors.Is(err, os.ErrNotExist) {
		return Usage{}, wire.Errorf(wire.NotFound, "there is no disk %s", path)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("reading the number of subvolume %s: %w", path, err)
	}
	var used uint64
	for _, counter := range []string{"referenced", "rsv_data"} {
		bytes, err := qgroupFile(p.uuid, number, counter)
		if err != nil {
			return Usage{}, fmt.Errorf("reading the usage of %s: %w", path, err)
		}
		used += bytes
	}
	limit, err := qgroupFile(p.uuid, number, "max_referenced")
	if err != nil {
		return Usage{}, fmt.Errorf("reading the limit of %s: %w", path, err)
	}
	return Usage{UsedMib: int64(used >> 20), LimitMib: int64(limit >> 20)}, nil
}

// Disks lists the instances that have a subvolume, unfinished ones included.
func Disks(paths names.Paths) ([]names.ID, error) {
	entries, err := os.ReadDir(paths.Disks())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the disks: %w", err)
	}
	seen := map[names.ID]bool{}
	for _, entry := range entries {
		name := entry.Name()
		if filepath.Ext(name) == stagedSuffix {
			name = name[:len(name)-len(stagedSuffix)]
		}
		if id, err := names.ParseID(name); err == nil {
			seen[id] = true
		}
	}
	out := make([]names.ID, 0, len(seen))
	for id := range seen {
		out = append(out, id)
	}
	sort.Slice(out, func(a, b int) bool { return out[a] < out[b] })
	return out, nil
}
