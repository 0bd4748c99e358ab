package files

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/fault"
)

// A *merge* is many changes at once, which come as a tar stream. Its first entry, steps.json, says what is to be done where;
// the entries after it are what steps put there, under the step's number. All of it is laid ready beside, on the same file
// system; then it is looked whether everything is still as whoever made the merge saw it; only then are things renamed into
// place, and back again when one of them cannot be.

// mergeSteps is steps.json. Paths are bytes, below the root.
type mergeSteps struct {
	// SinceMs is when whoever made the merge looked: what was changed later is a conflict.
	SinceMs int64       `json:"sinceMs"`
	Steps   []mergeStep `json:"steps"`
}

type mergeStep struct {
	Path []byte `json:"path"`
	// Do is put, remove, or restate, which gives a directory another mode and owner.
	Do string `json:"do"`
	// Expect says whether anything is there now.
	Expect string `json:"expect"`
	Mode   uint32 `json:"mode"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
}

// Merged is what came of it. Skipped are the stream's names of sockets and devices, which nothing can be put in place of.
type Merged struct {
	Applied int      `json:"applied"`
	Skipped []string `json:"skipped"`
}

const stepsFile = "steps.json"

// stepsMax bounds steps.json.
const stepsMax = 16 << 20

// Apply makes all of a merge, or nothing of it.
func (s *Store) Apply(body io.Reader) (Merged, error) { return applyAt("/", body) }

func applyAt(root string, body io.Reader) (Merged, error) {
	stage, err := os.MkdirTemp(root, ".torpor-merge-")
	if err != nil {
		return Merged{}, fmt.Errorf("making room for the merge: %w", err)
	}
	laid, err := layOut(root, stage, body)
	if err != nil {
		return Merged{}, errors.Join(fmt.Errorf("laying the merge ready: %w", err), os.RemoveAll(stage))
	}
	if err := laid.areAsSeen(); err != nil {
		return Merged{}, errors.Join(err, os.RemoveAll(stage))
	}
	isWhole, err := laid.putInPlace()
	if isWhole {
		err = errors.Join(err, os.RemoveAll(stage))
	}
	return Merged{Applied: len(laid.steps.Steps), Skipped: laid.skipped}, err
}

type layout struct {
	root    string
	steps   mergeSteps
	fresh   *os.Root
	stage   string
	skipped []string
	holds   map[int]bool
}

func (l *layout) freshPath(step int) string { return filepath.Join(l.stage, "new", strconv.Itoa(step)) }
func (l *layout) pastPath(step int) string  { return filepath.Join(l.stage, "old", strconv.Itoa(step)) }

func (l *layout) target(step mergeStep) string { return filepath.Join(l.root, string(step.Path)) }

func layOut(root, stage string, body io.Reader) (*layout, error) {
	for _, name := range []string{"new", "old"} {
		if err := os.Mkdir(filepath.Join(stage, name), 0o700); err != nil {
			return nil, err
		}
	}
	fresh, err := os.OpenRoot(filepath.Join(stage, "new"))
	if err != nil {
		return nil, err
	}
	defer fresh.Close()
	l := &layout{root: root, fresh: fresh, stage: stage, skipped: []string{}, holds: map[int]bool{}}
	stream := tar.NewReader(body)
	first, err := stream.Next()
	if err != nil || first.Name != stepsFile {
		return nil, fault.BadRequest("the stream of a merge must be a tar that begins with %s (%v)", stepsFile, err)
	}
	if err := json.NewDecoder(io.LimitReader(stream, stepsMax)).Decode(&l.steps); err != nil {
		return nil, fault.BadRequest("%s: %v", stepsFile, err)
	}
	for _, step := range l.steps.Steps {
		if !filepath.IsLocal(string(step.Path)) || !slices.Contains([]string{"put", "remove", "restate"}, step.Do) {
			return nil, fault.BadRequest("step %q of %q; expected put, remove or restate of a path below the root", step.Do, step.Path)
		}
	}
	for {
		header, err := stream.Next()
		if errors.Is(err, io.EOF) {
			return l, l.isComplete()
		}
		if err != nil {
			return nil, err
		}
		if err := l.lay(header, stream); err != nil {
			return nil, fmt.Errorf("%q: %w", header.Name, err)
		}
	}
}

func (l *layout) isComplete() error {
	for number, step := range l.steps.Steps {
		if step.Do == "put" && !l.holds[number] && !slices.Contains(l.skipped, strconv.Itoa(number)) {
			return fault.BadRequest("the stream has nothing for %q", step.Path)
		}
	}
	return nil
}

// lay makes one entry. Its name is local, and nothing in its way is a link that leads out: the root sees to that.
func (l *layout) lay(header *tar.Header, content io.Reader) error {
	name := strings.TrimSuffix(header.Name, "/")
	step, _, _ := strings.Cut(name, "/")
	number, err := strconv.Atoi(step)
	if err != nil || number < 0 || number >= len(l.steps.Steps) || !filepath.IsLocal(name) {
		return fault.BadRequest("expected a name that begins with the number of a step")
	}
	switch header.Typeflag {
	case tar.TypeDir:
		err = l.fresh.Mkdir(name, 0o700)
	case tar.TypeReg:
		err = l.layFile(name, content)
	case tar.TypeSymlink:
		err = l.fresh.Symlink(header.Linkname, name)
	case tar.TypeFifo:
		err = unix.Mkfifo(filepath.Join(l.stage, "new", name), 0o600)
	default:
		l.skipped = append(l.skipped, name)
		return nil
	}
	if err != nil {
		return err
	}
	l.holds[number] = true
	return l.state(name, header)
}

func (l *layout) layFile(name string, content io.Reader) error {
	file, err := l.fresh.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return copyAndSync(file, content)
}

const attributePrefix = "SCHILY.xattr."

func (l *layout) state(name string, header *tar.Header) error {
	if err := l.fresh.Lchown(name, header.Uid, header.Gid); err != nil {
		return err
	}
	if header.Typeflag == tar.TypeSymlink {
		return nil
	}
	path := filepath.Join(l.stage, "new", name)
	for key, value := range header.PAXRecords {
		if attribute, is := strings.CutPrefix(key, attributePrefix); is {
			if err := unix.Lsetxattr(path, attribute, []byte(value), 0); err != nil {
				return fmt.Errorf("setting the attribute %s: %w", attribute, err)
			}
		}
	}
	// After the owner, whose change takes set-id bits away.
	if err := syscall.Chmod(path, uint32(header.Mode)&0o7777); err != nil {
		return err
	}
	if header.Typeflag == tar.TypeReg {
		return l.fresh.Chtimes(name, header.ModTime, header.ModTime)
	}
	return nil
}

// namedMax is how many paths an error names.
const namedMax = 5

// areAsSeen refuses a merge when anything that it would replace was changed after it was looked at.
func (l *layout) areAsSeen() error {
	var changed []string
	for _, step := range l.steps.Steps {
		is, err := l.isStepAsSeen(step)
		if err != nil {
			return explain(l.target(step), err)
		}
		if !is {
			changed = append(changed, strconv.Quote(l.target(step)))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return fault.Conflict("%d of the paths changed while the merge was made: %s; nothing was merged, ask again", len(changed), strings.Join(changed[:min(len(changed), namedMax)], ", "))
}

func (l *layout) isStepAsSeen(step mergeStep) (bool, error) {
	_, err := os.Lstat(l.target(step))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return false, err
	}
	if isThere := err == nil; !isThere || step.Expect == "absent" {
		return !isThere == (step.Expect == "absent"), nil
	}
	if step.Do == "restate" {
		return true, nil // What is in the directory is not touched.
	}
	isOld := true
	err = filepath.WalkDir(l.target(step), func(_ string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		raw := info.Sys().(*syscall.Stat_t) // always so for Lstat on Linux
		if time.Unix(raw.Ctim.Unix()).UnixMilli() >= l.steps.SinceMs {
			isOld = false
			return filepath.SkipAll
		}
		return nil
	})
	return isOld, err
}

// putInPlace renames everything, or what it has renamed back. Where even that fails, what was there stays beside, and it is not whole.
func (l *layout) putInPlace() (isWhole bool, err error) {
	var undo []func() error
	for number, step := range l.steps.Steps {
		back, err := l.putOne(number, step)
		undo = append(undo, back...)
		if err == nil {
			continue
		}
		failed := fmt.Errorf("merging %s: %w", l.target(step), err)
		for _, act := range slices.Backward(undo) {
			if undoErr := act(); undoErr != nil {
				return false, errors.Join(failed, fmt.Errorf("and what was merged before could not all be taken back; what is missing lies in %s: %w", l.stage, undoErr))
			}
		}
		return true, failed
	}
	return true, nil
}

// putOne gives what undoes as much as was done of it.
func (l *layout) putOne(number int, step mergeStep) (undo []func() error, err error) {
	target := l.target(step)
	if step.Do == "restate" {
		return l.restate(target, step)
	}
	if slices.Contains(l.skipped, strconv.Itoa(number)) {
		return nil, nil
	}
	if step.Expect != "absent" {
		past := l.pastPath(number)
		if err := os.Rename(target, past); err != nil {
			return nil, err
		}
		undo = append(undo, func() error { return os.Rename(past, target) })
	}
	if step.Do == "remove" {
		return undo, nil
	}
	fresh := l.freshPath(number)
	if err := os.Rename(fresh, target); err != nil {
		return undo, err
	}
	return append(undo, func() error { return os.Rename(target, fresh) }), nil
}

func (l *layout) restate(target string, step mergeStep) (undo []func() error, err error) {
	var before syscall.Stat_t
	if err := syscall.Lstat(target, &before); err != nil {
		return nil, err
	}
	if before.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return nil, fault.Conflict("%s is no directory any more", target)
	}
	undo = append(undo, func() error {
		return errors.Join(os.Lchown(target, int(before.Uid), int(before.Gid)), syscall.Chmod(target, before.Mode&0o7777))
	})
	return undo, errors.Join(os.Lchown(target, step.UID, step.GID), syscall.Chmod(target, step.Mode&0o7777))
}
