package names

import (
	"fmt"
	"path/filepath"
	"regexp"
)

var imagePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{7,62}$`)

// Image names what is kept of one instance at one moment: its memory below m/ and its disks below s/.
type Image string

// ParseImage refuses a name that could leave its directory.
func ParseImage(text string) (Image, error) {
	if !imagePattern.MatchString(text) {
		return "", fmt.Errorf("image %q must be 8 to 63 characters of a-z, 0-9 and -, not beginning with -", text)
	}
	return Image(text), nil
}

func (p Paths) Images() string          { return filepath.Join(p.PoolDir, "m") }
func (p Paths) Image(i Image) string    { return filepath.Join(p.Images(), string(i)) }
func (p Paths) Snapshots() string       { return filepath.Join(p.PoolDir, "s") }
func (p Paths) Snapshot(i Image) string { return filepath.Join(p.Snapshots(), string(i)) }

// EmptyDir is all that a confined process sees of the file system.
func (p Paths) EmptyDir() string { return filepath.Join(p.RunDir, "empty") }
