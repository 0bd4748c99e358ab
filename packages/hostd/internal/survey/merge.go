package survey

// A merge brings what a fork has changed since its base into the sandbox that it was forked from, *here*, which has gone on
// meanwhile. What only the fork changed is a step; what both changed, and not to the same, is a conflict. Two files are never
// made one.

// Step is what a merge would do at one path.
type Step struct {
	Path
	// What becomes of it here. A directory that the fork has made or removed is one step.
	What What `json:"what"`
	// Here is what is there now, Fork what will be.
	Here   *Entry  `json:"here,omitempty"`
	Fork   *Entry  `json:"fork,omitempty"`
	Within *Within `json:"within,omitempty"`
}

// Why two changes cannot both stand.
type Why string

const (
	BothChanged Why = "both-changed"
	BothAdded   Why = "both-added"
	// RemovedHere was changed in the fork, RemovedInFork was changed here.
	RemovedHere   Why = "removed-here"
	RemovedInFork Why = "removed-in-fork"
	// FileAgainstDirectory is a directory in one and something else in the other.
	FileAgainstDirectory Why = "file-against-directory"
)

// Conflict is a path that the fork and here have both changed.
type Conflict struct {
	Path
	Why  Why    `json:"why"`
	Base *Entry `json:"base,omitempty"`
	Fork *Entry `json:"fork,omitempty"`
	Here *Entry `json:"here,omitempty"`
}

// judgement is what a merge tells as it goes.
type judgement struct {
	step     func(Step) error
	conflict func(Conflict) error
	// settled is called for what both have changed to the same.
	settled func()
}

// three are one thing of the base, the fork and here, in this order.
type three[T any] [3]T

func (w *walk) merge(at string, depth int, trees three[*dir], areOne bool, told judgement) error {
	found, err := w.namesOf(at, depth, areOne, trees[:]...)
	if err != nil {
		return err
	}
	for _, name := range found {
		if err := w.mergeName(at, name, depth, trees, areOne, told); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) mergeName(at, name string, depth int, trees three[*dir], areOne bool, told judgement) error {
	path := join(at, name)
	var entries three[*Entry]
	for i, tree := range trees {
		entry, err := tree.look(name)
		if err != nil {
			return inside(at, err)
		}
		entries[i] = entry
	}
	base, fork, here := entries[0], entries[1], entries[2]
	if !isDirectory(fork) || !isDirectory(here) {
		return w.mergeWhole(path, name, depth, trees, entries, areOne, told)
	}
	// Both have the directory, so what is in it is looked at one by one; of itself there is only its mode, owner and attributes.
	if !isDirectory(base) {
		trees[0], base = nil, nil
	}
	if err := w.mergeItself(path, name, trees, three[*Entry]{base, fork, here}, told); err != nil {
		return err
	}
	return w.below(path, depth, trees[:], name, areOne, func(children []*dir, areOne bool) error {
		return w.merge(path, depth+1, three[*dir](children), areOne, told)
	})
}

func (w *walk) mergeItself(path, name string, trees three[*dir], entries three[*Entry], told judgement) error {
	against := func(a, b int) (What, error) {
		what, err := w.judge(name, trees[a], trees[b], entries[a], entries[b])
		if err != nil {
			return what, inside(path, err)
		}
		return what, nil
	}
	differs, err := against(1, 2)
	if differs == Same || err != nil {
		return err
	}
	byFork, err := against(0, 1)
	if byFork == Same || err != nil {
		return err
	}
	byHere, err := against(0, 2)
	if err != nil {
		return err
	}
	if byHere == Same {
		return told.step(Step{Path: pathOf(path), What: Restated, Here: entries[2], Fork: entries[1]})
	}
	return told.conflict(Conflict{Path: pathOf(path), Why: whyOf(entries), Base: entries[0], Fork: entries[1], Here: entries[2]})
}

// mergeWhole takes what bears a name as one, with all that is in it where it is a directory.
func (w *walk) mergeWhole(path, name string, depth int, trees three[*dir], entries three[*Entry], areOne bool, told judgement) error {
	differ := func(a, b int) (bool, error) { return w.differ(path, name, depth, trees, entries, a, b, areOne) }
	byFork, err := differ(0, 1)
	if !byFork || err != nil {
		return err
	}
	byHere, err := differ(0, 2)
	if err != nil {
		return err
	}
	if !byHere {
		return w.mergeStep(path, name, depth, trees, entries, told)
	}
	apart, err := differ(1, 2)
	if err != nil {
		return err
	}
	if !apart {
		told.settled()
		return nil
	}
	return told.conflict(Conflict{Path: pathOf(path), Why: whyOf(entries), Base: entries[0], Fork: entries[1], Here: entries[2]})
}

func (w *walk) mergeStep(path, name string, depth int, trees three[*dir], entries three[*Entry], told judgement) error {
	fork, here := entries[1], entries[2]
	what, err := w.judge(name, trees[2], trees[1], here, fork)
	if err != nil {
		return inside(path, err)
	}
	step := Step{Path: pathOf(path), What: what, Here: here, Fork: fork}
	if step.Within, err = w.within(path, name, depth, onlyDirectory(trees[2], trees[1], here, fork)); err != nil {
		return err
	}
	return told.step(step)
}

// differ says whether two of the three are not the same, all that is in them included.
func (w *walk) differ(path, name string, depth int, trees three[*dir], entries three[*Entry], a, b int, areOne bool) (bool, error) {
	what, err := w.judge(name, trees[a], trees[b], entries[a], entries[b])
	if err != nil {
		return false, inside(path, err)
	}
	if what != Same || !isDirectory(entries[a]) || !isDirectory(entries[b]) {
		return what != Same, nil
	}
	differ := false
	err = w.below(path, depth, []*dir{trees[a], trees[b]}, name, areOne, func(children []*dir, areOne bool) error {
		return w.pair(path, depth+1, children[0], children[1], areOne, func(Change) error {
			differ = true
			return errEnough
		})
	})
	if differ {
		return true, nil
	}
	return false, err
}

func whyOf(entries three[*Entry]) Why {
	base, fork, here := entries[0], entries[1], entries[2]
	switch {
	case fork == nil:
		return RemovedInFork
	case here == nil:
		return RemovedHere
	case isDirectory(fork) != isDirectory(here):
		return FileAgainstDirectory
	case base == nil:
		return BothAdded
	}
	return BothChanged
}
