package disk

import (
	"os"
	"path/filepath"
	"testing"

	"torpor.dev/hostd/internal/names"
)

// A guest writes in its vol/ while it runs, and root's renames and ioctls go there: they must never follow where it points.
func TestAPathBelowADiskIsReachedThroughNoLink(t *testing.T) {
	pool := t.TempDir()
	p := &Pool{paths: names.Paths{PoolDir: pool}}
	vol := filepath.Join(p.paths.Disk("aaaaaaaa"), "vol")
	other := filepath.Join(p.paths.Disk("bbbbbbbb"), "vol")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(vol, "deep"), 0o755), os.MkdirAll(filepath.Join(other, "data"), 0o755),
		os.WriteFile(filepath.Join(vol, "deep", "mine"), []byte("mine"), 0o644),
		os.Symlink(other, filepath.Join(vol, "link")), os.Symlink("../../bbbbbbbb/vol", filepath.Join(vol, "near")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	reach := func(path string) (string, error) {
		var text []byte
		err := p.pinned(path, func(_ int, _, there string) (err error) {
			text, err = os.ReadFile(there)
			return err
		})
		return string(text), err
	}
	if text, err := reach(filepath.Join(vol, "deep", "mine")); err != nil || text != "mine" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, bad := range []string{filepath.Join(vol, "link", "data"), filepath.Join(vol, "near", "data"), filepath.Join(pool, "v", "x")} {
		if err := p.pinned(bad, func(int, string, string) error { return nil }); err == nil {
			t.Errorf("%s was reached", bad)
		}
	}
	if err := within(filepath.Join(vol, "link"), func(*os.File) error { return nil }); err == nil {
		t.Error("a link was opened as a directory")
	}
}
