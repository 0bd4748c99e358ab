package files

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
)

// Open opens a regular file to read. It never waits: a FIFO without a writer or a device is refused, not opened for ever.
func (s *Store) Open(path string) (*os.File, Metadata, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, Metadata{}, explain(path, err)
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fault.Conflict("%s is a directory; expected a file", path)
	} else if err == nil && !info.Mode().IsRegular() {
		err = fault.Failed("%s is a pipe, socket or device; expected a regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, Metadata{}, err
	}
	return file, s.describe(path, info), nil
}

// Write says how a file is to be written. A nil Mode or Owner keeps what an existing file has, and else means 0644 and Default.
type Write struct {
	Mode    *uint32
	Owner   *account.Account
	Default account.Account
	Parents bool
}

// Put replaces a file with the body, in one step: readers see the old content or the new, and a broken body changes nothing.
func (s *Store) Put(path string, body io.Reader, how Write) (Metadata, error) {
	path, err := destination(path, how)
	if err != nil {
		return Metadata{}, err
	}
	present, err := replaceable(path)
	if err != nil {
		return Metadata{}, err
	}
	temporary, err := createBeside(path)
	if err != nil {
		return Metadata{}, explain(path, err)
	}
	name := temporary.Name()
	if err := fill(temporary, body, present, how); err != nil {
		temporary.Close()
		os.Remove(name)
		return Metadata{}, unwritten(path, err)
	}
	if err := temporary.Close(); err != nil {
		os.Remove(name)
		return Metadata{}, explain(path, err)
	}
	if err := os.Rename(name, path); err != nil {
		os.Remove(name)
		return Metadata{}, explain(path, err)
	}
	return s.Stat(path)
}

// Append adds the body to a file, and makes the file when there is none.
func (s *Store) Append(path string, body io.Reader, how Write) (Metadata, error) {
	path, err := destination(path, how)
	if err != nil {
		return Metadata{}, err
	}
	present, err := replaceable(path)
	if err != nil {
		return Metadata{}, err
	}
	if present == nil {
		return s.Put(path, body, how)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Metadata{}, explain(path, err)
	}
	defer file.Close()
	if err := copyAndSync(file, body); err != nil {
		return Metadata{}, unwritten(path, err)
	}
	return s.Stat(path)
}

// destination follows a symlink to what it names, so that writing through a link keeps the link, and makes parents when asked to.
func destination(path string, how Write) (string, error) {
	resolved, err := followLinks(path)
	if err != nil {
		return "", err
	}
	if how.Parents {
		if err := makeParents(filepath.Dir(resolved), ownerOf(how), 0o755); err != nil {
			return "", err
		}
	}
	return resolved, nil
}

const linksMax = 40

func followLinks(path string) (string, error) {
	for range linksMax {
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil // not a link: a file, or nothing yet
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", fault.BadRequest("%s: too many symbolic links", path)
}

// replaceable gives what is at the path now, or nil.
func replaceable(path string) (os.FileInfo, error) {
	info, err := os.Lstat(path)
	switch {
	case os.IsNotExist(err):
		return nil, nil
	case err != nil:
		return nil, explain(path, err)
	case info.IsDir():
		return nil, fault.Conflict("%s is a directory; expected a file", path)
	case !info.Mode().IsRegular():
		return nil, fault.Failed("%s is a pipe, socket or device; expected a regular file", path)
	}
	return info, nil
}

func createBeside(path string) (*os.File, error) {
	var noise [6]byte
	rand.Read(noise[:])
	name := filepath.Join(filepath.Dir(path), ".torpor-"+hex.EncodeToString(noise[:])+".tmp")
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func fill(file *os.File, body io.Reader, present os.FileInfo, how Write) error {
	if err := copyAndSync(file, body); err != nil {
		return err
	}
	uid, gid := ownerOf(how).UID, ownerOf(how).GID
	mode := uint32(0o644)
	if present != nil {
		raw := present.Sys().(*syscall.Stat_t) // always so for os.Lstat on Linux
		mode = raw.Mode & 0o7777
		if how.Owner == nil {
			uid, gid = raw.Uid, raw.Gid
		}
	}
	if how.Mode != nil {
		mode = *how.Mode
	}
	if uid != uint32(os.Geteuid()) || gid != uint32(os.Getegid()) {
		if err := file.Chown(int(uid), int(gid)); err != nil {
			return err
		}
	}
	return unix.Fchmod(int(file.Fd()), mode) // after chown, which clears set-id bits
}

func ownerOf(how Write) account.Account {
	if how.Owner != nil {
		return *how.Owner
	}
	return how.Default
}

func copyAndSync(file *os.File, body io.Reader) error {
	if _, err := io.Copy(file, body); err != nil {
		return err
	}
	return syncUnlessVolatile(file)
}

// unwritten tells of the file that was asked for, whatever the name of the one that was being written. A quota is the sandbox's own disk;
// ENOSPC may be any file system's.
func unwritten(path string, err error) error {
	if errors.Is(err, syscall.EDQUOT) {
		return fault.NoSpace("write %s: the sandbox's disk is full", path)
	}
	if inner, named := errors.AsType[*fs.PathError](err); named {
		err = inner.Err
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// syncUnlessVolatile skips the fsync where there is no disk behind the file.
func syncUnlessVolatile(file *os.File) error {
	var system unix.Statfs_t
	if unix.Fstatfs(int(file.Fd()), &system) == nil && (system.Type == unix.TMPFS_MAGIC || system.Type == unix.RAMFS_MAGIC) {
		return nil
	}
	return file.Sync()
}
