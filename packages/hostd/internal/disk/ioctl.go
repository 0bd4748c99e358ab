package disk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The btrfs ioctls of linux/btrfs.h, for which there is no well-kept Go library. All act on the directory they are given.

const btrfsMagic = 0x94

func ioc(direction, number, size uintptr) uintptr {
	return direction<<30 | size<<16 | btrfsMagic<<8 | number
}

const (
	iocWrite     = 1
	iocReadWrite = 3
	iocRead      = 2
)

var (
	ioctlSnapDestroy   = ioc(iocWrite, 15, 4096)
	ioctlInoLookup     = ioc(iocReadWrite, 18, 4096)
	ioctlSnapCreateV2  = ioc(iocWrite, 23, 4096)
	ioctlSubvolCreate2 = ioc(iocWrite, 24, 4096)
	ioctlSetFlags      = ioc(iocWrite, 26, 8)
	ioctlFsInfo        = ioc(iocRead, 31, 1024)
	ioctlQuotaCtl      = ioc(iocReadWrite, 40, 16)
	ioctlQgroupAssign  = ioc(iocWrite, 41, 24)
	ioctlQgroupCreate  = ioc(iocWrite, 42, 16)
	ioctlQgroupLimit   = ioc(iocRead, 43, 48)
	ioctlSubvolRootref = ioc(iocReadWrite, 61, 4096)
	ioctlInoLookupUser = ioc(iocReadWrite, 62, 4096)
)

const (
	quotaEnable       = 1
	quotaEnableSimple = 4
	limitMaxReferred  = 1
	subvolReadOnly    = 1 << 1
	subvolInherit     = 1 << 2
)

func ioctl(directory *os.File, request uintptr, argument []byte) error {
	var pointer unsafe.Pointer
	if len(argument) > 0 {
		pointer = unsafe.Pointer(&argument[0])
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, directory.Fd(), request, uintptr(pointer)); errno != 0 {
		return errno
	}
	return nil
}

// within opens a directory for the length of one call; a link in its place is refused.
func within(path string, act func(directory *os.File) error) error {
	directory, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer directory.Close()
	return act(directory)
}

var native = binary.NativeEndian

// volArgsV2 is struct btrfs_ioctl_vol_args_v2: fd at 0, transid 8, flags 16, inherit size 24, inherit pointer 32, name 56.
func volArgsV2(fd int64, name string, inherit []byte) []byte {
	out := make([]byte, 4096)
	native.PutUint64(out[0:], uint64(fd))
	if len(inherit) > 0 {
		native.PutUint64(out[16:], subvolInherit)
		native.PutUint64(out[24:], uint64(len(inherit)))
		native.PutUint64(out[32:], uint64(uintptr(unsafe.Pointer(&inherit[0]))))
	}
	copy(out[56:4095], name)
	return out
}

// inheriting is struct btrfs_qgroup_inherit with one parent group: flags, counts, limit (40 bytes), group.
func inheriting(qgroup uint64) []byte {
	out := make([]byte, 80)
	native.PutUint64(out[8:], 1)
	native.PutUint64(out[72:], qgroup)
	return out
}

// pin keeps a buffer in place while another buffer holds its address as a mere number.
func pin(buffer []byte) *runtime.Pinner {
	pinner := &runtime.Pinner{}
	pinner.Pin(&buffer[0])
	return pinner
}

func createSubvolume(path string, parentQgroup uint64) error {
	inherit := inheriting(parentQgroup)
	pinned := pin(inherit)
	defer pinned.Unpin()
	return within(filepath.Dir(path), func(parent *os.File) error {
		return ioctl(parent, ioctlSubvolCreate2, volArgsV2(0, filepath.Base(path), inherit))
	})
}

func snapshotSubvolume(source, path string, parentQgroup uint64) error {
	inherit := inheriting(parentQgroup)
	pinned := pin(inherit)
	defer pinned.Unpin()
	return within(source, func(from *os.File) error {
		return within(filepath.Dir(path), func(parent *os.File) error {
			return ioctl(parent, ioctlSnapCreateV2, volArgsV2(int64(from.Fd()), filepath.Base(path), inherit))
		})
	})
}

func setReadOnly(path string) error {
	argument := make([]byte, 8)
	native.PutUint64(argument, subvolReadOnly)
	return within(path, func(directory *os.File) error { return ioctl(directory, ioctlSetFlags, argument) })
}

func destroySubvolume(path string) error {
	argument := make([]byte, 4096)
	copy(argument[8:4095], filepath.Base(path))
	return within(filepath.Dir(path), func(parent *os.File) error { return ioctl(parent, ioctlSnapDestroy, argument) })
}

const subvolumeInode = 256

func isSubvolume(path string) (bool, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return false, err
	}
	return stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Ino == subvolumeInode, nil
}

// subvolumeNumber is the tree id, which is also the number of the subvolume's own quota group 0/number.
func subvolumeNumber(path string) (uint64, error) {
	argument := make([]byte, 4096)
	native.PutUint64(argument[8:], subvolumeInode)
	err := within(path, func(directory *os.File) error { return ioctl(directory, ioctlInoLookup, argument) })
	return native.Uint64(argument[0:]), err
}

func enableQuota(pool *os.File, command uint64) error {
	argument := make([]byte, 16)
	native.PutUint64(argument, command)
	return ioctl(pool, ioctlQuotaCtl, argument)
}

func createQgroup(pool *os.File, qgroup uint64) error { return qgroupCtl(pool, 1, qgroup) }
func deleteQgroup(pool *os.File, qgroup uint64) error { return qgroupCtl(pool, 0, qgroup) }

func qgroupCtl(pool *os.File, create, qgroup uint64) error {
	argument := make([]byte, 16)
	native.PutUint64(argument[0:], create)
	native.PutUint64(argument[8:], qgroup)
	return ioctl(pool, ioctlQgroupCreate, argument)
}

// assignQgroup makes one group a member of another.
func assignQgroup(pool *os.File, member, group uint64) error {
	argument := make([]byte, 24)
	native.PutUint64(argument[0:], 1)
	native.PutUint64(argument[8:], member)
	native.PutUint64(argument[16:], group)
	return ioctl(pool, ioctlQgroupAssign, argument)
}

// limitQgroup bounds what a group may refer to, in bytes.
func limitQgroup(pool *os.File, qgroup, bytes uint64) error {
	argument := make([]byte, 48)
	native.PutUint64(argument[0:], qgroup)
	native.PutUint64(argument[8:], limitMaxReferred)
	native.PutUint64(argument[16:], bytes)
	return ioctl(pool, ioctlQgroupLimit, argument)
}

func fsUUID(pool *os.File) (string, error) {
	argument := make([]byte, 1024)
	if err := ioctl(pool, ioctlFsInfo, argument); err != nil {
		return "", err
	}
	id := argument[16:32]
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:16]), nil
}

// qgroupFile reads one of the kernel's live counters, which the on-disk quota tree trails by a commit (up to 30 s).
func qgroupFile(uuid string, qgroup uint64, name string) (uint64, error) {
	level, number := qgroup>>48, qgroup&(1<<48-1)
	text, err := os.ReadFile(fmt.Sprintf("/sys/fs/btrfs/%s/qgroups/%d_%d/%s", uuid, level, number, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(bytes.TrimSpace(text))), 10, 64)
}
