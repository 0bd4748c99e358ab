package survey

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree is a directory with nothing below it, so that merged and upper are one. Of each pair of words the first is a path, and
// the second what a file there holds; a path that ends in a slash is a directory.
func tree(t *testing.T, pairs ...string) *dir {
	t.Helper()
	root := t.TempDir()
	for i := 0; i < len(pairs); i += 2 {
		path := filepath.Join(root, pairs[i])
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case strings.HasSuffix(pairs[i], "/"):
			err = errors.Join(err, os.MkdirAll(path, 0o755))
		case pairs[i+1] == "->":
			err = errors.Join(err, os.Symlink("anywhere", path))
		default:
			err = errors.Join(err, os.WriteFile(path, []byte(pairs[i+1]), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out := &dir{}
	for _, file := range []**os.File{&out.merged, &out.upper} {
		opened, err := os.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		*file = opened
	}
	t.Cleanup(out.close)
	return out
}

func generous() Limits { return Limits{Entries: 10_000, Bytes: 10 << 20, Ms: 60_000, Listed: 100} }

func surveyed(t *testing.T, limits Limits, trees ...*dir) (Told, error) {
	t.Helper()
	return survey(Job{Trees: make([]Tree, len(trees)), Limits: limits}, trees)
}

func lines(told Told) string {
	var out []string
	for _, change := range told.Changes {
		line := string(change.What) + " " + change.Path.Path
		if change.Within != nil {
			line += fmt.Sprintf(" (%d, %d bytes)", change.Within.Entries, change.Within.Bytes)
		}
		out = append(out, line)
	}
	for _, step := range told.Steps {
		out = append(out, string(step.What)+" "+step.Path.Path)
	}
	for _, conflict := range told.Conflicts {
		out = append(out, string(conflict.Why)+" "+conflict.Path.Path)
	}
	return strings.Join(out, "; ")
}

func TestChangesBetweenTwoTrees(t *testing.T) {
	same := []string{"same", "x", "d/same", "y", "link", "->"}
	for _, c := range []struct {
		name   string
		before []string
		after  []string
		want   string
	}{
		{"nothing", nil, nil, ""},
		{"contents of one length", []string{"f", "one"}, []string{"f", "two"}, "changed f"},
		{"a file comes, another goes", []string{"d/old", "1"}, []string{"d/new", "1"}, "added d/new; removed d/old"},
		{"a directory comes whole", nil, []string{"e/a", "12", "e/f/b", "345"}, "added e (3, 5 bytes)"},
		{"a directory goes whole", []string{"e/a", "12", "e/f/b", "345"}, nil, "removed e (3, 5 bytes)"},
		{"a file becomes a directory", []string{"f", "1"}, []string{"f/in", "22"}, "retyped f (1, 2 bytes)"},
		{"a directory becomes a link", []string{"f/in", "22"}, []string{"f", "->"}, "retyped f (1, 2 bytes)"},
	} {
		told, err := surveyed(t, generous(), tree(t, append(c.before, same...)...), tree(t, append(c.after, same...)...))
		if err != nil || lines(told) != c.want {
			t.Errorf("%s: %q %v, want %q", c.name, lines(told), err, c.want)
		}
	}
}

func TestWhatAMergeWouldDo(t *testing.T) {
	for _, c := range []struct {
		name             string
		base, fork, here []string
		want             string
	}{
		{"only here changed", []string{"f", "1"}, []string{"f", "1"}, []string{"f", "2"}, ""},
		{"only the fork changed", []string{"f", "1"}, []string{"f", "2"}, []string{"f", "1"}, "changed f"},
		{"only the fork removed", []string{"f", "1", "g", ""}, []string{"g", ""}, []string{"f", "1", "g", ""}, "removed f"},
		{"both to the same", []string{"f", "1"}, []string{"f", "2"}, []string{"f", "2"}, ""},
		{"both differently", []string{"f", "1"}, []string{"f", "2"}, []string{"f", "3"}, "both-changed f"},
		{"both added differently", nil, []string{"f", "2"}, []string{"f", "3"}, "both-added f"},
		{"removed here, changed there", []string{"f", "1"}, []string{"f", "2"}, nil, "removed-here f"},
		{"removed there, changed here", []string{"f", "1"}, nil, []string{"f", "2"}, "removed-in-fork f"},
		{"removed there, changed deep inside here", []string{"d/e/f", "1"}, nil, []string{"d/e/f", "2"}, "removed-in-fork d"},
		{"removed there, added inside here", []string{"d/f", "1"}, nil, []string{"d/f", "1", "d/new", ""}, "removed-in-fork d"},
		{"removed whole there, untouched here", []string{"d/f", "1"}, nil, []string{"d/f", "1"}, "removed d"},
		{"added whole there", nil, []string{"d/f", "1"}, nil, "added d"},
		{"both added a directory", nil, []string{"d/f", "1", "d/g", "1"}, []string{"d/h", "1", "d/g", "1"}, "added d/f"},
		{"a file there, a directory here", nil, []string{"d", "1"}, []string{"d/h", "1"}, "file-against-directory d"},
		{"a directory there of what is a file here", []string{"d", "1"}, []string{"d/f", "1"}, []string{"d", "1"}, "retyped d"},
		{"a directory there of what was changed here", []string{"d", "1"}, []string{"d/f", "1"}, []string{"d", "2"}, "file-against-directory d"},
	} {
		told, err := surveyed(t, generous(), tree(t, c.base...), tree(t, c.fork...), tree(t, c.here...))
		if err != nil || lines(told) != c.want {
			t.Errorf("%s: %q %v, want %q", c.name, lines(told), err, c.want)
		}
	}
}

func TestEveryLimitEndsASurveyByName(t *testing.T) {
	many := []string{}
	for i := range 50 {
		many = append(many, fmt.Sprintf("f%d", i), strings.Repeat("x", 1000))
	}
	for _, c := range []struct {
		limit  string
		tree   []string
		change func(*Limits)
	}{
		{"49 entries", many, func(limits *Limits) { limits.Entries = 49 }},
		{"5000 bytes", many, func(limits *Limits) { limits.Bytes = 5000 }},
		{"-1 ms", many, func(limits *Limits) { limits.Ms = -1 }},
	} {
		limits := generous()
		c.change(&limits)
		_, err := surveyed(t, limits, tree(t, c.tree...), tree(t, c.tree...))
		if err == nil || !strings.Contains(err.Error(), c.limit) {
			t.Errorf("limit of %s: %v", c.limit, err)
		}
	}
}

func TestALongListIsCutAndCounted(t *testing.T) {
	limits := generous()
	limits.Listed = 3
	told, err := surveyed(t, limits, tree(t), tree(t, "a", "1", "b", "2", "c", "3", "d", "4", "e", "5"))
	if err != nil || lines(told) != "added a; added b; added c" || told.Unlisted != 2 || told.Counts["added"] != 5 {
		t.Errorf("%q, %+v %v", lines(told), told, err)
	}
}

func TestHolesAreZerosAndAreNotRead(t *testing.T) {
	a, b := tree(t, "f", ""), tree(t, "f", "")
	for i, one := range []*dir{a, b} {
		if err := os.Truncate(filepath.Join(one.merged.Name(), "f"), 1<<35); err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(filepath.Join(one.merged.Name(), "f"), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 { // Zeros that were written.
			_, err = file.WriteAt(make([]byte, 8192), 1<<34)
		}
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if told, err := surveyed(t, generous(), a, b); err != nil || lines(told) != "" {
		t.Errorf("%q %v", lines(told), err)
	}
}
