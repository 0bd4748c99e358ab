// Package survey compares trees of tenants' files: two, to tell what changed from one to the other, or three, to tell what a
// merge of a fork would do. A tenant makes its tree as it likes, deeper than any path is long, larger than there is time
// for, full of pipes and links; so a child of hostd walks it, which sees nothing but these trees, read-only, may do nothing
// but read, and ends at limits that its answer names.
//
// A tree is a snapshot's *upper* layer over the read-only lower ones, as its sandbox saw it: both are there, the whole as
// overlayfs shows it, and the upper layer alone, which tells where to look. What neither of two trees has in its own layer,
// over the same lower ones, cannot differ.
package survey

import "slices"

// Tree is one of those to compare. Paths are absolute; Lower has the topmost layer first.
type Tree struct {
	Upper string   `json:"upper"`
	Lower []string `json:"lower"`
}

// Job is what the child is asked: of two trees the changes from the first to the second; of three, base, fork and here, a merge.
type Job struct {
	Trees []Tree `json:"trees"`
	// Under is the one part to look at: names that lead there from the root.
	Under  []string `json:"under,omitempty"`
	Limits Limits   `json:"limits"`
	// Pack has one tree packed instead of compared.
	Pack *Merge `json:"pack,omitempty"`
}

// Told is what came of it. Changes, Steps and Conflicts are the first ones, in the order of their paths; Counts are of all.
type Told struct {
	Changes   []Change       `json:"changes,omitempty"`
	Steps     []Step         `json:"steps,omitempty"`
	Conflicts []Conflict     `json:"conflicts,omitempty"`
	Counts    map[string]int `json:"counts"`
	// Unlisted is how many were only counted.
	Unlisted int `json:"unlisted"`
}

// Reply is the child's one word. Why, when it is not empty, says what failed, and Kind whose matter that is.
type Reply struct {
	Told Told        `json:"told"`
	Why  string      `json:"why,omitempty"`
	Kind FailureKind `json:"kind,omitempty"`
}

// FailureKind says whose matter a failure is.
type FailureKind string

const (
	Failed FailureKind = "failed"
	// TooMuch is at one of the limits.
	TooMuch FailureKind = "too-much"
	Nowhere FailureKind = "nowhere"
)

// listing keeps the first of what is told, as far as an answer may be long.
type listing struct {
	told Told
	room int
}

// pathBytes is how much of a listing's length one entry takes besides its path.
const entryBytes = 400

func newListing(limits Limits) *listing {
	return &listing{told: Told{Counts: map[string]int{}}, room: limits.Listed * (entryBytes + 60)}
}

// hasRoom counts one, and says whether it may be told of.
func (l *listing) hasRoom(as string, path Path, entries ...*Entry) bool {
	l.told.Counts[as]++
	takes := entryBytes + len(path.Path) + len(path.Raw)*4/3
	for _, entry := range entries {
		if entry != nil {
			takes += len(entry.Target) * 4 / 3
		}
	}
	if l.room < takes {
		l.room = 0 // What comes after is not told of either, so that the list has no gaps.
		l.told.Unlisted++
		return false
	}
	l.room -= takes
	return true
}

// survey does the job on opened trees.
func survey(job Job, trees []*dir) (Told, error) {
	list, walk := newListing(job.Limits), &walk{spend: newBudget(job.Limits), under: job.Under}
	areOne := !slices.ContainsFunc(job.Trees, func(tree Tree) bool { return !slices.Equal(tree.Lower, job.Trees[0].Lower) })
	if len(trees) == 2 {
		err := walk.pair("", 0, trees[0], trees[1], areOne, func(change Change) error {
			if list.hasRoom(string(change.What), change.Path, change.Was, change.Is) {
				list.told.Changes = append(list.told.Changes, change)
			}
			return nil
		})
		return list.told, err
	}
	err := walk.merge("", 0, three[*dir](trees), areOne, judgement{
		step: func(step Step) error {
			if list.hasRoom(string(step.What), step.Path, step.Here, step.Fork) {
				list.told.Steps = append(list.told.Steps, step)
			}
			return nil
		},
		conflict: func(conflict Conflict) error {
			if list.hasRoom("conflicts", conflict.Path, conflict.Base, conflict.Fork, conflict.Here) {
				list.told.Conflicts = append(list.told.Conflicts, conflict)
			}
			return nil
		},
		settled: func() { list.told.Counts["settled"]++ },
	})
	return list.told, err
}
