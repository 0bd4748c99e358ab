package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// A volume is one subvolume that lies either at v/<volume> or, attached, at i/<id>/vol/<name>. Attaching is one
// rename(2), which a running sandbox sees at once. A volume bears its own name from birth as an extended attribute, so
// that it finds its way back from vol/<name> without any record elsewhere.
//
// An instance's vol/ is immutable but for the moment in which hostd itself changes it: its guest, which is root inside,
// could otherwise move a volume away from where its images know it. Disks that were made before this was so become it
// with their first volume; until then a volume may lie anywhere below vol/, and is found there.

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
		if at, err := p.attachment(volume); err == nil && at != nil {
			return wire.Errorf(wire.Busy, "volume %s is attached to instance %s; detach it there first", volume, at.to)
		}
		return wire.Errorf(wire.NotFound, "there is no volume %s; create it first", volume)
	}
	if _, err := os.Lstat(filepath.Dir(target)); err != nil {
		return wire.Errorf(wire.NotFound, "instance %s has no disk to attach volume %s to", id, volume)
	}
	// RENAME_NOREPLACE: an empty directory that a guest made there is not ours to replace.
	err := p.changing(id, func() error {
		return unix.Renameat2(unix.AT_FDCWD, source, unix.AT_FDCWD, target, unix.RENAME_NOREPLACE)
	})
	if errors.Is(err, unix.EEXIST) {
		return wire.Errorf(wire.AlreadyExists, "instance %s has something else at vol/%s; choose another name", id, name)
	}
	if err != nil {
		return fmt.Errorf("attaching volume %s to instance %s: %w", volume, id, err)
	}
	return nil
}

// changing lets hostd alone change what lies in an instance's vol/ while act runs. The mark is set again whatever comes of it.
func (p *Pool) changing(id names.ID, act func() error) error {
	vol := p.mounted(id, "")
	if err := setImmutable(vol, false); err != nil {
		return err
	}
	return errors.Join(act(), setImmutable(vol, true))
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

// setImmutable keeps everybody, root included, from making, moving and removing what a directory holds; what lies deeper is as before.
func setImmutable(path string, immutable bool) error {
	return within(path, func(directory *os.File) error {
		flags, err := unix.IoctlGetUint32(int(directory.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return fmt.Errorf("reading the flags of %s: %w", path, err)
		}
		wanted := flags &^ immutableFlag
		if immutable {
			wanted |= immutableFlag
		}
		if wanted == flags {
			return nil
		}
		if err := unix.IoctlSetPointerInt(int(directory.Fd()), unix.FS_IOC_SETFLAGS, int(wanted)); err != nil {
			return fmt.Errorf("setting the flags of %s: %w", path, err)
		}
		return nil
	})
}

// Detach moves it back, whatever name the guest has given it, and with it any volume that the guest has put inside; the guest must have unmounted
// them. Not attached is success. After a power cut it lies there still: nobody is told that it is free who could not have it then.
func (p *Pool) Detach(id names.ID, volume, _ string) error {
	all, err := p.attachedTo(id)
	if err != nil {
		return err
	}
	at, is := all[volume]
	if !is {
		if is, err := isSubvolume(p.paths.Volume(volume)); err == nil && is {
			return p.syncVolumes()
		}
		return wire.Errorf(wire.NotFound, "instance %s has no volume %s attached, and there is none elsewhere unattached", id, volume)
	}
	inside := map[string]*attached{}
	if err := p.reach(at.number, func(there string) error { return p.lookAt(there, id, inside) }); err != nil {
		return err
	}
	err = p.changing(id, func() error {
		if err := p.moveAllBack(inside); err != nil {
			return err
		}
		return p.moveBack(volume, at)
	})
	if err != nil {
		return err
	}
	return p.syncVolumes()
}

func (p *Pool) detachAll(id names.ID) error {
	all, err := p.attachedTo(id)
	if err != nil || len(all) == 0 {
		return err
	}
	return p.changing(id, func() error { return p.moveAllBack(all) })
}

func (p *Pool) moveAllBack(all map[string]*attached) error {
	for volume, at := range all {
		if err := p.moveBack(volume, at); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pool) moveBack(volume string, at *attached) error {
	home := p.paths.Volume(volume)
	err := p.reachParent(at.nested, func(parent int, name string) error {
		err := unix.Renameat2(parent, name, unix.AT_FDCWD, home, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.ENOENT) {
			return errElsewhere
		}
		if errors.Is(err, unix.EBUSY) {
			return wire.Errorf(wire.Busy, "volume %s is in use in instance %s; unmount it inside first", volume, at.to)
		}
		if err != nil {
			return fmt.Errorf("moving volume %s back from instance %s: %w", volume, at.to, err)
		}
		if volumeAt(home) == volume {
			return nil
		}
		// The guest has put something else in its place between our look and the move.
		if err := unix.Renameat2(unix.AT_FDCWD, home, parent, name, unix.RENAME_NOREPLACE); err != nil {
			return fmt.Errorf("putting back what was moved instead of volume %s: %w", volume, err)
		}
		return errElsewhere
	})
	if errors.Is(err, errElsewhere) {
		return wire.Errorf(wire.Busy, "volume %s was moved about in instance %s meanwhile; ask again", volume, at.to)
	}
	return err
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

// attached is where in which instance's disk a volume lies.
type attached struct {
	to names.ID
	nested
}

// attachedTo finds the volumes anywhere below an instance's vol/, since its guest may have moved them there.
func (p *Pool) attachedTo(id names.ID) (map[string]*attached, error) {
	found := map[string]*attached{}
	err := p.lookAt(p.paths.Disk(id), id, found)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("looking for the volumes of instance %s: %w", id, err)
	}
	return found, nil
}

// lookAt finds the volumes within a subvolume, those within them too.
func (p *Pool) lookAt(path string, id names.ID, found map[string]*attached) error {
	all, err := nestedIn(path)
	if err != nil {
		return err
	}
	for _, one := range all {
		err := p.reach(one.number, func(there string) error {
			if volume := volumeAt(there); volume != "" {
				found[volume] = &attached{id, one}
			}
			return p.lookAt(there, id, found)
		})
		// It may have been detached and deleted meanwhile.
		if err != nil && !errors.Is(err, errElsewhere) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// attachment finds where a volume is attached, or nil. It looks at every instance, so it is for the rare questions only.
func (p *Pool) attachment(volume string) (*attached, error) {
	ids, err := Disks(p.paths)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		all, err := p.attachedTo(id)
		if err != nil {
			return nil, err
		}
		if at, ok := all[volume]; ok {
			return at, nil
		}
	}
	return nil, nil
}
