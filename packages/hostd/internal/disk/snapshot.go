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

// A snapshot set is s/<image>/: the read-only snapshot "disk" of an instance's subvolume, and "volumes/<volume>" of each
// volume that was attached. It is made under another name and renamed, so that what bears the name is complete.

// KeptVolume is a volume in a snapshot set, and where below vol/ it was attached.
type KeptVolume struct {
	Volume string `json:"volume"`
	Name   string `json:"name"`
}

// nameAttribute keeps, on a volume's snapshot, where it was attached.
const nameAttribute = "trusted.torpor.name"

func diskIn(set string) string           { return filepath.Join(set, "disk") }
func volumesIn(set string) string        { return filepath.Join(set, "volumes") }
func volumeIn(set, volume string) string { return filepath.Join(volumesIn(set), volume) }

// Snapshot keeps an instance's disk and volumes as they are now, under an image's name. The instance must stand still. One that exists is left alone.
func (p *Pool) Snapshot(id names.ID, image names.Image) ([]KeptVolume, error) {
	set := p.paths.Snapshot(image)
	if _, err := os.Lstat(set); err == nil {
		return p.durablyKeptIn(set)
	}
	attached, err := p.attachedTo(id)
	if err != nil {
		return nil, err
	}
	staged := set + stagedSuffix
	if err := p.dropSnapshots(staged); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(volumesIn(staged), 0o700); err != nil {
		return nil, fmt.Errorf("making the snapshot set %s: %w", image, err)
	}
	if err := p.keep(p.paths.Disk(id), diskIn(staged), ""); err != nil {
		return nil, err
	}
	for volume, at := range attached {
		name, err := p.nameBelowVol(id, volume, at)
		if err != nil {
			return nil, err
		}
		err = p.reach(at.number, func(there string) error { return p.keep(there, volumeIn(staged, volume), name) })
		if err != nil {
			return nil, err
		}
	}
	if err := os.Rename(staged, set); err != nil {
		return nil, fmt.Errorf("naming the snapshot set %s: %w", image, err)
	}
	return p.durablyKeptIn(set)
}

// durablyKeptIn answers for a set that a power cut leaves: the memory that goes with it is let go for it.
func (p *Pool) durablyKeptIn(set string) ([]KeptVolume, error) {
	if err := syncDirectory(p.paths.Snapshots()); err != nil {
		return nil, fmt.Errorf("syncing the snapshot set %s: %w", set, err)
	}
	return p.keptIn(set)
}

// nameBelowVol is where a volume was attached. One that the guest has moved away from there has no name that a restore could attach it by.
func (p *Pool) nameBelowVol(id names.ID, volume string, at *attached) (string, error) {
	found := ""
	err := p.reachParent(at.nested, func(parent int, name string) error {
		var vol, lies unix.Stat_t
		if err := errors.Join(unix.Lstat(p.mounted(id, ""), &vol), unix.Fstat(parent, &lies)); err != nil {
			return fmt.Errorf("looking where volume %s of instance %s lies: %w", volume, id, err)
		}
		if vol.Dev != lies.Dev || vol.Ino != lies.Ino {
			return errElsewhere
		}
		found = name
		return nil
	})
	if errors.Is(err, errElsewhere) {
		return "", wire.Errorf(wire.Busy, "volume %s was moved about inside instance %s; put it back into its vol/ directory first", volume, id)
	}
	return found, err
}

// keep makes one read-only snapshot that has its source's limit, and the name where a volume was attached.
func (p *Pool) keep(source, target, name string) error {
	number, err := subvolumeNumber(source)
	if err != nil {
		return p.noSuchDisk(source, err)
	}
	limit, err := qgroupFile(p.uuid, number, "max_referenced")
	if err != nil {
		return fmt.Errorf("reading the limit of %s: %w", source, err)
	}
	if err := snapshotSubvolume(source, target, tenants); err != nil {
		return fmt.Errorf("making a snapshot of %s: %w", source, err)
	}
	if name != "" {
		if err := unix.Setxattr(target, nameAttribute, []byte(name), 0); err != nil {
			return fmt.Errorf("writing down where %s was attached: %w", source, err)
		}
	}
	if limit > 0 {
		if err := p.limit(target, int64(limit>>20)); err != nil {
			return err
		}
	}
	if err := setReadOnly(target); err != nil {
		return fmt.Errorf("making the snapshot %s read-only: %w", target, err)
	}
	return nil
}

func (p *Pool) noSuchDisk(path string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return wire.Errorf(wire.NotFound, "there is no disk %s to make a snapshot of", path)
	}
	return fmt.Errorf("reading the number of subvolume %s: %w", path, err)
}

func (p *Pool) keptIn(set string) ([]KeptVolume, error) {
	entries, err := os.ReadDir(volumesIn(set))
	if err != nil {
		return nil, fmt.Errorf("listing the volumes of %s: %w", set, err)
	}
	out := []KeptVolume{}
	for _, entry := range entries {
		buffer := make([]byte, 4096)
		n, err := unix.Lgetxattr(volumeIn(set, entry.Name()), nameAttribute, buffer)
		if err != nil {
			return nil, fmt.Errorf("reading where volume %s of %s was attached: %w", entry.Name(), set, err)
		}
		out = append(out, KeptVolume{Volume: entry.Name(), Name: string(buffer[:n])})
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Volume < out[b].Volume })
	return out, nil
}

// dropSnapshots deletes a snapshot set, finished or not.
func (p *Pool) dropSnapshots(set string) error {
	entries, err := os.ReadDir(volumesIn(set))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listing the volumes of %s: %w", set, err)
	}
	for _, entry := range entries {
		if err := p.destroy(volumeIn(set, entry.Name())); err != nil {
			return err
		}
	}
	if err := p.destroy(diskIn(set)); err != nil {
		return err
	}
	for _, directory := range []string{volumesIn(set), set} {
		if err := os.Remove(directory); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", directory, err)
		}
	}
	return nil
}

// CreateVolumeOf makes a volume from one that an image keeps. One that exists, attached or not, gets the new limit.
func (p *Pool) CreateVolumeOf(volume string, limitMib int64, image names.Image, kept string) error {
	if at, err := p.attachment(volume); err != nil {
		return err
	} else if at != nil {
		return p.reach(at.number, func(there string) error { return p.limit(there, limitMib) })
	}
	return p.createVolume(volume, volumeIn(p.paths.Snapshot(image), kept), limitMib)
}

// RestoreVolume makes a volume that is attached nowhere a writable snapshot of what an image keeps of it; its limit stays. One that is not there any more
// comes back with the limit that it had then: the image may hold all that is left of it.
func (p *Pool) RestoreVolume(volume string, image names.Image, kept string) error {
	path, source := p.paths.Volume(volume), volumeIn(p.paths.Snapshot(image), kept)
	limited := path
	if is, err := isSubvolume(path); err != nil || !is {
		at, err := p.attachment(volume)
		if err != nil {
			return err
		}
		if at != nil {
			return wire.Errorf(wire.Busy, "volume %s is attached to instance %s; detach it first", volume, at.to)
		}
		limited = source
	}
	usage, err := p.usageOf(limited)
	if err != nil {
		return err
	}
	fresh := path + stagedSuffix
	if err := p.destroy(fresh); err != nil {
		return err
	}
	if err := p.make(fresh, source); err != nil {
		return err
	}
	if err := nameVolume(fresh, volume); err != nil {
		return err
	}
	if err := p.limit(fresh, usage.LimitMib); err != nil {
		return err
	}
	return p.swapIn(fresh, path)
}

// RestoreDisk makes an instance's disk a writable snapshot of an image's, limited to limitMib, or as the image's was when
// that is 0. A disk that is there is kept as the snapshot set keep, when that is given; volumes attached to it move back.
func (p *Pool) RestoreDisk(id names.ID, image names.Image, limitMib int64, keep names.Image) error {
	source := diskIn(p.paths.Snapshot(image))
	if limitMib == 0 {
		kept, err := p.usageOf(source)
		if err != nil {
			return err
		}
		limitMib = kept.LimitMib
	}
	path := p.paths.Disk(id)
	if is, err := isSubvolume(path); err == nil && is {
		if keep != "" {
			if _, err := p.Snapshot(id, keep); err != nil {
				return err
			}
		}
		if err := p.detachAll(id); err != nil {
			return err
		}
	}
	fresh := path + stagedSuffix
	if err := p.destroy(fresh); err != nil {
		return err
	}
	if err := p.make(fresh, source); err != nil {
		return err
	}
	if err := forgetAttached(filepath.Join(fresh, "vol")); err != nil {
		return err
	}
	if err := p.limit(fresh, limitMib); err != nil {
		return err
	}
	return p.swapIn(fresh, path)
}

// swapIn puts a finished subvolume in the place of the one that bears the name, which goes.
func (p *Pool) swapIn(fresh, path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return fmt.Errorf("putting the restored disk in place of %s: %w", path, err)
	}
	if err := p.destroy(fresh); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// Upper is where an image keeps its instance's own layer.
func (p *Pool) Upper(image names.Image) string {
	return filepath.Join(diskIn(p.paths.Snapshot(image)), "upper")
}
