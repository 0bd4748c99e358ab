// Package files serves the instance's file system. Everything in it belongs to the tenant, so there is nothing to escape from;
// what it guards against is hanging (FIFOs, devices), half-written files, and unbounded answers.
package files

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
)

// Metadata describes one directory entry, never what a symlink leads to.
type Metadata struct {
	Path       string  `json:"path"`
	Name       string  `json:"name"`
	Type       string  `json:"type"`
	Size       int64   `json:"size"`
	Mode       string  `json:"mode"`
	Owner      string  `json:"owner"`
	Group      string  `json:"group"`
	UID        uint32  `json:"uid"`
	GID        uint32  `json:"gid"`
	ModifiedAt string  `json:"modifiedAt"`
	Target     *string `json:"target,omitempty"`
}

// Store is the file system as the API sees it.
type Store struct {
	Book *account.Book
}

// Stat describes the path itself.
func (s *Store) Stat(path string) (Metadata, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return Metadata{}, explain(path, err)
	}
	return s.describe(path, info), nil
}

func (s *Store) describe(path string, info os.FileInfo) Metadata {
	metadata := Metadata{
		Path: path, Name: filepath.Base(path), Type: typeOf(info.Mode()), Size: info.Size(),
		Mode: modeOf(info.Mode()), ModifiedAt: info.ModTime().UTC().Format("2006-01-02T15:04:05.000Z"),
	}
	if raw, ok := info.Sys().(*syscall.Stat_t); ok {
		metadata.UID, metadata.GID = raw.Uid, raw.Gid
		metadata.Owner, metadata.Group = s.Book.UserName(raw.Uid), s.Book.GroupName(raw.Gid)
	}
	if metadata.Type == "symlink" {
		if target, err := os.Readlink(path); err == nil { // it may be gone again by now
			metadata.Target = &target
		}
	}
	return metadata
}

func typeOf(mode os.FileMode) string {
	switch {
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "directory"
	case mode&os.ModeSymlink != 0:
		return "symlink"
	}
	return "other"
}

func modeOf(mode os.FileMode) string {
	bits := uint32(mode.Perm())
	if mode&os.ModeSetuid != 0 {
		bits |= syscall.S_ISUID
	}
	if mode&os.ModeSetgid != 0 {
		bits |= syscall.S_ISGID
	}
	if mode&os.ModeSticky != 0 {
		bits |= syscall.S_ISVTX
	}
	return fmt.Sprintf("%04o", bits)
}

// ParseMode reads octal digits such as "0644" into permission and set-id bits.
func ParseMode(text string) (uint32, error) {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil || mode > 0o7777 {
		return 0, fault.BadRequest("mode is %q; expected octal digits such as 0644", text)
	}
	return uint32(mode), nil
}

// explain says which path it was about, and keeps the system's error.
func explain(path string, err error) error {
	if os.IsNotExist(err) {
		return fault.NotFound("%s does not exist", path)
	}
	return fmt.Errorf("%s: %w", path, err)
}
