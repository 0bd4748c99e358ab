package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"torpor.dev/hostd/internal/disk"
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
