package host

import (
	"context"
	"errors"

	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/image"
	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/scribe"
	"torpor.dev/hostd/internal/wire"
)

type packArgs struct {
	Image string `json:"image"`
	Key   []byte `json:"key"`
	// DiskAlone: the image is a disk that is kept without memory.
	DiskAlone bool `json:"diskAlone"`
}

// memoryOf names the files that hold it.
func memoryOf(diskAlone bool) []string {
	if diskAlone {
		return nil
	}
	return scribe.Files
}

type packed struct {
	Path string `json:"path"`
	disk.Contents
}

func (h *Host) packParcel(ctx context.Context, args packArgs) (any, error) {
	name, key, err := namedKey(args.Image, args.Key)
	if err != nil {
		return nil, err
	}
	var out packed
	err = h.withImage(ctx, name, func(pool *disk.Pool, _ *lock.Held) (err error) {
		is, err := pool.IsSealed(name)
		if err != nil {
			return err
		}
		if !is && !args.DiskAlone {
			return wire.Errorf(wire.NotFound, "there is no sealed image %s", name)
		}
		out.Path = h.Paths.Parcel(name)
		out.Contents, err = pool.Pack(ctx, name, key, memoryOf(args.DiskAlone), h.Owner)
		return err
	})
	return out, err
}

// namedKey derives the image's own key from what the node-agent calls its key.
func namedKey(imageText string, given []byte) (names.Image, []byte, error) {
	name, err := parseImage(imageText)
	if err != nil {
		return "", nil, err
	}
	key, err := image.KeyOf(given, imageText)
	if err != nil {
		return "", nil, wire.Errorf(wire.BadRequest, "%w", err)
	}
	return name, key, nil
}

type openParcelArgs struct {
	Image   string `json:"image"`
	NeedMib int64  `json:"needMib"`
}

func (h *Host) openParcel(ctx context.Context, args openParcelArgs) (any, error) {
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	var path string
	err = h.withImage(ctx, name, func(pool *disk.Pool, _ *lock.Held) (err error) {
		path, err = pool.OpenParcel(name, args.NeedMib, h.Owner)
		return err
	})
	return map[string]string{"path": path}, err
}

type unpackArgs struct {
	Image       string `json:"image"`
	Key         []byte `json:"key"`
	DiskDigest  string `json:"diskDigest"`
	DiskMib     int64  `json:"diskMib"`
	DiskUsedMib int64  `json:"diskUsedMib"`
	DiskAlone   bool   `json:"diskAlone"`
}

// unpackParcel is not over before what was written was read back and compared, the memory by verify as after a save.
func (h *Host) unpackParcel(ctx context.Context, args unpackArgs) (any, error) {
	name, key, err := namedKey(args.Image, args.Key)
	if err != nil {
		return nil, err
	}
	want := disk.Contents{DiskDigest: args.DiskDigest, DiskMib: args.DiskMib, DiskUsedMib: args.DiskUsedMib}
	err = h.withImage(ctx, name, func(pool *disk.Pool, _ *lock.Held) error {
		return pool.Unpack(ctx, name, key, memoryOf(args.DiskAlone), want)
	})
	if err != nil || args.DiskAlone {
		return map[string]string{"digest": args.DiskDigest}, err
	}
	verified, err := h.verifyImage(ctx, verifyArgs{Image: args.Image, Key: args.Key})
	if err != nil && wire.AsError(err).Code == wire.Refused {
		// It came as no image; nobody is to take it for one.
		return nil, errors.Join(err, h.withImage(ctx, name, func(pool *disk.Pool, _ *lock.Held) error { return pool.DeleteImage(name) }))
	}
	return verified, err
}

func (h *Host) deleteParcel(ctx context.Context, args imageArgs) (any, error) {
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	return done{}, h.withImage(ctx, name, func(pool *disk.Pool, _ *lock.Held) error { return pool.DeleteParcel(name) })
}

func (h *Host) listParcels(context.Context, struct{}) (any, error) {
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	found, err := pool.Parcels()
	return map[string]any{"parcels": found}, err
}
