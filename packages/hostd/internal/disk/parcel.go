package disk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/image"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

// A parcel is an image as files that travel: x/<image>/ holds the memory's files as they are (encrypted under the image's
// key, sharing their blocks with m/<image>/), the manifest, and disk.img, the disk's snapshot as btrfs sends it, sealed in
// the same format under the same key. It belongs to the node-agent, which carries it; whatever comes back in from there is
// authenticated before root does anything with it.

// DiskFile is the disk in a parcel.
const DiskFile = "disk.img"

// contentsFile tells what a packed parcel holds, and is written last.
const contentsFile = "contents.json"

// Contents of a parcel. Sizes are bytes, and MiB where said.
type Contents struct {
	Files []ParcelFile `json:"files"`
	// DiskDigest is the TreeDigest of the disk's snapshot; DiskMib its limit, DiskUsedMib what it takes.
	DiskDigest  string `json:"diskDigest"`
	DiskMib     int64  `json:"diskMib"`
	DiskUsedMib int64  `json:"diskUsedMib"`
}

// ParcelFile is one file in a parcel.
type ParcelFile struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Pack makes the parcel of a sealed image, whose memory is in the files given, and gives it to owner. One that is there is left alone.
func (p *Pool) Pack(ctx context.Context, name names.Image, key []byte, files []string, owner int) (Contents, error) {
	path := p.paths.Parcel(name)
	if there, err := readContents(path); err == nil {
		return there, nil
	}
	snapshot := diskIn(p.paths.Snapshot(name))
	volumes, err := p.keptIn(p.paths.Snapshot(name))
	if err != nil {
		return Contents{}, wire.Errorf(wire.NotFound, "image %s has no disk: %w", name, err)
	}
	if len(volumes) > 0 {
		return Contents{}, wire.Errorf(wire.Unsupported, "image %s has the volume %s, and volumes do not travel yet; detach it first", name, volumes[0].Volume)
	}
	usage, err := p.usageOf(snapshot)
	if err != nil {
		return Contents{}, err
	}
	if err := p.hasRoom(usage.UsedMib, name); err != nil {
		return Contents{}, err
	}
	if err := p.DeleteParcel(name); err != nil {
		return Contents{}, err
	}
	if err := p.makeParcel(path, owner); err != nil {
		return Contents{}, err
	}
	out := Contents{DiskMib: usage.LimitMib, DiskUsedMib: usage.UsedMib}
	for _, file := range append([]string{manifestFile}, files...) {
		if err := clone(filepath.Join(p.paths.Image(name), file), filepath.Join(path, file), owner); err != nil {
			return Contents{}, err
		}
	}
	if err := sendDisk(ctx, snapshot, filepath.Join(path, DiskFile), key, name, owner); err != nil {
		return Contents{}, err
	}
	if out.DiskDigest, err = TreeDigest(snapshot); err != nil {
		return Contents{}, err
	}
	for _, file := range append([]string{manifestFile, DiskFile}, files...) {
		info, err := os.Lstat(filepath.Join(path, file))
		if err != nil {
			return Contents{}, fmt.Errorf("looking at parcel %s: %w", name, err)
		}
		out.Files = append(out.Files, ParcelFile{file, info.Size()})
	}
	text, err := json.Marshal(out)
	if err != nil {
		return Contents{}, err
	}
	return out, writeSynced(filepath.Join(path, contentsFile), text)
}

func readContents(path string) (Contents, error) {
	var out Contents
	text, err := os.ReadFile(filepath.Join(path, contentsFile))
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(text, &out)
}

// OpenParcel makes a directory for the files of a parcel that is to come, unless it is there. needMib is what unpacking it will take.
func (p *Pool) OpenParcel(name names.Image, needMib int64, owner int) (string, error) {
	path := p.paths.Parcel(name)
	if _, err := os.Lstat(path); err == nil {
		return path, nil
	}
	if err := p.hasRoom(needMib, name); err != nil {
		return "", err
	}
	return path, p.makeParcel(path, owner)
}

func (p *Pool) hasRoom(needMib int64, name names.Image) error {
	space, err := p.Space()
	if err != nil {
		return err
	}
	if room := space.FreeMib - p.reserveMib; room < needMib {
		return wire.Errorf(wire.NoSpace, "the parcel of image %s needs %d MiB, and %d are free above the reserve; delete images or give the node a larger pool", name, needMib, max(room, 0))
	}
	return nil
}

func (p *Pool) makeParcel(path string, owner int) error {
	if is, err := isSubvolume(p.paths.Parcels()); err != nil || !is {
		if err := createSubvolume(p.paths.Parcels(), tenants); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("making the subvolume of all parcels: %w", err)
		}
	}
	if err := os.Chmod(p.paths.Parcels(), 0o711); err != nil {
		return fmt.Errorf("opening the way to the parcels: %w", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return fmt.Errorf("making the parcel %s: %w", path, err)
	}
	return os.Lchown(path, owner, owner)
}

// clone shares blocks: it takes no room and no time.
func clone(from, to string, owner int) error {
	source, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return wire.Errorf(wire.NotFound, "%s is not there", from)
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", from, err)
	}
	defer source.Close()
	// Of what the node-agent owns, only a plain file is one.
	if info, err := source.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, wire.Errorf(wire.Refused, "%s is no file", from))
	}
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("making %s: %w", to, err)
	}
	defer target.Close()
	if err := unix.IoctlFileClone(int(target.Fd()), int(source.Fd())); err != nil {
		return fmt.Errorf("sharing the blocks of %s: %w", from, err)
	}
	return target.Chown(owner, owner)
}

// Unpack makes the image that a parcel holds: its files copied to where only root writes, its disk received there, and all
// of it sealed. Everything it takes is authenticated under the key first. The disk must then have the digest that it had when it was packed.
func (p *Pool) Unpack(ctx context.Context, name names.Image, key []byte, files []string, want Contents) error {
	is, err := p.IsSealed(name)
	if err != nil {
		return fmt.Errorf("looking whether image %s is sealed: %w", name, err)
	}
	if is {
		return p.hasDisk(name, want)
	}
	if err := p.hasRoom(want.DiskUsedMib, name); err != nil {
		return err
	}
	if err := p.DeleteImage(name); err != nil {
		return err
	}
	if err := p.makeImages(); err != nil {
		return err
	}
	staging := p.paths.Image(name)
	if err := os.Mkdir(staging, 0o700); err != nil {
		return fmt.Errorf("making image %s: %w", name, err)
	}
	parcel := p.paths.Parcel(name)
	for _, file := range append([]string{DiskFile}, files...) {
		if err := clone(filepath.Join(parcel, file), filepath.Join(staging, file), 0); err != nil {
			return err
		}
	}
	manifest, err := readSmall(filepath.Join(parcel, manifestFile))
	if err != nil {
		return err
	}
	if err := p.receiveSet(ctx, name, key, filepath.Join(staging, DiskFile), want); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(staging, DiskFile)); err != nil {
		return fmt.Errorf("removing the disk of image %s from beside its memory: %w", name, err)
	}
	return p.Seal(name, files, manifest)
}

const manifestMax = 1 << 20

func readSmall(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, wire.Errorf(wire.NotFound, "the parcel has no %s: %w", filepath.Base(path), err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > manifestMax {
		return nil, errors.Join(err, wire.Errorf(wire.Refused, "the parcel's %s is no small file", filepath.Base(path)))
	}
	text := make([]byte, info.Size())
	_, err = file.ReadAt(text, 0)
	return text, err
}

// receiveSet makes s/<image>/ with the disk in it, which bears the name only when it is whole.
func (p *Pool) receiveSet(ctx context.Context, name names.Image, key []byte, from string, want Contents) error {
	set := p.paths.Snapshot(name)
	staged := set + stagedSuffix
	if err := p.dropSnapshots(staged); err != nil {
		return err
	}
	if err := os.MkdirAll(volumesIn(staged), 0o700); err != nil {
		return fmt.Errorf("making the snapshot set %s: %w", name, err)
	}
	if err := receiveDisk(ctx, staged, from, key, name); err != nil {
		return err
	}
	received := diskIn(staged)
	if err := p.join(received); err != nil {
		return err
	}
	if err := p.limit(received, want.DiskMib); err != nil {
		return err
	}
	found, err := TreeDigest(received)
	if err != nil {
		return err
	}
	if found != want.DiskDigest {
		return wire.Errorf(wire.Refused, "the disk of image %s came as %s and was sent as %s", name, found, want.DiskDigest)
	}
	// Unlike a snapshot, what was received is not on the disk yet.
	if err := within(p.paths.PoolDir, func(root *os.File) error { return unix.Syncfs(int(root.Fd())) }); err != nil {
		return fmt.Errorf("syncing the disk of image %s: %w", name, err)
	}
	if err := os.Rename(staged, set); err != nil {
		return fmt.Errorf("naming the snapshot set %s: %w", name, err)
	}
	return syncDirectory(p.paths.Snapshots())
}

func (p *Pool) hasDisk(name names.Image, want Contents) error {
	found, err := TreeDigest(diskIn(p.paths.Snapshot(name)))
	if err == nil && found != want.DiskDigest {
		return wire.Errorf(wire.Refused, "the disk of image %s is %s and was sent as %s", name, found, want.DiskDigest)
	}
	return err
}

// join makes a subvolume that btrfs has made by itself one of the tenants'.
func (p *Pool) join(path string) error {
	number, err := subvolumeNumber(path)
	if err != nil {
		return fmt.Errorf("reading the number of subvolume %s: %w", path, err)
	}
	return within(p.paths.PoolDir, func(root *os.File) error {
		if err := assignQgroup(root, number, tenants); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("counting %s among the tenants' space: %w", path, err)
		}
		return nil
	})
}

// DeleteParcel removes a parcel, whole or not.
func (p *Pool) DeleteParcel(name names.Image) error {
	if err := os.RemoveAll(p.paths.Parcel(name)); err != nil {
		return fmt.Errorf("removing the parcel of image %s: %w", name, err)
	}
	return nil
}

// Parcels lists the images that have one, whole or not.
func (p *Pool) Parcels() ([]names.Image, error) { return imagesIn(p.paths.Parcels()) }

func diskName(name names.Image) image.Name { return image.Name{Image: string(name), Role: DiskFile} }
