package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// A sentry and whoever makes or restores it must be of one make: gVisor changes what they say to each other from version to version, and only the
// build that wrote an image reads it. So each sandbox has a build, and an image wants its own again, long after hostd and runsc were replaced: its
// shell is then made, and restored, by a spawner of the hostd of that time. All else, pause and save among it, is said alike by all versions so far.

// Build names runsc and the hostd that was made with it, by the directories in which they lie beside ours.
type Build struct {
	Runsc string `json:"runsc"`
	Hostd string `json:"hostd"`
}

// builds are those that this host has: a new one is laid beside the others, and none is replaced.
type builds struct {
	runsc, hostd string
	own          Build
}

func buildsBeside(runsc string) (builds, error) {
	hostd, err := os.Executable()
	if err != nil {
		return builds{}, fmt.Errorf("finding where hostd itself lies: %w", err)
	}
	own := Build{Runsc: filepath.Base(filepath.Dir(runsc)), Hostd: filepath.Base(filepath.Dir(hostd))}
	return builds{runsc: runsc, hostd: hostd, own: own}, nil
}

// programs finds a build's two. Whoever asks is no root, so they must be whole files that only root can change.
func (b builds) programs(build Build) (runsc, hostd string, err error) {
	if runsc, err = beside(b.runsc, build.Runsc); err != nil {
		return "", "", err
	}
	hostd, err = beside(b.hostd, build.Hostd)
	return runsc, hostd, err
}

var directoryName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,99}$`)

func beside(ours, directory string) (string, error) {
	if !directoryName.MatchString(directory) {
		return "", wire.Errorf(wire.BadRequest, "the build %q is not named by one directory", directory)
	}
	path := filepath.Join(filepath.Dir(filepath.Dir(ours)), directory, filepath.Base(ours))
	for _, part := range []string{filepath.Dir(path), path} {
		info, err := os.Lstat(part)
		if err != nil {
			return "", wire.Errorf(wire.NotFound, "this host no longer has the build %s, without which what was made by it cannot be restored: %w; put it back, or go on with its files alone", directory, err)
		}
		stat, known := info.Sys().(*syscall.Stat_t)
		if !known || stat.Uid != 0 || info.Mode().Perm()&0o022 != 0 || info.Mode()&os.ModeSymlink != 0 {
			return "", wire.Errorf(wire.BadRequest, "%s must be root's, and no link, and nobody else's to write", part)
		}
	}
	return path, nil
}

// spawnersOf a build: our own are ready, another's are made when they are first asked for.
func (s *Sandboxes) spawnersOf(build Build) (*Spawners, error) {
	if build == s.builds.own {
		return s.spawners, nil
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if known := s.elders[build]; known != nil {
		return known, nil
	}
	runsc, hostd, err := s.builds.programs(build)
	if err != nil {
		return nil, err
	}
	made := NewSpawners(hostd, Runsc{Binary: runsc, Root: s.paths.RunscRoot(), Bundles: s.paths.Bundles()}, 1)
	s.elders[build] = made
	return made, nil
}

// MadeOf is what an image wants its shell to be made of.
type MadeOf struct {
	Build     Build    `json:"build"`
	Lower     []string `json:"lower"`
	Argv      []string `json:"argv"`
	MemoryMib int64    `json:"memoryMib"`
	Nofile    uint64   `json:"nofile"`
	VolumeDir bool     `json:"volumeDir"`
}

// MadeOf a sandbox. Nothing is known of one that an earlier hostd made, which wrote down no build.
func (s *Sandboxes) MadeOf(id names.ID) (*MadeOf, error) {
	ask, err := s.asked(id)
	if err != nil || ask.Build == (Build{}) {
		return nil, err
	}
	return &MadeOf{
		Build: ask.Build, Lower: ask.Lower, Argv: ask.Argv, MemoryMib: ask.Limits.MemoryMib, Nofile: ask.Limits.Nofile, VolumeDir: ask.VolumeDir,
	}, nil
}

// asked is what a sandbox was asked to be.
func (s *Sandboxes) asked(id names.ID) (Ask, error) {
	var ask Ask
	made, err := os.ReadFile(s.askFile(id))
	if err == nil {
		err = json.Unmarshal(made, &ask)
	}
	if err != nil {
		return Ask{}, fmt.Errorf("reading what sandbox %s was asked to be: %w", id, err)
	}
	return ask, nil
}
