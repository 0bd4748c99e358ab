package host

import (
	"context"
	"encoding/json"

	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/network"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/wire"
)

// done is the result of a verb that has nothing to tell.
type done struct{}

type verb func(h *Host, ctx context.Context, raw json.RawMessage) (any, error)

var verbs map[string]verb

func init() {
	verbs = map[string]verb{
		"hello":          taking((*Host).hello),
		"node.prepare":   taking((*Host).prepare),
		"node.usage":     taking((*Host).usage),
		"egress.set":     taking((*Host).setEgress),
		"disk.create":    taking((*Host).createDisk),
		"disk.delete":    onInstance((*Host).deleteDisk),
		"disk.usage":     onInstance((*Host).diskUsage),
		"net.create":     onSlot(createNet),
		"net.delete":     onSlot(deleteNet),
		"sandbox.create": taking((*Host).createSandbox),
		"sandbox.start":  onInstance((*Host).startSandbox),
		"sandbox.pause":  onInstance((*Host).pauseSandbox),
		"sandbox.resume": onInstance((*Host).resumeSandbox),
		"sandbox.state":  onInstance((*Host).sandboxState),
		"sandbox.kill":   onInstance((*Host).killSandbox),
		"sandbox.delete": onInstance((*Host).deleteSandbox),
		"sandbox.stats":  taking((*Host).sandboxStats),
		"volume.create":  taking((*Host).createVolume),
		"volume.delete":  taking((*Host).deleteVolume),
		"volume.usage":   taking((*Host).volumeUsage),
		"volume.attach":  onVolume((*disk.Pool).Attach),
		"volume.detach":  onVolume((*disk.Pool).Detach),
		"inventory":      taking((*Host).inventory),
		"host.purge":     taking((*Host).purge),
	}
}

// taking parses a verb's arguments once, at the edge.
func taking[Args any](act func(*Host, context.Context, Args) (any, error)) verb {
	return func(h *Host, ctx context.Context, raw json.RawMessage) (any, error) {
		var args Args
		if err := wire.ParseArgs(raw, &args); err != nil {
			return nil, err
		}
		return act(h, ctx, args)
	}
}

type instanceArgs struct {
	ID string `json:"id"`
}

// onInstance is a verb on one instance that takes nothing else.
func onInstance(act func(*Host, context.Context, names.ID, *lock.Held) (any, error)) verb {
	return taking(func(h *Host, ctx context.Context, args instanceArgs) (any, error) {
		id, err := parseID(args.ID)
		if err != nil {
			return nil, err
		}
		var result any
		err = h.locked(ctx, id, func(held *lock.Held) (err error) {
			result, err = act(h, ctx, id, held)
			return err
		})
		return result, err
	})
}

func parseID(text string) (names.ID, error) {
	id, err := names.ParseID(text)
	if err != nil {
		return "", wire.Errorf(wire.BadRequest, "%w", err)
	}
	return id, nil
}

func parseSlot(number int) (names.Slot, error) {
	slot, err := names.ParseSlot(number)
	if err != nil {
		return 0, wire.Errorf(wire.BadRequest, "%w", err)
	}
	return slot, nil
}

func parseVolume(text string) (string, error) {
	volume, err := names.ParseVolume(text)
	if err != nil {
		return "", wire.Errorf(wire.BadRequest, "%w", err)
	}
	return volume, nil
}

type slotArgs struct {
	ID   string `json:"id"`
	Slot int    `json:"slot"`
}

func onSlot(act func(h *Host, net *network.Net, id names.ID, slot names.Slot) (any, error)) verb {
	return taking(func(h *Host, ctx context.Context, args slotArgs) (any, error) {
		id, err := parseID(args.ID)
		if err != nil {
			return nil, err
		}
		slot, err := parseSlot(args.Slot)
		if err != nil {
			return nil, err
		}
		_, net, err := h.prepared()
		if err != nil {
			return nil, err
		}
		var result any
		err = h.locked(ctx, id, func(*lock.Held) (err error) {
			result, err = act(h, net, id, slot)
			return err
		})
		return result, err
	})
}

// createNet leaves the inner end of a sandbox's network alone: runsc has taken its address over, and a kernel that had it back would refuse the
// connections that are meant for the guest.
func createNet(h *Host, net *network.Net, id names.ID, slot names.Slot) (any, error) {
	return net.Create(slot, h.sandboxes.Has(id))
}

func deleteNet(_ *Host, net *network.Net, _ names.ID, slot names.Slot) (any, error) {
	return done{}, net.Delete(slot)
}

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
	return done{}, held.Forget()
}

func (h *Host) diskUsage(_ context.Context, id names.ID, _ *lock.Held) (any, error) {
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	return pool.Usage(id)
}

type sandboxArgs struct {
	ID        string         `json:"id"`
	Slot      int            `json:"slot"`
	Lower     []string       `json:"lower"`
	Hostname  string         `json:"hostname"`
	Limits    sandbox.Limits `json:"limits"`
	Argv      []string       `json:"argv"`
	Env       []string       `json:"env"`
	VolumeDir bool           `json:"volumeDir"`
}

func (h *Host) createSandbox(ctx context.Context, args sandboxArgs) (any, error) {
	id, err := parseID(args.ID)
	if err != nil {
		return nil, err
	}
	slot, err := parseSlot(args.Slot)
	if err != nil {
		return nil, err
	}
	_, net, err := h.prepared()
	if err != nil {
		return nil, err
	}
	ask := sandbox.Ask{
		ID: id, Slot: slot, Lower: args.Lower, Hostname: args.Hostname, Limits: args.Limits,
		Argv: args.Argv, Env: args.Env, VolumeDir: args.VolumeDir,
	}
	var process sandbox.Process
	err = h.locked(ctx, id, func(held *lock.Held) (err error) {
		process, err = h.sandboxes.Create(ctx, ask, net.NetnsPath(slot), held.File)
		return err
	})
	return process, err
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
func (h *Host) sandboxStats(_ context.Context, args struct {
	IDs []string `json:"ids"`
}) (any, error) {
	_, net, err := h.prepared()
	if err != nil {
		return nil, err
	}
	out := map[names.ID]stats{}
	for _, text := range args.IDs {
		id, err := parseID(text)
		if err != nil {
			return nil, err
		}
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

type volumeArgs struct {
	Volume  string `json:"volume"`
	SizeMib int64  `json:"sizeMib"`
	From    string `json:"from"`
}

func (h *Host) createVolume(ctx context.Context, args volumeArgs) (any, error) {
	if args.From != "" {
		if _, err := parseVolume(args.From); err != nil {
			return nil, err
		}
	}
	return h.onVolumeAlone(ctx, args.Volume, func(pool *disk.Pool, volume string) (any, error) {
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
