//go:build host

package e2e

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// keep makes an image of an instance that says what it was made of, as node-agents do.
func (i instance) keep(image string) {
	i.n.t.Helper()
	i.n.must("sandbox.pause", i.ref())
	saved := i.n.must("image.save", i.saveArgs(image))
	i.n.must("disk.snapshot", args{"id": i.id, "image": image})
	i.n.must("image.seal", args{"image": image, "manifest": args{"digest": saved["digest"], "madeOf": saved["madeOf"]}})
	i.n.must("sandbox.resume", i.ref())
}

func compareArgs(limits args, images ...string) args {
	all := args{"entries": 10_000, "bytes": 1 << 20, "ms": 10_000, "listed": 100}
	for name, value := range limits {
		all[name] = value
	}
	return args{"images": images, "limits": all}
}

func told(answer map[string]any, list string) string {
	out := ""
	found, _ := answer[list].([]any)
	for _, one := range found {
		entry := one.(map[string]any)
		what := entry["what"]
		if what == nil {
			what = entry["why"]
		}
		out += fmt.Sprintf("%s %s; ", what, entry["path"])
	}
	return strings.TrimSuffix(out, "; ")
}

func (i instance) upper(name string) string {
	return filepath.Join(i.n.dir, "pool", "i", i.id, "upper", name)
}

func check(t *testing.T, all ...error) {
	t.Helper()
	for _, err := range all {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatChangedBetweenTwoImagesIsTold(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	odd(t, i.upper("")) // Among it a sparse file of a TiB, and what overlayfs means by some names.
	i.mustGet("/write", map[string]string{"path": "/stays", "text": strings.Repeat("stays", 10_000)})
	i.mustGet("/write", map[string]string{"path": "/changes", "text": "one"})
	i.mustGet("/write", map[string]string{"path": "/goes", "text": "one"})
	i.keep("image-one")
	i.mustGet("/write", map[string]string{"path": "/changes", "text": "two"}) // As long as before.
	i.mustGet("/write", map[string]string{"path": "/comes", "text": "two"})
	i.keep("image-two")
	answer := n.must("files.compare", compareArgs(nil, "image-one", "image-two"))
	if got := told(answer, "changes"); got != "changed changes; added comes" {
		t.Errorf("told %q", got)
	}
	t.Logf("in %v ms", answer["tookMs"])

	sparse, err := os.OpenFile(i.upper("sparse"), os.O_WRONLY, 0)
	check(t, err)
	_, err = sparse.WriteAt([]byte("FAR"), 1<<39)
	check(t, err, sparse.Close(), os.Remove(i.upper("goes")), os.Remove(i.upper("fifo")), os.Mkdir(i.upper("fifo"), 0o755),
		os.WriteFile(i.upper("fifo/in"), []byte("it"), 0o644), os.Chmod(i.upper("stays"), 0o4700),
		unix.Setxattr(i.upper("two"), "user.bytes", []byte("others"), 0), os.WriteFile(i.upper("no\xfftext"), nil, 0o600))
	i.keep("image-three")
	answer = n.must("files.compare", compareArgs(nil, "image-two", "image-three"))
	want := "retyped fifo; removed goes; restated names; added no�text; changed sparse; restated stays; restated two"
	if got := told(answer, "changes"); got != want {
		t.Errorf("told %q", got)
	}
	n.refused("too_large", "files.compare", compareArgs(args{"entries": 3}, "image-two", "image-three"))
	n.refused("too_large", "files.compare", compareArgs(args{"bytes": 10}, "image-two", "image-three"))
	part := compareArgs(nil, "image-two", "image-three")
	part["under"] = []byte("/fifo")
	if got := told(n.must("files.compare", part), "changes"); got != "retyped fifo" {
		t.Errorf("of one part: %q", got)
	}
	part["under"] = []byte("no/such/place")
	n.refused("not_found", "files.compare", part)
}

func TestAMergeIsToldBeforeItIsMade(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	for _, name := range []string{"both", "fork", "here", "same", "forkgone", "heregone"} {
		i.mustGet("/write", map[string]string{"path": "/" + name, "text": "base"})
	}
	i.keep("image-base")
	fork := n.instance(1)
	n.must("disk.restore", args{"id": fork.id, "image": "image-base"})
	fork.restore("image-base")
	change := func(of instance, text string, names ...string) {
		for _, name := range names {
			of.mustGet("/write", map[string]string{"path": "/" + name, "text": text})
		}
	}
	change(fork, "fork", "both", "fork", "heregone", "new")
	change(fork, "alike", "same")
	change(i, "here", "both", "here", "forkgone", "new")
	change(i, "alike", "same")
	fork.keep("image-fork")
	i.keep("image-here")
	n.must("sandbox.pause", i.ref())
	answer := n.must("files.compare", compareArgs(nil, "image-base", "image-fork", "image-here"))
	if steps, conflicts := told(answer, "steps"), told(answer, "conflicts"); steps != "changed fork; changed heregone" || conflicts != "both-changed both; both-added new" {
		t.Errorf("would do %q, cannot %q", steps, conflicts)
	}
	if counts := answer["counts"].(map[string]any); counts["settled"] != 1.0 {
		t.Errorf("counted %v", counts)
	}
}

func TestWhatAMergeTakesIsPackedForTheNodeAgent(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	odd(t, i.upper(""))
	check(t, os.MkdirAll(i.upper("d/e"), 0o751), os.WriteFile(i.upper("d/e/no\xfftext"), []byte("it"), 0o600), unix.Mknod(i.upper("d/socket"), unix.S_IFSOCK|0o600, 0))
	i.keep("image-one")
	put := func(path string) args {
		return args{"path": []byte(path), "do": "put", "expect": "absent", "mode": 0, "uid": 0, "gid": 0}
	}
	ask := args{"id": i.id, "image": "image-one", "merge": args{"sinceMs": 1, "steps": []args{put("d"), put("link"), put("two")}}, "limits": args{"entries": 100, "bytes": 1 << 20, "ms": 10_000, "listed": 1}}
	path := n.must("files.pack", ask)["path"].(string)
	n.must("files.pack", ask) // It is replaced.
	file, err := os.Open(path)
	check(t, err)
	defer file.Close()
	var names []string
	for stream := tar.NewReader(file); ; {
		header, err := stream.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		names = append(names, fmt.Sprintf("%q %c %o %s%s", header.Name, header.Typeflag, header.Mode, header.Linkname, header.PAXRecords["SCHILY.xattr.user.bytes"]))
	}
	slices.Sort(names)
	want := []string{`"0" 5 751 `, `"0/e" 5 751 `, `"0/e/no\xfftext" 0 600 `, `"0/socket" 3 600 `, "\"1\" 2 777 /nowhere/\xff", "\"2\" 0 755 \x00\x01\xff", `"steps.json" 0 600 `}
	if !slices.Equal(names, want) {
		t.Errorf("packed %q", names)
	}
	n.must("files.drop", args{"id": i.id})
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	steps := ask["merge"].(args)
	steps["steps"] = []args{put("sparse")} // A TiB of holes.
	n.refused("too_large", "files.pack", ask)
	steps["steps"] = []args{put("../upper")}
	n.refused("bad_request", "files.pack", ask)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("half a pack is left: %v", err)
	}
}
