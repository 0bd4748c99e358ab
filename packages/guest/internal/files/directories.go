package files

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
)

// EntriesMax bounds one listing.
const EntriesMax = 10_000

// List describes what is in a directory, depth levels down, sorted by path; symlinks are not followed below the path itself.
func (s *Store) List(path string, depth, limit int) (entries []Metadata, truncated bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false, explain(path, err)
	}
	if !info.IsDir() {
		return nil, false, fault.Conflict("%s is not a directory", path)
	}
	entries = []Metadata{}
	truncated, err = s.listInto(&entries, path, depth, limit)
	return entries, truncated, err
}

func (s *Store) listInto(entries *[]Metadata, path string, depth, limit int) (truncated bool, err error) {
	directory, err := os.Open(path)
	if err != nil {
		return false, explain(path, err)
	}
	// A directory with millions of names is cut before sorting, so that memory stays bounded.
	names, err := directory.Readdirnames(max(limit-len(*entries), 0) + 1)
	directory.Close()
	if err != nil && len(names) == 0 && err != io.EOF {
		return false, explain(path, err)
	}
	sort.Strings(names)
	for _, name := range names {
		if len(*entries) >= limit {
			return true, nil
		}
		child := filepath.Join(path, name)
		info, err := os.Lstat(child)
		if err != nil {
			continue // gone since the names were read
		}
		*entries = append(*entries, s.describe(child, info))
		if depth > 1 && info.IsDir() {
			cut, err := s.listInto(entries, child, depth-1, limit)
			if cut || (err != nil && !errors.Is(err, os.ErrNotExist)) {
				return cut, err
			}
		}
	}
	return false, nil
}

// MakeDirectory makes a directory. With parents it is fine that it exists; without, it is a fault.
func (s *Store) MakeDirectory(path string, mode uint32, parents bool, owner account.Account) (Metadata, error) {
	if parents {
		if err := makeParents(path, owner, mode); err != nil {
			return Metadata{}, err
		}
		return s.Stat(path)
	}
	if err := makeOne(path, owner, mode); err != nil {
		if os.IsExist(err) {
			return Metadata{}, fault.Exists("%s exists already", path)
		}
		return Metadata{}, explain(filepath.Dir(path), err)
	}
	return s.Stat(path)
}

// makeParents makes every missing directory down to the path, each owned by the owner.
func makeParents(path string, owner account.Account, mode uint32) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil
	}
	if err == nil {
		return fault.Conflict("%s is a file; expected a directory", path)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return fault.Conflict("a part of %s is a file; expected directories", path)
	}
	if !os.IsNotExist(err) {
		return explain(path, err)
	}
	if err := makeParents(filepath.Dir(path), owner, 0o755); err != nil {
		return err
	}
	err = makeOne(path, owner, mode)
	if os.IsExist(err) {
		return nil // someone else was quicker
	}
	return err
}

func makeOne(path string, owner account.Account, mode uint32) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	if owner.UID != uint32(os.Geteuid()) || owner.GID != uint32(os.Getegid()) {
		if err := os.Lchown(path, int(owner.UID), int(owner.GID)); err != nil {
			return err
		}
	}
	return syscall.Chmod(path, mode)
}

// Remove removes a file, a link, an empty directory, or with recursive a whole tree.
func (s *Store) Remove(path string, recursive bool) error {
	if path == "/" {
		return fault.BadRequest("the root directory cannot be removed")
	}
	info, err := os.Lstat(path)
	if err != nil {
		return explain(path, err)
	}
	if recursive && info.IsDir() {
		return os.RemoveAll(path)
	}
	err = os.Remove(path)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return fault.NotEmpty("%s is a directory that is not empty; expected recursive=1", path)
	}
	return err
}
