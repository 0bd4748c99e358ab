package host

import (
	"context"

	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/wire"
)

type volumeArgs struct {
	Volume  string `json:"volume"`
	SizeMib int64  `json:"sizeMib"`
	From    string `json:"from"`
	Image   string `json:"image"`
}

func (h *Host) createVolume(ctx context.Context, args volumeArgs) (any, error) {
	if args.From != "" {
		if _, err := parseVolume(args.From); err != nil {
			return nil, err
		}
	}
	var image names.Image
	if args.Image != "" {
		parsed, err := parseImage(args.Image)
		if err != nil {
			return nil, err
		}
		if image = parsed; args.From == "" {
			return nil, wire.Errorf(wire.BadRequest, "from must say which of the volumes of image %s is meant", image)
		}
	}
	return h.onVolumeAlone(ctx, args.Volume, func(pool *disk.Pool, volume string) (any, error) {
		if image != "" {
			return done{}, pool.CreateVolumeOf(volume, args.SizeMib, image, args.From)
		}
		return done{}, pool.CreateVolume(volume, args.SizeMib, args.From)
	})
}

type oneVolume struct {
	Volume string `json:"volume"`
}

func (h *Host) deleteVolume(ctx context.Context, args oneVolume) (any, error) {
	return h.onVolumeAlone(ctx, args.Volume, func(pool *disk.Pool, volume string) (any, error) {
		return done{}, pool.DeleteVolume(volume)
	})
}

func (h *Host) volumeUsage(ctx context.Context, args oneVolume) (any, error) {
	return h.onVolumeAlone(ctx, args.Volume, func(pool *disk.Pool, volume string) (any, error) {
		return pool.VolumeUsage(volume)
	})
}

type restoreVolumeArgs struct {
	Volume string `json:"volume"`
	Image  string `json:"image"`
	From   string `json:"from"`
}

func (h *Host) restoreVolume(ctx context.Context, args restoreVolumeArgs) (any, error) {
	image, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	kept, err := parseVolume(args.From)
	if err != nil {
		return nil, err
	}
	return h.onVolumeAlone(ctx, args.Volume, func(pool *disk.Pool, volume string) (any, error) {
		return done{}, pool.RestoreVolume(volume, image, kept)
	})
}

type volumeStatsArgs struct {
	Volumes []struct {
		Volume string `json:"volume"`
		ID     string `json:"id"`
		Name   string `json:"name"`
	} `json:"volumes"`
}

// volumeStats takes no locks: it only reads counters.
func (h *Host) volumeStats(_ context.Context, args volumeStatsArgs) (any, error) {
	places := make([]disk.Place, 0, len(args.Volumes))
	for _, one := range args.Volumes {
		volume, err := parseVolume(one.Volume)
		if err != nil {
			return nil, err
		}
		at := disk.Place{Volume: volume}
		if one.ID != "" {
			if at.ID, err = parseID(one.ID); err != nil {
				return nil, err
			}
			if at.Name, err = parseVolume(one.Name); err != nil {
				return nil, err
			}
		}
		places = append(places, at)
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	return pool.VolumeUsages(places)
}

func (h *Host) onVolumeAlone(ctx context.Context, text string, act func(*disk.Pool, string) (any, error)) (any, error) {
	volume, err := parseVolume(text)
	if err != nil {
		return nil, err
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	held, err := h.locks.Take(ctx, volumeLock(volume))
	if err != nil {
		return nil, err
	}
	defer held.Release()
	return act(pool, volume)
}

// volumeLock cannot be an instance's: ids hold no dot.
func volumeLock(volume string) string { return "volume." + volume }

func onVolume(act func(*disk.Pool, names.ID, string, string) error) verb {
	return taking(func(h *Host, ctx context.Context, args struct {
		ID     string `json:"id"`
		Volume string `json:"volume"`
		Name   string `json:"name"`
	}) (any, error) {
		id, err := parseID(args.ID)
		if err != nil {
			return nil, err
		}
		name, err := parseVolume(args.Name)
		if err != nil {
			return nil, err
		}
		return h.onVolumeAlone(ctx, args.Volume, func(pool *disk.Pool, volume string) (any, error) {
			return done{}, h.locked(ctx, id, func(*lock.Held) error { return act(pool, id, volume, name) })
		})
	})
}
