package files

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func stream(t *testing.T, since time.Time, steps []mergeStep, entries ...tar.Header) *bytes.Buffer {
	t.Helper()
	text, err := json.Marshal(mergeSteps{SinceMs: since.UnixMilli(), Steps: steps})
	out := &bytes.Buffer{}
	writer := tar.NewWriter(out)
	err = errors.Join(err, writer.WriteHeader(&tar.Header{Name: stepsFile, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(text))}))
	writer.Write(text)
	for _, header := range entries {
		content := ""
		if header.Typeflag == tar.TypeReg {
			content, header.Linkname = header.Linkname, "" // What the file holds.
			header.Size = int64(len(content))
		}
		header.Uid, header.Gid = os.Getuid(), os.Getgid()
		err = errors.Join(err, writer.WriteHeader(&header))
		writer.Write([]byte(content))
	}
	if err := errors.Join(err, writer.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

func file(name, content string, mode int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Linkname: content, Mode: mode}
}

func directory(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o750}
}

func put(path, expect string) mergeStep {
	return mergeStep{Path: []byte(path), Do: "put", Expect: expect}
}
func remove(path string) mergeStep {
	return mergeStep{Path: []byte(path), Do: "remove", Expect: "present"}
}

// filled makes a root with files, and gives a moment after they were made.
func filled(t *testing.T, files ...string) (root string, since time.Time) {
	t.Helper()
	root = t.TempDir()
	for _, name := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("old "+name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root, time.Now().Add(time.Second)
}

// seen lists what is below a root, with what files hold.
func seen(t *testing.T, root string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		if entry.Type().IsRegular() {
			text, err := os.ReadFile(path)
			out = append(out, name+"="+string(text))
			return err
		}
		out = append(out, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "; ")
}

func TestAMergeIsMade(t *testing.T) {
	root, since := filled(t, "changes", "goes/in", "retyped/in", "stays")
	merged, err := applyAt(root, stream(t, since,
		[]mergeStep{put("changes", "present"), remove("goes"), put("new", "absent"), put("retyped", "present")},
		file("0", "new text", 0o755), directory("2"), file("2/in", "deep", 0o600),
		tar.Header{Name: "3", Typeflag: tar.TypeSymlink, Linkname: "anywhere"}))
	if err != nil || merged.Applied != 4 || len(merged.Skipped) != 0 {
		t.Fatalf("%+v %v", merged, err)
	}
	if got := seen(t, root); got != "changes=new text; new; new/in=deep; retyped; stays=old stays" {
		t.Error(got)
	}
	info, err := os.Stat(filepath.Join(root, "changes"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", info, err)
	}
}

func TestAMergeThatCannotBeMadeWholeChangesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, root string, since time.Time) *bytes.Buffer
		want string
	}{
		{"what was to be absent is there", func(t *testing.T, _ string, since time.Time) *bytes.Buffer {
			return stream(t, since, []mergeStep{remove("a"), put("d/b", "absent")}, file("1", "x", 0o644))
		}, "changed while the merge was made"},
		{"what was to be there is not", func(t *testing.T, _ string, since time.Time) *bytes.Buffer {
			return stream(t, since, []mergeStep{remove("a"), remove("gone")})
		}, "changed while the merge was made"},
		{"something deep inside was changed since", func(t *testing.T, _ string, _ time.Time) *bytes.Buffer {
			return stream(t, time.Now().Add(-time.Minute), []mergeStep{remove("d")})
		}, "changed while the merge was made"},
		{"a rename in the middle fails", func(t *testing.T, _ string, since time.Time) *bytes.Buffer {
			return stream(t, since, []mergeStep{put("a", "present"), remove("d"), put("nowhere/new", "absent")}, file("0", "x", 0o644), file("2", "x", 0o644))
		}, "nowhere/new"},
		{"the stream ends early", func(t *testing.T, _ string, since time.Time) *bytes.Buffer {
			whole := stream(t, since, []mergeStep{remove("a"), put("new", "absent")}, file("1", strings.Repeat("x", 4096), 0o644))
			whole.Truncate(3000)
			return whole
		}, "EOF"},
		{"something is missing in it", func(t *testing.T, _ string, since time.Time) *bytes.Buffer {
			return stream(t, since, []mergeStep{remove("a"), put("new", "absent")})
		}, "nothing for"},
		{"a path leads out", func(t *testing.T, _ string, since time.Time) *bytes.Buffer {
			return stream(t, since, []mergeStep{remove("a"), remove("../a")})
		}, "below the root"},
		{"an entry leads out", func(t *testing.T, _ string, since time.Time) *bytes.Buffer {
			return stream(t, since, []mergeStep{put("new", "absent")}, tar.Header{Name: "0", Typeflag: tar.TypeSymlink, Linkname: "../../.."}, file("0/in", "x", 0o644))
		}, "0/in"},
	} {
		root, since := filled(t, "a", "d/b")
		before := seen(t, root)
		_, err := applyAt(root, c.make(t, root, since))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := seen(t, root); got != before {
			t.Errorf("%s: left %q of %q", c.name, got, before)
		}
	}
}

func TestSocketsAndDevicesAreToldOf(t *testing.T) {
	root, since := filled(t)
	merged, err := applyAt(root, stream(t, since, []mergeStep{put("d", "absent")}, directory("0"), tar.Header{Name: "0/socket", Typeflag: tar.TypeChar}))
	if err != nil || len(merged.Skipped) != 1 || seen(t, root) != "d" {
		t.Errorf("%+v %v %q", merged, err, seen(t, root))
	}
}
