package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// TreeDigest tells one tree of files from any other: names, kinds, owners, modes, times of change, attributes, links'
// targets and contents. It does not depend on where a tree lies or how its contents are laid out: holes and zeros are one.
func TreeDigest(path string) (string, error) {
	digest := sha256.New()
	root, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("opening the tree %s: %w", path, err)
	}
	directory := os.NewFile(uintptr(root), path)
	defer directory.Close()
	if err := digestDirectory(digest, directory); err != nil {
		return "", fmt.Errorf("reading the tree %s: %w", path, err)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// digestDirectory goes by descriptors: a tenant's paths may be longer than any that the kernel takes.
func digestDirectory(digest hash.Hash, directory *os.File) error {
	entries, err := directory.Readdirnames(-1)
	if err != nil {
		return err
	}
	sort.Strings(entries)
	for _, name := range entries {
		if err := digestEntry(digest, directory, name); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	put(digest, "end of directory")
	return nil
}

func digestEntry(digest hash.Hash, parent *os.File, name string) error {
	var stat unix.Stat_t
	if err := unix.Fstatat(int(parent.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := stat.Mode & unix.S_IFMT
	// A mount point of another subvolume is an empty directory in a snapshot, whose own times tell nothing.
	put(digest, name)
	numbers(digest, uint64(stat.Mode), uint64(stat.Uid), uint64(stat.Gid), stat.Rdev, uint64(stat.Mtim.Nano()))
	if kind != unix.S_IFDIR {
		numbers(digest, uint64(stat.Nlink), uint64(stat.Size))
	}
	switch kind {
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(parent.Fd()), name, target)
		if err != nil {
			return err
		}
		put(digest, string(target[:n]))
		return nil
	case unix.S_IFREG, unix.S_IFDIR:
		return digestOpened(digest, parent, name, kind)
	}
	return nil
}

func digestOpened(digest hash.Hash, parent *os.File, name string, kind uint32) error {
	flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOATIME | unix.O_CLOEXEC
	descriptor, err := unix.Openat(int(parent.Fd()), name, flags, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(descriptor), name)
	defer file.Close()
	if err := digestAttributes(digest, file); err != nil {
		return err
	}
	if kind == unix.S_IFDIR {
		return digestDirectory(digest, file)
	}
	return digestContents(digest, file)
}

func digestAttributes(digest hash.Hash, file *os.File) error {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(file.Fd()), list)
	if err != nil {
		return fmt.Errorf("listing attributes: %w", err)
	}
	var found []string
	for _, name := range splitNul(list[:n]) {
		found = append(found, name)
	}
	sort.Strings(found)
	value := make([]byte, 64<<10)
	for _, name := range found {
		n, err := unix.Fgetxattr(int(file.Fd()), name, value)
		if err != nil {
			return fmt.Errorf("reading attribute %s: %w", name, err)
		}
		put(digest, name)
		put(digest, string(value[:n]))
	}
	return nil
}

func splitNul(list []byte) []string {
	var out []string
	for len(list) > 0 {
		end := 0
		for end < len(list) && list[end] != 0 {
			end++
		}
		out = append(out, string(list[:end]))
		list = list[min(end+1, len(list)):]
	}
	return out
}

const block = 4096

// digestContents takes in the blocks that are not all zeros, with their offsets. Holes are passed over, however large.
func digestContents(digest hash.Hash, file *os.File) error {
	buffer := make([]byte, 64*block)
	for offset := int64(0); ; {
		data, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
		if err == unix.ENXIO {
			put(digest, "end of file")
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for data: %w", err)
		}
		offset = data - data%block
		n, err := file.ReadAt(buffer, offset)
		if err != nil && err != io.EOF {
			return err
		}
		for at := 0; at < n; at += block {
			piece := buffer[at:min(at+block, n)]
			if isZero(piece) {
				continue
			}
			numbers(digest, uint64(offset)+uint64(at))
			put(digest, string(piece))
		}
		if n == 0 {
			put(digest, "end of file")
			return nil
		}
		offset += int64(n)
	}
}

func isZero(piece []byte) bool {
	for _, b := range piece {
		if b != 0 {
			return false
		}
	}
	return true
}

// put is bound by its length, so that no two sequences of texts are one.
func put(digest hash.Hash, text string) {
	numbers(digest, uint64(len(text)))
	io.WriteString(digest, text)
}

func numbers(digest hash.Hash, all ...uint64) {
	for _, number := range all {
		digest.Write(binary.LittleEndian.AppendUint64(nil, number))
	}
}
