package host

import (
	"context"
	"encoding/json"

	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
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
		"disk.stats":     taking((*Host).diskStats),
		"net.create":     taking((*Host).createNet),
		"net.delete":     taking((*Host).deleteNet),
		"sandbox.create": taking((*Host).createSandbox),
		"sandbox.start":  onInstance((*Host).startSandbox),
		"sandbox.pause":  onInstance((*Host).pauseSandbox),
		"sandbox.resume": onInstance((*Host).resumeSandbox),
		"sandbox.lean":   taking((*Host).leanSandbox),
		"sandbox.state":  onInstance((*Host).sandboxState),
		"sandbox.kill":   onInstance((*Host).killSandbox),
		"sandbox.delete": onInstance((*Host).deleteSandbox),
		"sandbox.stats":  taking((*Host).sandboxStats),
		"volume.create":  taking((*Host).createVolume),
		"volume.delete":  taking((*Host).deleteVolume),
		"volume.usage":   taking((*Host).volumeUsage),
		"volume.stats":   taking((*Host).volumeStats),
		"volume.restore": taking((*Host).restoreVolume),
		"volume.attach":  onVolume((*disk.Pool).Attach),
		"volume.detach":  onVolume((*disk.Pool).Detach),
		"inventory":      taking((*Host).inventory),
		"host.purge":     taking((*Host).purge),

		"image.save":      taking((*Host).saveImage),
		"image.seal":      taking((*Host).sealImage),
		"image.verify":    taking((*Host).verifyImage),
		"image.list":      taking((*Host).listImages),
		"image.read":      taking((*Host).readImage),
		"image.delete":    taking((*Host).deleteImage),
		"disk.snapshot":   taking((*Host).snapshotDisk),
		"disk.restore":    taking((*Host).restoreDisk),
		"sandbox.restore": taking((*Host).restoreSandbox),

		"parcel.pack":   taking((*Host).packParcel),
		"parcel.open":   taking((*Host).openParcel),
		"parcel.unpack": taking((*Host).unpackParcel),
		"parcel.delete": taking((*Host).deleteParcel),
		"parcel.list":   taking((*Host).listParcels),

		"files.compare": taking((*Host).compareFiles),
		"files.pack":    taking((*Host).packFiles),
		"files.drop":    taking((*Host).dropFiles),
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

func parseIDs(texts []string) ([]names.ID, error) {
	ids := make([]names.ID, 0, len(texts))
	for _, text := range texts {
		id, err := parseID(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

type idsArgs struct {
	IDs []string `json:"ids"`
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
