package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// A volume is one subvolume that lies either at v/<volume> or, attached, at i/<id>/vol/<name>. Attaching is one
// rename(2), which a running sandbox sees at once. A volume bears its own name from birth as an extended attribute, so
// that it finds its way back from vol/<name> without any record elsewhere.

const volumeAttribute = "trusted.torpor.volume"

func nameVolume(path, volume string) error {
	if err := unix.Setxattr(path, volumeAttribute, []byte(volume), 0); err != nil {
		return fmt.Errorf("writing the name of volume %s on it: %w", volume, err)
	}
	return nil
}

func (p *Pool) mounted(id names.ID, name string) string {
	return filepath.Join(p.paths.Disk(id), "vol", name)
}

// Attach moves a volume into an instance's vol/<name>; attached there already is success, elsewhere is busy.
func (p *Pool) Attach(id names.ID, volume, name string) error {
	target := p.mounted(id, name)
	if volumeAt(target) == volume {
		return nil
	}
	source := p.paths.Volume(volume)
	if is, err := isSubvolume(source); err != nil || !is {
		if at, err := p.attachment(volume); err == nil && at != "" {
			return wire.Errorf(wire.Busy, "volume %s is attached at %s; detach it there first", volume, at)
		}
		return wire.Errorf(wire.NotFound, "there is no volume %s; create it first", volume)
	}
	if _, err := os.Lstat(filepath.Dir(target)); err != nil {
		return wire.Errorf(wire.NotFound, "instance %s has no disk to attach volume %s to", id, volume)
	}
	// RENAME_NOREPLACE: an empty directory that a guest made there is not ours to replace.
	err := unix.Renameat2(unix.AT_FDCWD, source, unix.AT_FDCWD, target, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return wire.Errorf(wire.AlreadyExists, "instance %s has something else at vol/%s; choose another name", id, name)
	}
	if err != nil {
		return fmt.Errorf("attaching volume %s to instance %s: %w", volume, id, err)
	}
	return nil
}

// Detach moves it back; the guest must have unmounted it. Not attached is success.
func (p *Pool) Detach(id names.ID, volume, name string) error {
	if path := p.mounted(id, name); volumeAt(path) == volume {
		return p.moveBack(volume, path)
	}
	attached, err := p.attachedTo(id)
	if err != nil {
		return err
	}
	if path, ok := attached[volume]; ok {
		return p.moveBack(volume, path)
	}
	if is, err := isSubvolume(p.paths.Volume(volume)); err == nil && is {
		return nil
	}
	return wire.Errorf(wire.NotFound, "instance %s has no volume %s attached, and there is none elsewhere unattached", id, volume)
}

func (p *Pool) moveBack(volume, path string) error {
	home := p.paths.Volume(volume)
	return p.pinned(path, func(parent int, name, there string) error {
		if volumeAt(there) != volume {
			return wire.Errorf(wire.Busy, "volume %s was moved away from %s meanwhile; ask again", volume, path)
		}
		err := unix.Renameat2(parent, name, unix.AT_FDCWD, home, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EBUSY) {
			return wire.Errorf(wire.Busy, "volume %s is in use at %s; unmount it inside first", volume, path)
		}
		if err != nil {
			return fmt.Errorf("moving volume %s back from %s: %w", volume, path, err)
		}
		if volumeAt(home) == volume {
			return nil
		}
		// The guest has put something else in its place between our look and the move.
		if err := unix.Renameat2(unix.AT_FDCWD, home, parent, name, unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("putting back what was moved instead of volume %s: %w", volume, err)
		}
		return wire.Errorf(wire.Busy, "volume %s was moved away from %s meanwhile; ask again", volume, path)
	})
}

// pinned opens the directory that a path below an instance's disk lies in, following no link: the guest of a running
// sandbox can put a link in place of any directory there, and it would lead root wherever the guest likes. There is the
// same place by way of the open directory, good for as long as act lasts.
func (p *Pool) pinned(path string, act func(parent int, name, there string) error) error {
	relative, err := filepath.Rel(p.paths.Disks(), filepath.Dir(path))
	if err != nil {
		return err
	}
	return within(p.paths.Disks(), func(disks *os.File) error {
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
		parent, err := unix.Openat2(int(disks.Fd()), relative, &how)
		if err != nil {
			return fmt.Errorf("opening the directory of %s: %w", path, err)
		}
		defer unix.Close(parent)
		name := filepath.Base(path)
		return act(parent, name, fmt.Sprintf("/proc/self/fd/%d/%s", parent, name))
	})
}

// volumeAt is the volume that lies at a path, or "". Only subvolumes count: a guest cannot make one, nor write trusted attributes.
func volumeAt(path string) string {
	if is, err := isSubvolume(path); err != nil || !is {
		return ""
	}
	buffer := make([]byte, 256)
	n, err := unix.Lgetxattr(path, volumeAttribute, buffer)
	if err != nil {
		return ""
	}
	volume, err := names.ParseVolume(string(buffer[:n]))
	if err != nil {
		return ""
	}
	return volume
}

func (p *Pool) detachAll(id names.ID) error {
	attached, err := p.attachedTo(id)
	if err != nil {
		return err
	}
	for volume, path := range attached {
		if err := p.moveBack(volume, path); err != nil {
			return err
		}
	}
	return nil
}

// attachedTo finds the volumes anywhere below an instance's vol/, since its guest may have renamed them there.
func (p *Pool) attachedTo(id names.ID) (map[string]string, error) {
	found := map[string]string{}
	top := filepath.Join(p.paths.Disk(id), "vol")
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		if volume := volumeAt(path); volume != "" {
			found[volume] = path
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the volumes of instance %s: %w", id, err)
	}
	return found, nil
}

// attachment finds where a volume is attached, or "". It looks at every instance, so it is for the rare questions only.
func (p *Pool) attachment(volume string) (string, error) {
	ids, err := Disks(p.paths)
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		attached, err := p.attachedTo(id)
		if err != nil {
			return "", err
		}
		if path, ok := attached[volume]; ok {
			return path, nil
		}
	}
	return "", nil
}
