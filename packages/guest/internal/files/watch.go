package files

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/fault"
)

// Change is one thing that happened below a watched path.
type Change struct {
	Op   string `json:"op"` // create, write, remove, rename, chmod
	Path string `json:"path"`
	Name string `json:"name"`
}

// directoriesMax bounds a recursive watch.
const directoriesMax = 20_000

const watchMask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_DONT_FOLLOW

// Watch is a running inotify. With recursive, directories made later are watched too.
type Watch struct {
	file      *os.File
	recursive bool
	ignored   map[string]bool
	paths     map[int32]string // by watch descriptor
}

// NewWatch begins to watch; changes from now on are given by Next. Directories named in ignored are left out.
func (s *Store) NewWatch(path string, recursive bool, ignored []string) (*Watch, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, explain(path, err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("start an inotify: %w", err)
	}
	watch := &Watch{
		file: os.NewFile(uintptr(fd), "inotify"), recursive: recursive && info.IsDir(),
		ignored: map[string]bool{}, paths: map[int32]string{},
	}
	for _, name := range ignored {
		watch.ignored[name] = true
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		err = watch.add(resolved, path)
	}
	if err == nil && watch.recursive {
		err = watch.addBelow(resolved, path, nil)
	}
	if err != nil {
		watch.Close()
		return nil, explain(path, err)
	}
	return watch, nil
}

// Close ends the watch and any Next that waits.
func (w *Watch) Close() { w.file.Close() }

func (w *Watch) add(path, shownAs string) error {
	if len(w.paths) >= directoriesMax {
		return fault.Failed("more than %d directories to watch below %s", directoriesMax, shownAs)
	}
	var added int
	err := w.withDescriptor(func(fd int) (err error) {
		added, err = unix.InotifyAddWatch(fd, path, watchMask)
		return err
	})
	if err == nil {
		w.paths[int32(added)] = shownAs
	}
	return err
}

func (w *Watch) withDescriptor(do func(fd int) error) error {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// addBelow watches every directory below one. What is there already when a new directory is first looked at is given to found,
// as it came into being before the kernel would have told.
func (w *Watch) addBelow(path, shownAs string, found func(Change)) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil // gone again
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		child, shown := filepath.Join(path, entry.Name()), filepath.Join(shownAs, entry.Name())
		if found != nil {
			found(Change{Op: "create", Path: shown, Name: entry.Name()})
		}
		if !entry.IsDir() || w.ignored[entry.Name()] {
			continue
		}
		if err := w.add(child, shown); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := w.addBelow(child, shown, found); err != nil {
			return err
		}
	}
	return nil
}

// Next waits for changes. The error is os.ErrClosed after Close.
func (w *Watch) Next() ([]Change, error) {
	buffer := make([]byte, 16<<10)
	count, err := w.file.Read(buffer)
	if err != nil {
		return nil, err
	}
	changes := []Change{}
	for rest := buffer[:count]; len(rest) >= unix.SizeofInotifyEvent; {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
		size := unix.SizeofInotifyEvent + int(event.Len)
		name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:size]), "\x00")
		changes = w.take(changes, event.Wd, event.Mask, name)
		rest = rest[size:]
	}
	return changes, nil
}

// take turns one event of the kernel into changes.
func (w *Watch) take(changes []Change, descriptor int32, mask uint32, name string) []Change {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		return append(changes, Change{Op: "overflow"})
	}
	directory, known := w.paths[descriptor]
	if !known {
		return changes
	}
	if mask&unix.IN_IGNORED != 0 {
		delete(w.paths, descriptor)
		return changes
	}
	op := opOf(mask)
	if op == "" || w.ignored[name] {
		return changes
	}
	if name == "" && mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 && w.isChild(directory) {
		return changes // its parent has told it already
	}
	path := directory
	if name != "" {
		path = filepath.Join(directory, name)
	}
	changes = w.append(changes, Change{Op: op, Path: path, Name: filepath.Base(path)})
	if mask&unix.IN_ISDIR != 0 && w.recursive {
		switch {
		case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
			changes = w.adopt(changes, path)
		case mask&unix.IN_MOVED_FROM != 0:
			w.drop(path)
		}
	}
	return changes
}

func opOf(mask uint32) string {
	switch {
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		return "create"
	case mask&unix.IN_MODIFY != 0:
		return "write"
	case mask&(unix.IN_DELETE|unix.IN_DELETE_SELF) != 0:
		return "remove"
	case mask&(unix.IN_MOVED_FROM|unix.IN_MOVE_SELF) != 0:
		return "rename"
	case mask&unix.IN_ATTRIB != 0:
		return "chmod"
	}
	return ""
}

// append leaves out a write that repeats the one before it in the same batch.
func (w *Watch) append(changes []Change, change Change) []Change {
	if len(changes) > 0 && change.Op == "write" && changes[len(changes)-1] == change {
		return changes
	}
	return append(changes, change)
}

// adopt begins to watch a directory that came into being.
func (w *Watch) adopt(changes []Change, path string) []Change {
	if err := w.add(path, path); err != nil {
		return changes // gone again, or too many: then what is below it is not seen
	}
	_ = w.addBelow(path, path, func(found Change) { changes = append(changes, found) })
	return changes
}

// drop forgets a directory that was moved away, with all below it: their paths are no longer true.
func (w *Watch) drop(path string) {
	for descriptor, watched := range w.paths {
		if watched == path || strings.HasPrefix(watched, path+"/") {
			delete(w.paths, descriptor)
			_ = w.withDescriptor(func(fd int) error {
				_, err := unix.InotifyRmWatch(fd, uint32(descriptor))
				return err // it may have ended by itself
			})
		}
	}
}

func (w *Watch) isChild(directory string) bool {
	parent := filepath.Dir(directory)
	for _, watched := range w.paths {
		if watched == parent {
			return true
		}
	}
	return false
}

// Follow calls give for each batch until the context ends or give fails.
func (w *Watch) Follow(ctx context.Context, give func([]Change) error) error {
	stop := context.AfterFunc(ctx, w.Close)
	defer stop()
	for {
		changes, err := w.Next()
		if err != nil {
			return err
		}
		if err := give(changes); err != nil {
			return err
		}
	}
}
