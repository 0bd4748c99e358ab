package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/survey"
	"torpor.dev/hostd/internal/wire"
)

type compareArgs struct {
	// Images are two, or base, fork and here.
	Images []string `json:"images"`
	// Under is a path below the root; empty: all of it.
	Under  []byte        `json:"under"`
	Limits survey.Limits `json:"limits"`
}

// listedMax keeps an answer within a line of the protocol.
const listedMax = 1500

// compareFiles takes no locks: images never change, and who asks keeps them from being deleted.
func (h *Host) compareFiles(ctx context.Context, args compareArgs) (any, error) {
	limits := args.Limits
	if count := len(args.Images); count != 2 && count != 3 {
		return nil, wire.Errorf(wire.BadRequest, "%d images; expected two, or three: base, fork and here", count)
	}
	if limits.Entries < 1 || limits.Bytes < 1 || limits.Ms < 1 || limits.Listed < 1 || limits.Listed > listedMax {
		return nil, wire.Errorf(wire.BadRequest, "every limit must be given, and listed be at most %d", listedMax)
	}
	under, err := partsOf(string(args.Under))
	if err != nil {
		return nil, err
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	job := survey.Job{Under: under, Limits: limits}
	for _, text := range args.Images {
		tree, err := h.treeOf(pool, text)
		if err != nil {
			return nil, err
		}
		job.Trees = append(job.Trees, tree)
	}
	began := time.Now()
	told, err := survey.Send(ctx, h.Paths.EmptyDir(), job)
	if err != nil {
		return nil, err
	}
	return struct {
		survey.Told
		TookMs float64 `json:"tookMs"`
	}{told, float64(time.Since(began).Microseconds()) / 1000}, nil
}

type packFilesArgs struct {
	// ID is the instance that they are for.
	ID     string        `json:"id"`
	Image  string        `json:"image"`
	Merge  survey.Merge  `json:"merge"`
	Limits survey.Limits `json:"limits"`
}

// packName is the parcel that holds what is merged into an instance; an image's own never begins so.
func packName(id names.ID) names.Image { return names.Image("merge." + string(id)) }

const packFile = "files.tar"

// packFiles lays what a merge takes from an image into a file of the node-agent's, in place of one that was there.
func (h *Host) packFiles(ctx context.Context, args packFilesArgs) (any, error) {
	id, err := parseID(args.ID)
	if err != nil {
		return nil, err
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	tree, err := h.treeOf(pool, args.Image)
	if err != nil {
		return nil, err
	}
	limits := args.Limits
	if limits.Entries < 1 || limits.Bytes < 1 || limits.Ms < 1 {
		return nil, wire.Errorf(wire.BadRequest, "every limit must be given")
	}
	for _, step := range args.Merge.Steps {
		if parts, err := partsOf(string(step.Path)); err != nil || strings.Join(parts, "/") != string(step.Path) {
			return nil, wire.Errorf(wire.BadRequest, "step of %q; expected a path below the root", step.Path)
		}
	}
	var path string
	err = h.withImage(ctx, packName(id), func(pool *disk.Pool, _ *lock.Held) (err error) {
		if err := pool.DeleteParcel(packName(id)); err != nil {
			return err
		}
		needMib := limits.Bytes>>20 + packOverheadMib
		directory, err := pool.OpenParcel(packName(id), needMib, h.Owner)
		if err != nil {
			return err
		}
		path = filepath.Join(directory, packFile)
		job := survey.Job{Trees: []survey.Tree{tree}, Limits: limits, Pack: &args.Merge}
		if err := h.packInto(ctx, path, job); err != nil {
			return errors.Join(err, pool.DeleteParcel(packName(id)))
		}
		return nil
	})
	return map[string]string{"path": path}, err
}

// packOverheadMib is for names and headers.
const packOverheadMib = 16

func (h *Host) packInto(ctx context.Context, path string, job survey.Job) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("making the pack: %w", err)
	}
	defer file.Close()
	if err := survey.Pack(ctx, h.Paths.EmptyDir(), job, job.Limits.Bytes+packOverheadMib<<20+job.Limits.Entries*packedEntry, file); err != nil {
		return err
	}
	return file.Chown(h.Owner, h.Owner)
}

// packedEntry is what an entry takes besides its contents, at most: headers, a long name and padding.
const packedEntry = 16 << 10

type dropFilesArgs struct {
	ID string `json:"id"`
}

func (h *Host) dropFiles(ctx context.Context, args dropFilesArgs) (any, error) {
	id, err := parseID(args.ID)
	if err != nil {
		return nil, err
	}
	return done{}, h.withImage(ctx, packName(id), func(pool *disk.Pool, _ *lock.Held) error { return pool.DeleteParcel(packName(id)) })
}

// treeOf is an image's disk, over the layers that its sandbox had.
func (h *Host) treeOf(pool *disk.Pool, text string) (survey.Tree, error) {
	name, err := parseImage(text)
	if err != nil {
		return survey.Tree{}, err
	}
	lower, err := h.layersOf(pool, name)
	if err != nil {
		return survey.Tree{}, err
	}
	upper := pool.Upper(name)
	if info, err := os.Lstat(upper); err != nil || !info.IsDir() {
		return survey.Tree{}, wire.Errorf(wire.NotFound, "image %s has no disk", name)
	}
	return survey.Tree{Upper: upper, Lower: lower}, nil
}

func (h *Host) layersOf(pool *disk.Pool, name names.Image) ([]string, error) {
	text, err := pool.Manifest(name)
	if err != nil {
		return nil, err
	}
	var manifest struct {
		MadeOf *sandbox.MadeOf `json:"madeOf"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, fmt.Errorf("reading the manifest of image %s: %w", name, err)
	}
	if manifest.MadeOf == nil {
		return nil, wire.Errorf(wire.Unsupported, "image %s does not say which layers it was made over", name)
	}
	return h.sandboxes.AmongLayers(manifest.MadeOf.Lower)
}

func partsOf(under string) ([]string, error) {
	trimmed := strings.Trim(under, "/")
	if trimmed == "" {
		return nil, nil
	}
	parts := strings.Split(trimmed, "/")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || strings.ContainsRune(part, 0) {
			return nil, wire.Errorf(wire.BadRequest, "the path %q must hold no empty part, no . and no ..", under)
		}
	}
	return parts, nil
}
