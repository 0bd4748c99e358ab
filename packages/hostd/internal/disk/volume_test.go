package disk

import (
	"os"
	"path/filepath"
	"testing"
)

// Root's renames and ioctls act on directories that a guest can put links in the place of: they must never follow.
func TestALinkIsNotOpenedAsADirectory(t *testing.T) {
	top := t.TempDir()
	link := filepath.Join(top, "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := within(link, func(*os.File) error { return nil }); err == nil {
		t.Error("a link was opened as a directory")
	}
	if err := within(top, func(*os.File) error { return nil }); err != nil {
		t.Errorf("a directory was not opened: %v", err)
	}
}
