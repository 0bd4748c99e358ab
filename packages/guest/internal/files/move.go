package files

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/fault"
)

// Move renames within the instance. Without overwrite an existing destination is a fault, checked by the kernel where it can.
func (s *Store) Move(from, to string, overwrite bool) (Metadata, error) {
	if _, err := os.Lstat(from); err != nil {
		return Metadata{}, explain(from, err)
	}
	err := rename(from, to, overwrite)
	switch {
	case errors.Is(err, syscall.EEXIST):
		return Metadata{}, fault.Exists("%s exists already; expected overwrite", to)
	case errors.Is(err, syscall.EXDEV):
		return Metadata{}, fault.Failed("%s and %s are on different file systems; copy instead", from, to)
	case err != nil:
		return Metadata{}, explain(to, err)
	}
	return s.Stat(to)
}

func rename(from, to string, overwrite bool) error {
	if overwrite {
		return os.Rename(from, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOSYS) {
		return err
	}
	// The file system does not know NOREPLACE: look first. The gap between is the tenant against themselves.
	if _, err := os.Lstat(to); err == nil {
		return syscall.EEXIST
	}
	return os.Rename(from, to)
}

// Assemble concatenates parts into one file in one step, and removes the parts afterwards when asked to.
func (s *Store) Assemble(path string, parts []string, remove bool, how Write) (Metadata, error) {
	body := &sequence{store: s, parts: parts}
	defer body.close()
	metadata, err := s.Put(path, body, how)
	if err != nil {
		return Metadata{}, err
	}
	if remove {
		for _, part := range parts {
			if err := os.Remove(part); err != nil && !os.IsNotExist(err) {
				return Metadata{}, explain(part, err)
			}
		}
	}
	return metadata, nil
}

// sequence reads one part after the other.
type sequence struct {
	store *Store
	parts []string
	open  *os.File
}

func (q *sequence) Read(buffer []byte) (int, error) {
	for {
		if q.open == nil {
			if len(q.parts) == 0 {
				return 0, io.EOF
			}
			file, _, err := q.store.Open(q.parts[0])
			if err != nil {
				return 0, err
			}
			q.open, q.parts = file, q.parts[1:]
		}
		count, err := q.open.Read(buffer)
		if err == io.EOF {
			q.close()
			err = nil
		}
		if count > 0 || err != nil {
			return count, err
		}
	}
}

func (q *sequence) close() {
	if q.open != nil {
		q.open.Close()
		q.open = nil
	}
}
