package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// What is kept of an instance at one moment lies at two places: its memory in m/<image>/, encrypted files of one subvolume
// that all images share, and its disks in s/<image>/, read-only snapshots. Both count among the tenants' space.

// ImageFiles opens an image's directory for what is to be written to it; what an earlier, unfinished save left is taken
// away. estimateMib is what will be needed at most: no_space when that much is not free above the reserve.
func (p *Pool) ImageFiles(image names.Image, estimateMib int64, files []string) ([]*os.File, error) {
	is, err := p.IsSealed(image)
	if err != nil {
		return nil, fmt.Errorf("looking whether image %s is sealed: %w", image, err)
	}
	if is {
		return nil, wire.Errorf(wire.AlreadyExists, "image %s is sealed; give the next one another name", image)
	}
	space, err := p.Space()
	if err != nil {
		return nil, err
	}
	if room := space.FreeMib - p.reserveMib; room < estimateMib {
		return nil, wire.Errorf(wire.NoSpace, "image %s may need %d MiB, and %d are free above the reserve; delete images or give the node a larger pool", image, estimateMib, max(room, 0))
	}
	if err := p.makeImages(); err != nil {
		return nil, err
	}
	if err := p.DropFiles(image); err != nil {
		return nil, err
	}
	if err := os.Mkdir(p.paths.Image(image), 0o700); err != nil {
		return nil, fmt.Errorf("making image %s: %w", image, err)
	}
	return p.openEach(image, files, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// makeImages makes the subvolume of all images when it is not there.
func (p *Pool) makeImages() error {
	if is, err := isSubvolume(p.paths.Images()); err == nil && is {
		return nil
	}
	if err := createSubvolume(p.paths.Images(), tenants); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making the subvolume of all images: %w", err)
	}
	return nil
}

// OpenImage opens the files of an image for reading.
func (p *Pool) OpenImage(image names.Image, files []string) ([]*os.File, error) {
	return p.openEach(image, files, os.O_RDONLY)
}

func (p *Pool) openEach(image names.Image, files []string, flags int) ([]*os.File, error) {
	var out []*os.File
	for _, name := range files {
		file, err := os.OpenFile(filepath.Join(p.paths.Image(image), name), flags, 0o600)
		if err != nil {
			CloseAll(out)
			if errors.Is(err, os.ErrNotExist) {
				return nil, p.Seen(wire.Errorf(wire.NotFound, "image %s has no %s", image, name))
			}
			return nil, fmt.Errorf("opening %s of image %s: %w", name, image, err)
		}
		out = append(out, file)
	}
	return out, nil
}

// CloseAll closes files that were only read, or synced before.
func CloseAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

const manifestFile = "manifest.json"

func (p *Pool) manifest(image names.Image) string {
	return filepath.Join(p.paths.Image(image), manifestFile)
}

// IsSealed tells whether an image has its manifest, without which it is only a try.
func (p *Pool) IsSealed(image names.Image) (bool, error) {
	_, err := os.Lstat(p.manifest(image))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Seal makes the files durable, then writes the manifest so that it is there whole or not at all. Sealing again with the same manifest is success.
func (p *Pool) Seal(image names.Image, files []string, manifest []byte) error {
	is, err := p.IsSealed(image)
	if err != nil {
		return fmt.Errorf("looking whether image %s is sealed: %w", image, err)
	}
	if is {
		sealed, err := p.Manifest(image)
		if err != nil || string(sealed) != string(manifest) {
			return errors.Join(err, wire.Errorf(wire.AlreadyExists, "image %s is sealed with another manifest", image))
		}
		return nil
	}
	opened, err := p.openEach(image, files, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer CloseAll(opened)
	for _, file := range opened {
		if err := file.Sync(); err != nil {
			return fmt.Errorf("syncing %s of image %s: %w", filepath.Base(file.Name()), image, err)
		}
	}
	partial := p.manifest(image) + ".partial"
	if err := writeSynced(partial, manifest); err != nil {
		return fmt.Errorf("writing the manifest of image %s: %w", image, err)
	}
	if err := os.Rename(partial, p.manifest(image)); err != nil {
		return fmt.Errorf("naming the manifest of image %s: %w", image, err)
	}
	for _, directory := range []string{p.paths.Image(image), p.paths.Images()} {
		if err := syncDirectory(directory); err != nil {
			return fmt.Errorf("syncing the directory of image %s: %w", image, err)
		}
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(text); err != nil {
		return err
	}
	return file.Sync()
}

func syncDirectory(path string) error {
	return within(path, func(directory *os.File) error { return directory.Sync() })
}

// Manifest of a sealed image.
func (p *Pool) Manifest(image names.Image) ([]byte, error) {
	text, err := os.ReadFile(p.manifest(image))
	if errors.Is(err, os.ErrNotExist) {
		return nil, p.Seen(wire.Errorf(wire.NotFound, "there is no sealed image %s", image))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the manifest of image %s: %w", image, err)
	}
	return text, nil
}

// ImageBytes is how much an image's files take.
func (p *Pool) ImageBytes(image names.Image) (int64, error) {
	entries, err := os.ReadDir(p.paths.Image(image))
	if err != nil {
		return 0, fmt.Errorf("listing image %s: %w", image, err)
	}
	sum := int64(0)
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum, nil
}

// DropFiles removes an image's files.
func (p *Pool) DropFiles(image names.Image) error {
	if err := os.RemoveAll(p.paths.Image(image)); err != nil {
		return fmt.Errorf("removing the files of image %s: %w", image, err)
	}
	return nil
}

// DeleteImage removes an image's files, manifest first, and its snapshots. What is gone already is no error.
func (p *Pool) DeleteImage(image names.Image) error {
	if err := os.Remove(p.manifest(image)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unsealing image %s: %w", image, err)
	}
	if err := p.DropFiles(image); err != nil {
		return err
	}
	for _, path := range []string{p.paths.Snapshot(image) + stagedSuffix, p.paths.Snapshot(image)} {
		if err := p.dropSnapshots(path); err != nil {
			return err
		}
	}
	return nil
}

// Images lists the names that have files, sealed or not.
func (p *Pool) Images() ([]names.Image, error) { return imagesIn(p.paths.Images()) }

// Kept lists the names that have files, and those that have snapshots, unfinished ones included.
func Kept(paths names.Paths) (images, snapshots []names.Image, err error) {
	images, err = imagesIn(paths.Images())
	snapshots, snapshotsErr := imagesIn(paths.Snapshots())
	return images, snapshots, errors.Join(err, snapshotsErr)
}

func imagesIn(directory string) ([]names.Image, error) {
	entries, err := os.ReadDir(directory)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listing %s: %w", directory, err)
	}
	seen, out := map[names.Image]bool{}, []names.Image{}
	for _, entry := range entries {
		name := entry.Name()
		if filepath.Ext(name) == stagedSuffix {
			name = name[:len(name)-len(stagedSuffix)]
		}
		if image, err := names.ParseImage(name); err == nil && !seen[image] {
			seen[image] = true
			out = append(out, image)
		}
	}
	sort.Slice(out, func(a, b int) bool { return out[a] < out[b] })
	return out, nil
}

// ImagesMib is what all images' files take of the pool; none have ever been saved where there is no subvolume.
func (p *Pool) ImagesMib() (int64, error) {
	if is, err := isSubvolume(p.paths.Images()); err != nil || !is {
		return 0, nil
	}
	usage, err := p.usageOf(p.paths.Images())
	return usage.UsedMib, err
}
