package survey

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Kind of what bears a name.
type Kind string

const (
	File      Kind = "file"
	Directory Kind = "directory"
	Symlink   Kind = "symlink"
	// Other is a pipe, a socket or a device.
	Other Kind = "other"
)

// Entry is what bears a name in one tree. Mode are the permission bits, those for set-id and sticky included.
type Entry struct {
	Kind Kind   `json:"kind"`
	Mode uint32 `json:"mode"`
	UID  uint32 `json:"uid"`
	GID  uint32 `json:"gid"`
	// Size of a file's contents.
	Size int64 `json:"size,omitempty"`
	// ModifiedAtMs alone makes no difference between two entries.
	ModifiedAtMs int64 `json:"modifiedAtMs"`
	// Target of a symlink, which need not be text.
	Target []byte `json:"target,omitempty"`

	modified time.Time
	format   uint32
	device   uint64
}

func (e *Entry) isPipe() bool { return e.format == unix.S_IFIFO }

// dir is one directory of one tree. merged is what its sandbox sees; upper is the part of it that is the sandbox's own,
// nil when it has none there. What has no such directory has a nil dir.
type dir struct{ merged, upper *os.File }

func (d *dir) close() {
	if d == nil {
		return
	}
	d.merged.Close()
	if d.upper != nil {
		d.upper.Close()
	}
}

// look tells what bears a name; nil when nothing does.
func (d *dir) look(name string) (*Entry, error) {
	if d == nil {
		return nil, nil
	}
	var stat unix.Stat_t
	err := unix.Fstatat(int(d.merged.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at %q: %w", name, err)
	}
	out := &Entry{
		Kind: Other, Mode: stat.Mode & 0o7777, UID: stat.Uid, GID: stat.Gid, ModifiedAtMs: stat.Mtim.Nano() / 1e6,
		modified: time.Unix(stat.Mtim.Unix()), format: stat.Mode & unix.S_IFMT, device: stat.Rdev,
	}
	switch out.format {
	case unix.S_IFREG:
		out.Kind, out.Size = File, stat.Size
	case unix.S_IFDIR:
		out.Kind = Directory
	case unix.S_IFLNK:
		out.Kind = Symlink
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(d.merged.Fd()), name, target)
		if err != nil {
			return nil, fmt.Errorf("reading the link %q: %w", name, err)
		}
		out.Target = target[:n]
	}
	return out, nil
}

const openFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// open goes by descriptors: a tenant's paths may be longer than any that the kernel takes.
func (d *dir) open(name string) (*dir, error) {
	merged, err := unix.Openat(int(d.merged.Fd()), name, openFlags|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the directory %q: %w", name, err)
	}
	out := &dir{merged: os.NewFile(uintptr(merged), name)}
	if d.upper == nil {
		return out, nil
	}
	upper, err := unix.Openat(int(d.upper.Fd()), name, openFlags|unix.O_DIRECTORY, 0)
	switch {
	case err == nil:
		out.upper = os.NewFile(uintptr(upper), name)
	case !errors.Is(err, unix.ENOENT):
		out.close()
		return nil, fmt.Errorf("opening the directory %q in the sandbox's own layer: %w", name, err)
	}
	return out, nil
}

// openFile opens a regular file. isOwn: it lies in the sandbox's own layer, so on the pool.
func (d *dir) openFile(name string) (file *os.File, isOwn bool, err error) {
	if d.upper != nil {
		own, err := unix.Openat(int(d.upper.Fd()), name, openFlags, 0)
		if err == nil {
			return os.NewFile(uintptr(own), name), true, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			return nil, false, fmt.Errorf("opening %q: %w", name, err)
		}
	}
	merged, err := unix.Openat(int(d.merged.Fd()), name, openFlags, 0)
	if err != nil {
		return nil, false, fmt.Errorf("opening %q: %w", name, err)
	}
	return os.NewFile(uintptr(merged), name), false, nil
}

// origin says what of the lower layers is seen through a directory. Two trees over the same layers, whose directories have
// one origin, differ in it only where one of them has something of its own.
func (d *dir) origin() (string, error) {
	if d.upper == nil {
		return "", nil
	}
	out := ""
	for _, name := range []string{"trusted.overlay.opaque", "trusted.overlay.redirect"} {
		value := make([]byte, 4096)
		n, err := unix.Fgetxattr(int(d.upper.Fd()), name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("reading %s: %w", name, err)
		}
		out += fmt.Sprintf("%s=%q ", name, value[:n])
	}
	return out, nil
}

const namesAtOnce = 1024

// names of one directory, in no order.
func names(of *os.File, spend *budget, into map[string]struct{}) error {
	for {
		some, err := of.Readdirnames(namesAtOnce)
		if len(some) == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("listing: %w", err)
			}
			return nil
		}
		if err := spend.spendEntries(len(some)); err != nil {
			return err
		}
		for _, name := range some {
			into[name] = struct{}{}
		}
	}
}

// attributes are the extended ones that a tenant can set, as one text.
func attributes(of *os.File) (string, error) {
	found, err := extended(of)
	out := ""
	for _, name := range slices.Sorted(maps.Keys(found)) {
		out += fmt.Sprintf("%q=%q ", name, found[name])
	}
	return out, err
}

// userAttributes are those that a merge carries, as tar has them.
func userAttributes(of *os.File) (map[string]string, error) {
	found, err := extended(of)
	out := map[string]string{}
	for name, value := range found {
		if strings.HasPrefix(name, "user.") {
			out["SCHILY.xattr."+name] = value
		}
	}
	return out, err
}

// extended are all but the trusted ones, among which overlayfs keeps its own.
func extended(of *os.File) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(of.Fd()), list)
	if errors.Is(err, unix.EOPNOTSUPP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing attributes: %w", err)
	}
	out, value := map[string]string{}, make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.") {
			continue
		}
		n, err := unix.Fgetxattr(int(of.Fd()), name, value)
		if err != nil {
			return nil, fmt.Errorf("reading attribute %q: %w", name, err)
		}
		out[name] = string(value[:n])
	}
	return out, nil
}
