package host

import (
	"context"
	"fmt"

	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/network"
	"torpor.dev/hostd/internal/wire"
)

type slotArgs struct {
	ID   string `json:"id"`
	Slot int    `json:"slot"`
}

// place is an instance at its slot, both locked, so that no verb on another instance acts on the same slot meanwhile.
type place struct {
	net      *network.Net
	id       names.ID
	slot     names.Slot
	instance *lock.Held
	atSlot   *lock.Held
}

// atPlace carries act out on an instance's network. Whoever names the slot may be wrong about whose it is: while another instance's sandbox uses it, it is left alone.
func (h *Host) atPlace(ctx context.Context, args slotArgs, act func(at place) (any, error)) (any, error) {
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
	err = h.locked(ctx, id, func(instance *lock.Held) error {
		atSlot, err := h.locks.Take(ctx, slotLock(slot))
		if err != nil {
			return err
		}
		defer atSlot.Release()
		if owner := net.OwnerOf(slot); owner != "" && owner != id && h.uses(owner, slot) {
			return wire.Errorf(wire.Busy, "slot %d is the network of sandbox %s, not of %s; delete that first, or name the right slot", slot, owner, id)
		}
		result, err = act(place{net: net, id: id, slot: slot, instance: instance, atSlot: atSlot})
		return err
	})
	return result, err
}

// slotLock cannot be an instance's: ids hold no dot.
func slotLock(slot names.Slot) string { return fmt.Sprintf("slot.%d", slot) }

// uses says whether an instance has a sandbox, in whatever state, at that slot.
func (h *Host) uses(id names.ID, slot names.Slot) bool {
	its, known := h.sandboxes.SlotOf(id)
	return known && its == slot && h.sandboxes.Has(id)
}

// createNet leaves the inner end of a sandbox's network alone: runsc has taken its address over, and a kernel that had it back would refuse the
// connections that are meant for the guest.
func (h *Host) createNet(ctx context.Context, args slotArgs) (any, error) {
	return h.atPlace(ctx, args, func(at place) (any, error) { return at.net.Create(at.slot, at.id, h.sandboxes.Has(at.id)) })
}

func (h *Host) deleteNet(ctx context.Context, args slotArgs) (any, error) {
	return h.atPlace(ctx, args, func(at place) (any, error) {
		if err := at.net.Delete(at.slot); err != nil {
			return nil, err
		}
		return done{}, at.atSlot.Forget()
	})
}
