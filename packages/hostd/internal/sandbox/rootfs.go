package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/wire"
)

// mountRootfs stacks the lower directories, top first, below a writable upper one.
func mountRootfs(target string, lower []string, disk string) error {
	options, err := overlayOptions(lower, disk)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("making the root's mount point: %w", err)
	}
	if err := unmountRootfs(target); err != nil {
		return err
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mounting the root %s of %s: %w", target, strings.Join(lower, " over "), err)
	}
	return nil
}

// amongLayers resolves lower directories, each of which must lie in one of the layers that the operator named: whoever
// speaks to hostd parses tenants' bytes, and must not be able to show a tenant the host's own files.
func amongLayers(lower, layers []string) ([]string, error) {
	resolved := make([]string, 0, len(lower))
	for _, directory := range lower {
		if !filepath.IsAbs(directory) {
			return nil, wire.Errorf(wire.BadRequest, "lower directory %q must be absolute", directory)
		}
		real, err := filepath.EvalSymlinks(directory)
		if err != nil {
			return nil, wire.Errorf(wire.NotFound, "lower directory %q is not there", directory)
		}
		if !liesIn(real, layers) {
			return nil, wire.Errorf(wire.BadRequest, "lower directory %q lies in none of the layers that hostd was started with; name its place with --layers", directory)
		}
		resolved = append(resolved, real)
	}
	return resolved, nil
}

// liesIn looks at the names first: there may be hundreds of layers, and each is asked for by its real name but by a test.
func liesIn(directory string, layers []string) bool {
	return slices.ContainsFunc(layers, func(layer string) bool { return isBelow(directory, layer) }) ||
		slices.ContainsFunc(layers, func(layer string) bool {
			real, err := filepath.EvalSymlinks(layer)
			return err == nil && isBelow(directory, real)
		})
}

func isBelow(directory, layer string) bool {
	return directory == layer || strings.HasPrefix(directory, strings.TrimSuffix(layer, "/")+"/")
}

// pageSize is the most that the kernel takes as mount options.
const pageSize = 4096

func overlayOptions(lower []string, disk string) (string, error) {
	if len(lower) == 0 {
		return "", wire.Errorf(wire.BadRequest, "a sandbox needs at least one lower directory")
	}
	for _, directory := range lower {
		if !filepath.IsAbs(directory) || strings.ContainsAny(directory, ":,\\") {
			return "", wire.Errorf(wire.BadRequest, "lower directory %q must be absolute and hold no colon, comma or backslash", directory)
		}
		if info, err := os.Stat(directory); err != nil || !info.IsDir() {
			return "", wire.Errorf(wire.NotFound, "lower directory %q is not there", directory)
		}
	}
	// Directories of a lower layer can be renamed; no index and no metacopy, so that a snapshot of the upper directory stands alone.
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,redirect_dir=on,index=off,metacopy=off", strings.Join(lower, ":"), disk, disk)
	if len(options) >= pageSize {
		return "", wire.Errorf(wire.BadRequest, "the paths of %d lower directories are too long for one mount", len(lower))
	}
	return options, nil
}

// bringsTmp says whether the template has files in its /tmp. What the disk has there by now must not count: an image is
// restored only into a sandbox with the very mounts of the one that it was made of.
func bringsTmp(lower []string) bool {
	return slices.ContainsFunc(lower, func(layer string) bool { return holdsFiles(filepath.Join(layer, "tmp")) })
}

// holdsFiles says whether a directory's content would be hidden by a mount on it. A link is followed inside the sandbox, never here.
func holdsFiles(directory string) bool {
	info, err := os.Lstat(directory)
	if err != nil || !info.IsDir() {
		return err == nil
	}
	names, err := os.ReadDir(directory)
	return err != nil || len(names) > 0
}

func unmountRootfs(target string) error {
	for {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("unmounting the root %s: %w", target, err)
		}
	}
}

// AmongLayers resolves what an image says it was made over, as at sandbox.create.
func (s *Sandboxes) AmongLayers(lower []string) ([]string, error) {
	if _, err := overlayOptions(lower, ""); err != nil {
		return nil, err
	}
	return amongLayers(lower, s.layers)
}
