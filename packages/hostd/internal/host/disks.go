package host

import (
	"context"

	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
)

type diskArgs struct {
	ID      string `json:"id"`
	DiskMib int64  `json:"diskMib"`
	From    string `json:"from"`
}

func (h *Host) createDisk(ctx context.Context, args diskArgs) (any, error) {
	id, err := parseID(args.ID)
	if err != nil {
		return nil, err
	}
	var from names.ID
	if args.From != "" {
		if from, err = parseID(args.From); err != nil {
			return nil, err
		}
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	var path string
	err = h.locked(ctx, id, func(*lock.Held) (err error) {
		path, err = pool.CreateDisk(id, args.DiskMib, from)
		return err
	})
	return map[string]string{"path": path}, err
}

// deleteDisk is the last of an instance, so its lock's file goes with it.
func (h *Host) deleteDisk(_ context.Context, id names.ID, held *lock.Held) (any, error) {
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	if err := pool.DeleteDisk(id); err != nil {
		return nil, err
	}
	if err := pool.DeleteParcel(packName(id)); err != nil {
		return nil, err
	}
	return done{}, held.Forget()
}

func (h *Host) diskUsage(_ context.Context, id names.ID, _ *lock.Held) (any, error) {
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	return pool.Usage(id)
}

// diskStats takes no locks: it only reads counters.
func (h *Host) diskStats(_ context.Context, args idsArgs) (any, error) {
	ids, err := parseIDs(args.IDs)
	if err != nil {
		return nil, err
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	return pool.Usages(ids)
}
