package survey

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// What became of a name between two trees.
type What string

const (
	Added   What = "added"
	Removed What = "removed"
	// Changed in contents: of a file, of a link, or of which device it is.
	Changed What = "changed"
	// Retyped is now another kind of thing.
	Retyped What = "retyped"
	// Restated has another mode, owner or extended attributes, and the same contents.
	Restated What = "restated"
	Same     What = ""
)

// Within is what is in a directory that only one of the trees has.
type Within struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Path below the root. Raw are its bytes where they are no text.
type Path struct {
	Path string `json:"path"`
	Raw  []byte `json:"raw,omitempty"`
}

func pathOf(path string) Path {
	if utf8.ValidString(path) {
		return Path{Path: path}
	}
	return Path{Path: string([]rune(path)), Raw: []byte(path)}
}

// Change is one difference. A directory that only one tree has is one change, with what is in it.
type Change struct {
	Path
	What   What    `json:"what"`
	Was    *Entry  `json:"was,omitempty"`
	Is     *Entry  `json:"is,omitempty"`
	Within *Within `json:"within,omitempty"`
}

// walk goes through trees side by side.
type walk struct {
	spend *budget
	// under are the names that lead to the one part to look at; none: everything.
	under []string
}

// errEnough ends a walk that has told what was asked.
var errEnough = errors.New("enough is known")

// pair tells how b differs from a, either of which may be nil. isOne: they have one origin, so only what is their own can differ.
func (w *walk) pair(at string, depth int, a, b *dir, isOne bool, tell func(Change) error) error {
	found, err := w.namesOf(at, depth, isOne, a, b)
	if err != nil {
		return err
	}
	for _, name := range found {
		if err := w.name(at, name, depth, a, b, isOne, tell); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) name(at, name string, depth int, a, b *dir, isOne bool, tell func(Change) error) error {
	path := join(at, name)
	was, err := a.look(name)
	if err != nil {
		return inside(at, err)
	}
	is, err := b.look(name)
	if err != nil {
		return inside(at, err)
	}
	what, err := w.judge(name, a, b, was, is)
	if err != nil {
		return inside(at, err)
	}
	if what != Same {
		change := Change{Path: pathOf(path), What: what, Was: was, Is: is}
		if change.Within, err = w.within(path, name, depth, onlyDirectory(a, b, was, is)); err != nil {
			return err
		}
		if err := tell(change); err != nil {
			return err
		}
	}
	if !isDirectory(was) || !isDirectory(is) {
		return nil
	}
	return w.below(path, depth, []*dir{a, b}, name, isOne, func(children []*dir, areOne bool) error {
		return w.pair(path, depth+1, children[0], children[1], areOne, tell)
	})
}

// judge compares two things of one name, but not what is in directories.
func (w *walk) judge(name string, a, b *dir, was, is *Entry) (What, error) {
	switch {
	case was == nil && is == nil:
		return Same, nil
	case was == nil:
		return Added, nil
	case is == nil:
		return Removed, nil
	case was.format != is.format:
		return Retyped, nil
	case was.Size != is.Size, string(was.Target) != string(is.Target), was.Kind == Other && was.device != is.device:
		return Changed, nil
	}
	isRestated := was.Mode != is.Mode || was.UID != is.UID || was.GID != is.GID
	if was.Kind == File || was.Kind == Directory {
		differs, err := w.opened(name, a, b, was.Kind)
		if differs == Changed || err != nil {
			return differs, err
		}
		isRestated = isRestated || differs == Restated
	}
	if isRestated {
		return Restated, nil
	}
	return Same, nil
}

// opened compares what only an open file tells: contents and extended attributes.
func (w *walk) opened(name string, a, b *dir, kind Kind) (What, error) {
	left, isOwn, err := openAs(a, name, kind)
	if err != nil {
		return Same, err
	}
	defer left.Close()
	right, isTheirs, err := openAs(b, name, kind)
	if err != nil {
		return Same, err
	}
	defer right.Close()
	if kind == File {
		are, err := sameContents(left, right, isOwn && isTheirs, w.spend)
		if err != nil {
			return Same, quoted(name, err)
		}
		if !are {
			return Changed, nil
		}
	}
	was, err := attributes(left)
	if err != nil {
		return Same, quoted(name, err)
	}
	is, err := attributes(right)
	if err != nil {
		return Same, quoted(name, err)
	}
	if was != is {
		return Restated, nil
	}
	return Same, nil
}

func openAs(in *dir, name string, kind Kind) (*os.File, bool, error) {
	if kind == File {
		return in.openFile(name)
	}
	descriptor, err := unix.Openat(int(in.merged.Fd()), name, openFlags|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, false, fmt.Errorf("opening the directory %q: %w", name, err)
	}
	return os.NewFile(uintptr(descriptor), name), false, nil
}

// below opens the directories of one name, nil where a tree has none, and says whether they are of one origin.
func (w *walk) below(path string, depth int, parents []*dir, name string, areOne bool, act func(children []*dir, areOne bool) error) error {
	if depth >= depthMax {
		return inside(path, &LimitError{fmt.Sprintf("%d directories in one another", depthMax)})
	}
	children, origins := make([]*dir, len(parents)), map[string]struct{}{}
	for i, parent := range parents {
		if parent == nil {
			continue
		}
		child, err := parent.open(name)
		if err != nil {
			return inside(path, err)
		}
		defer child.close()
		origin, err := child.origin()
		if err != nil {
			return inside(path, err)
		}
		children[i], origins[origin] = child, struct{}{}
	}
	return act(children, areOne && len(origins) == 1 && !slices.Contains(children, nil))
}

// namesOf lists what may differ, in order.
func (w *walk) namesOf(at string, depth int, areOne bool, dirs ...*dir) ([]string, error) {
	if depth < len(w.under) {
		return w.nameUnder(at, w.under[depth], dirs)
	}
	found := map[string]struct{}{}
	for _, one := range dirs {
		if one == nil {
			continue
		}
		list := one.merged
		if areOne {
			list = one.upper
		}
		if list == nil {
			continue
		}
		if err := names(list, w.spend, found); err != nil {
			return nil, inside(at, err)
		}
	}
	out := make([]string, 0, len(found))
	for name := range found {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// errNowhere is a path that none of the trees has.
var errNowhere = errors.New("there is no such path in any of them")

func (w *walk) nameUnder(at, name string, dirs []*dir) ([]string, error) {
	for _, one := range dirs {
		entry, err := one.look(name)
		if err != nil {
			return nil, inside(at, err)
		}
		if entry != nil {
			return []string{name}, nil
		}
	}
	return nil, fmt.Errorf("%q: %w", join(at, name), errNowhere)
}

// onlyDirectory is the tree of the one that alone is a directory.
func onlyDirectory(a, b *dir, was, is *Entry) *dir {
	switch {
	case isDirectory(was) && !isDirectory(is):
		return a
	case isDirectory(is) && !isDirectory(was):
		return b
	}
	return nil
}

// within counts what is in a directory; in is nil when there is none to count.
func (w *walk) within(path, name string, depth int, in *dir) (*Within, error) {
	if in == nil {
		return nil, nil
	}
	out := &Within{}
	return out, w.count(path, name, depth, in, out)
}

func (w *walk) count(path, name string, depth int, in *dir, sum *Within) error {
	return w.below(path, depth, []*dir{in}, name, false, func(children []*dir, _ bool) error {
		found := map[string]struct{}{}
		if err := names(children[0].merged, w.spend, found); err != nil {
			return inside(path, err)
		}
		for name := range found {
			entry, err := children[0].look(name)
			if err != nil {
				return inside(path, err)
			}
			if entry == nil {
				continue
			}
			sum.Entries++
			sum.Bytes += entry.Size
			if entry.Kind != Directory {
				continue
			}
			if err := w.count(join(path, name), name, depth+1, children[0], sum); err != nil {
				return err
			}
		}
		return nil
	})
}

func isDirectory(entry *Entry) bool { return entry != nil && entry.Kind == Directory }

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "/" + name
}

func quoted(name string, err error) error { return fmt.Errorf("%q: %w", name, err) }

// longestTold is how much of a path an error shows.
const longestTold = 200

func inside(at string, err error) error {
	var limit *LimitError
	if errors.As(err, &limit) {
		return err // It is about no place.
	}
	if len(at) > longestTold {
		at = at[:longestTold] + "…"
	}
	return fmt.Errorf("in %q: %w", "/"+at, err)
}
