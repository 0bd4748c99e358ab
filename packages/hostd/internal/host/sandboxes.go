package host

import (
	"context"

	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/wire"
)

type sandboxArgs struct {
	ID        string         `json:"id"`
	Slot      int            `json:"slot"`
	Lower     []string       `json:"lower"`
	Hostname  string         `json:"hostname"`
	Limits    sandbox.Limits `json:"limits"`
	Argv      []string       `json:"argv"`
	Env       []string       `json:"env"`
	VolumeDir bool           `json:"volumeDir"`
	Build     sandbox.Build  `json:"build"`
}

func (h *Host) createSandbox(ctx context.Context, args sandboxArgs) (any, error) {
	return h.atPlace(ctx, slotArgs{ID: args.ID, Slot: args.Slot}, func(at place) (any, error) {
		if owner := at.net.OwnerOf(at.slot); owner != "" && owner != at.id {
			return nil, wire.Errorf(wire.NotFound, "slot %d is the network of %s; ask net.create for %s first", at.slot, owner, at.id)
		}
		ask := sandbox.Ask{
			ID: at.id, Slot: at.slot, Lower: args.Lower, Hostname: args.Hostname, Limits: args.Limits,
			Argv: args.Argv, Env: args.Env, VolumeDir: args.VolumeDir, Build: args.Build,
		}
		return h.sandboxes.Create(ctx, ask, at.net.NetnsPath(at.slot), at.instance.File)
	})
}

func (h *Host) startSandbox(ctx context.Context, id names.ID, _ *lock.Held) (any, error) {
	return done{}, h.sandboxes.Start(ctx, id)
}

func (h *Host) pauseSandbox(ctx context.Context, id names.ID, _ *lock.Held) (any, error) {
	return h.sandboxes.Pause(ctx, id)
}

func (h *Host) resumeSandbox(ctx context.Context, id names.ID, _ *lock.Held) (any, error) {
	return h.sandboxes.Resume(ctx, id)
}

func (h *Host) sandboxState(ctx context.Context, id names.ID, _ *lock.Held) (any, error) {
	return h.sandboxes.State(ctx, id)
}

func (h *Host) killSandbox(ctx context.Context, id names.ID, _ *lock.Held) (any, error) {
	return done{}, h.sandboxes.Kill(ctx, id)
}

func (h *Host) deleteSandbox(ctx context.Context, id names.ID, _ *lock.Held) (any, error) {
	return done{}, h.sandboxes.Delete(ctx, id)
}

type stats struct {
	MemoryMib  int64 `json:"memoryMib"`
	CPUUsageNs int64 `json:"cpuUsageNs"`
	Pids       int64 `json:"pids"`
	RxBytes    int64 `json:"rxBytes"`
	TxBytes    int64 `json:"txBytes"`
}

// sandboxStats takes no locks: it only reads counters, and one slow instance must not hold up the figures of all.
func (h *Host) sandboxStats(_ context.Context, args idsArgs) (any, error) {
	ids, err := parseIDs(args.IDs)
	if err != nil {
		return nil, err
	}
	_, net, err := h.prepared()
	if err != nil {
		return nil, err
	}
	out := map[names.ID]stats{}
	for _, id := range ids {
		slot, exists := h.sandboxes.SlotOf(id)
		if !exists {
			continue
		}
		usage, err := h.sandboxes.Usage(id)
		if err != nil {
			return nil, err
		}
		traffic := net.TrafficOf(slot)
		out[id] = stats{usage.MemoryMib, usage.CPUUsageNs, usage.Pids, traffic.RxBytes, traffic.TxBytes}
	}
	return out, nil
}
