package host

import (
	"context"
	"fmt"
	"os"
	"time"

	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/swap"
	"torpor.dev/hostd/internal/wire"
)

// joinSwap answers what is in the way: a node without swap is a node all the same.
func (h *Host) joinSwap(ctx context.Context, ask swap.Ask) []string {
	passedOver, err := swap.Shared.Join(ctx, h.Scope, h.Paths.RunDir, ask)
	if err != nil {
		return append(passedOver, err.Error())
	}
	return append([]string{}, passedOver...)
}

type leanArgs struct {
	ID       string `json:"id"`
	BudgetMs int    `json:"budgetMs"`
}

// leanSandbox stops when its budget is used up, and gives way to any other verb that waits for the instance.
func (h *Host) leanSandbox(ctx context.Context, args leanArgs) (any, error) {
	id, err := parseID(args.ID)
	if err != nil {
		return nil, err
	}
	if args.BudgetMs < 1 {
		return nil, wire.Errorf(wire.BadRequest, "budgetMs is %d; expected how long it may take, at least 1", args.BudgetMs)
	}
	var lean sandbox.Lean
	err = h.locked(ctx, id, func(held *lock.Held) (err error) {
		until := time.Now().Add(time.Duration(args.BudgetMs) * time.Millisecond)
		lean, err = h.lean(id, func() bool { return time.Now().Before(until) && ctx.Err() == nil && !held.IsWanted() })
		return err
	})
	return lean, err
}

func (h *Host) lean(id names.ID, goOn func() bool) (sandbox.Lean, error) {
	totalMib, _, err := swapMib()
	if err != nil {
		return sandbox.Lean{}, err
	}
	if totalMib == 0 {
		return sandbox.Lean{}, wire.Errorf(wire.Unsupported, "this host has no swap, so nothing can be paged out; sandbox %s is paused as before", id)
	}
	lean, err := h.sandboxes.Lean(id, goOn)
	if err != nil {
		return lean, err
	}
	_, freeMib, err := swapMib()
	if err != nil {
		return lean, err
	}
	if !lean.GaveWay && freeMib < fullMib && lean.GuestBytes > fullMib<<20 {
		return lean, wire.Errorf(wire.NoSpace, "the host's swap is full: %d MiB of sandbox %s stay in RAM; it is paused as before", lean.GuestBytes>>20, id)
	}
	return lean, nil
}

// fullMib: a swap area with less than that free is full. The kernel keeps some back for each processor.
const fullMib = 8

func swapMib() (total, free int64, err error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, fmt.Errorf("reading the host's swap: %w", err)
	}
	return meminfoMib(string(text), "SwapTotal"), meminfoMib(string(text), "SwapFree"), nil
}
