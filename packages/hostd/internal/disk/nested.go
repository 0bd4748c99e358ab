package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A *nested* subvolume lies in a directory within another one. Where that is an instance's, its guest writes around it
// while it runs: it makes trees deeper than any path is long and larger than anybody has time to walk, moves directories
// about and puts links in their place. So nothing here walks a tree or follows a path in it. The file system is asked
// which subvolumes are nested where, and opens by number what it named.

// nested is a subvolume's number, and where it lies: another's number, and the inode number of a directory in that.
type nested struct{ number, within, directory uint64 }

// errElsewhere is a nested subvolume that no longer lies where it was listed.
var errElsewhere = errors.New("it does not lie there any more")

// nestedIn lists the subvolumes within one.
func nestedIn(path string) ([]nested, error) {
	number, err := subvolumeNumber(path)
	if err != nil {
		return nil, fmt.Errorf("reading the number of subvolume %s: %w", path, err)
	}
	var found []nested
	err = within(path, func(subvolume *os.File) error {
		// struct btrfs_ioctl_get_subvol_rootref_args: where to begin at 0 (the kernel moves it on), up to 255 pairs from 8, their count at 4088.
		argument := make([]byte, 4096)
		for {
			err := ioctl(subvolume, ioctlSubvolRootref, argument)
			more := errors.Is(err, unix.EOVERFLOW)
			if err != nil && !more {
				return fmt.Errorf("listing the subvolumes within %s: %w", path, err)
			}
			for at := range int(argument[4088]) {
				pair := argument[8+16*at:]
				found = append(found, nested{number: native.Uint64(pair), within: number, directory: native.Uint64(pair[8:])})
			}
			if !more {
				return nil
			}
		}
	})
	return found, err
}

// reach lends a path that leads to a subvolume wherever it lies, good for as long as act lasts.
func (p *Pool) reach(number uint64, act func(there string) error) error {
	return p.opened(number, subvolumeInode, func(root *os.File) error {
		// The dot makes it a directory to whoever would not follow the link before it.
		return act(fmt.Sprintf("/proc/self/fd/%d/.", root.Fd()))
	})
}

// reachParent lends the directory that a nested subvolume lies in, and its name there.
func (p *Pool) reachParent(at nested, act func(parent int, name string) error) error {
	return p.opened(at.within, at.directory, func(parent *os.File) error {
		// struct btrfs_ioctl_ino_lookup_user_args: directory at 0, number 8, name 16 to 272, then the path from the one asked, which is empty here.
		argument := make([]byte, 4096)
		native.PutUint64(argument[0:], at.directory)
		native.PutUint64(argument[8:], at.number)
		err := ioctl(parent, ioctlInoLookupUser, argument)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return errElsewhere
		}
		if err != nil {
			return fmt.Errorf("asking for the name of subvolume %d within %d: %w", at.number, at.within, err)
		}
		return act(int(parent.Fd()), unix.ByteSliceToString(argument[16:272]))
	})
}

// handleWithoutParent is FILEID_BTRFS_WITHOUT_PARENT: inode number at 0, subvolume's number 8, generation 16, where 0 is any.
const handleWithoutParent = 0x4d

// opened opens a directory by the number of its subvolume and its own.
func (p *Pool) opened(number, inode uint64, act func(directory *os.File) error) error {
	handle := make([]byte, 20)
	native.PutUint64(handle[0:], inode)
	native.PutUint64(handle[8:], number)
	return within(p.paths.PoolDir, func(pool *os.File) error {
		fd, err := unix.OpenByHandleAt(int(pool.Fd()), unix.NewFileHandle(handleWithoutParent, handle), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
		if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOENT) {
			return errElsewhere
		}
		name := fmt.Sprintf("directory %d of subvolume %d", inode, number)
		if err != nil {
			return fmt.Errorf("opening %s: %w", name, err)
		}
		directory := os.NewFile(uintptr(fd), name)
		defer directory.Close()
		return act(directory)
	})
}
