package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"torpor.dev/hostd/internal/disk"
	"torpor.dev/hostd/internal/image"
	"torpor.dev/hostd/internal/lock"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/scribe"
	"torpor.dev/hostd/internal/wire"
)

type imageArgs struct {
	Image string `json:"image"`
}

func parseImage(text string) (names.Image, error) {
	parsed, err := names.ParseImage(text)
	if err != nil {
		return "", wire.Errorf(wire.BadRequest, "%w", err)
	}
	return parsed, nil
}

// imageLock cannot be an instance's: ids hold no dot. It is taken after an instance's. Who only reads an image takes
// none: many may restore one at once, and files stay readable to whoever has them open.
func imageLock(name names.Image) string { return "image." + string(name) }

func (h *Host) withImage(ctx context.Context, name names.Image, act func(pool *disk.Pool, held *lock.Held) error) error {
	pool, _, err := h.prepared()
	if err != nil {
		return err
	}
	held, err := h.locks.Take(ctx, imageLock(name))
	if err != nil {
		return err
	}
	defer held.Release()
	return act(pool, held)
}

// onInstanceAndImage has both locked.
func (h *Host) onInstanceAndImage(ctx context.Context, idText, imageText string, act func(*disk.Pool, names.ID, names.Image, *lock.Held) error) error {
	id, err := parseID(idText)
	if err != nil {
		return err
	}
	name, err := parseImage(imageText)
	if err != nil {
		return err
	}
	return h.locked(ctx, id, func(held *lock.Held) error {
		return h.withImage(ctx, name, func(pool *disk.Pool, _ *lock.Held) error { return act(pool, id, name, held) })
	})
}

type saveArgs struct {
	ID       string            `json:"id"`
	Image    string            `json:"image"`
	Key      []byte            `json:"key"`
	Compress image.Compression `json:"compress"`
}

type saved struct {
	Bytes       int64           `json:"bytes"`
	MemoryBytes int64           `json:"memoryBytes"`
	Digest      string          `json:"digest"`
	StallMs     float64         `json:"stallMs"`
	SaveMs      float64         `json:"saveMs"`
	MadeOf      *sandbox.MadeOf `json:"madeOf,omitempty"`
}

func (h *Host) saveImage(ctx context.Context, args saveArgs) (any, error) {
	if args.Compress != image.Auto && args.Compress != image.None {
		return nil, wire.Errorf(wire.BadRequest, `compress %q must be "auto" or "none"`, args.Compress)
	}
	var out saved
	return &out, h.onInstanceAndImage(ctx, args.ID, args.Image, func(pool *disk.Pool, id names.ID, name names.Image, held *lock.Held) error {
		job, err := jobFor(scribe.Save, name, args.Key)
		if err != nil {
			return err
		}
		job.Compress = args.Compress
		if out.MadeOf, err = h.sandboxes.MadeOf(id); err != nil {
			return err
		}
		usage, err := h.sandboxes.Usage(id)
		if err != nil {
			return err
		}
		memoryMib := usage.MemoryMib + usage.SwapMib
		files, err := pool.ImageFiles(name, memoryMib+memoryMib/5, scribe.Files)
		if err != nil {
			return err
		}
		defer disk.CloseAll(files)
		if err := h.save(ctx, id, job, files, held, &out); err != nil {
			return errors.Join(err, pool.DropFiles(name)) // Half an image is of no use, and its room may be what was missing.
		}
		return nil
	})
}

// scribeDeadline is for a scribe whose sentry is done: it has only its index to write.
const scribeDeadline = 20 * time.Second

func (h *Host) save(ctx context.Context, id names.ID, job scribe.Job, files []*os.File, held *lock.Held, out *saved) error {
	task, err := h.scribes.Begin(job, files, held.File, nil)
	if err != nil {
		return err
	}
	defer task.Close()
	took, err := h.sandboxes.Save(ctx, id, task.Sentry, task.Discard)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(context.Background(), scribeDeadline)
	defer cancel()
	sums, err := sumsOf(bounded, task, job)
	if err != nil && ctx.Err() != nil {
		return wire.Errorf(wire.Deadline, "image %s was not saved in time; the sandbox is paused and frozen as before", job.Image)
	}
	if err != nil {
		return err
	}
	for _, sum := range sums {
		out.Bytes, out.MemoryBytes = out.Bytes+sum.Bytes, out.MemoryBytes+sum.Length
	}
	out.Digest, out.StallMs, out.SaveMs = image.DigestOf(sums...), milliseconds(took.Stall), milliseconds(took.Save)
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func jobFor(work scribe.Work, name names.Image, workspaceKey []byte) (scribe.Job, error) {
	key, err := image.KeyOf(workspaceKey, string(name))
	if err != nil {
		return scribe.Job{}, wire.Errorf(wire.BadRequest, "%w", err)
	}
	return scribe.Job{Work: work, Image: string(name), Key: key}, nil
}

// sumsOf waits for the scribe's word and turns a failure into the protocol's.
func sumsOf(ctx context.Context, task *scribe.Task, job scribe.Job) ([]image.Sum, error) {
	said, err := task.Outcome(ctx)
	if err != nil {
		return nil, err
	}
	if said.Err == "" {
		return said.Sums, nil
	}
	code := map[scribe.Why]wire.Code{scribe.NoSpace: wire.NoSpace, scribe.Refused: wire.Refused}[said.Why]
	if code == "" {
		code = wire.HostError
	}
	told := wire.Errorf(code, "image %s: %s", job.Image, said.Err)
	told.Retryable = told.Retryable || said.Why == scribe.Unreadable
	return nil, told
}

type snapshotArgs struct {
	ID    string `json:"id"`
	Image string `json:"image"`
}

func (h *Host) snapshotDisk(ctx context.Context, args snapshotArgs) (any, error) {
	var volumes []disk.KeptVolume
	err := h.onInstanceAndImage(ctx, args.ID, args.Image, func(pool *disk.Pool, id names.ID, name names.Image, _ *lock.Held) (err error) {
		volumes, err = pool.Snapshot(id, name)
		return err
	})
	return map[string]any{"volumes": volumes}, err
}

type restoreDiskArgs struct {
	ID      string `json:"id"`
	Image   string `json:"image"`
	DiskMib int64  `json:"diskMib"`
	Keep    string `json:"keep"`
}

func (h *Host) restoreDisk(ctx context.Context, args restoreDiskArgs) (any, error) {
	id, err := parseID(args.ID)
	if err != nil {
		return nil, err
	}
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	var keep names.Image
	if args.Keep != "" {
		if keep, err = parseImage(args.Keep); err != nil {
			return nil, err
		}
	}
	if args.DiskMib < 0 {
		return nil, wire.Errorf(wire.BadRequest, "a disk limit of %d MiB cannot be", args.DiskMib)
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	return done{}, h.locked(ctx, id, func(*lock.Held) error {
		if h.sandboxes.Has(id) {
			return wire.Errorf(wire.Busy, "sandbox %s uses its disk; delete it first", id)
		}
		return pool.Seen(pool.RestoreDisk(id, name, args.DiskMib, keep))
	})
}

type sealArgs struct {
	Image    string          `json:"image"`
	Manifest json.RawMessage `json:"manifest"`
}

// sealed is what hostd itself wants to find in a manifest.
type sealed struct {
	Digest string `json:"digest"`
}

func (h *Host) sealImage(ctx context.Context, args sealArgs) (any, error) {
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	var manifest sealed
	if err := json.Unmarshal(args.Manifest, &manifest); err != nil || manifest.Digest == "" {
		return nil, wire.Errorf(wire.BadRequest, "the manifest must be an object with the digest that image.save gave")
	}
	begin := time.Now()
	err = h.withImage(ctx, name, func(pool *disk.Pool, _ *lock.Held) error { return pool.Seal(name, scribe.Files, args.Manifest) })
	return map[string]float64{"fsyncMs": milliseconds(time.Since(begin))}, err
}

type verifyArgs struct {
	Image string `json:"image"`
	Key   []byte `json:"key"`
}

func (h *Host) verifyImage(ctx context.Context, args verifyArgs) (any, error) {
	begin := time.Now()
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	text, err := pool.Manifest(name)
	if err != nil {
		return nil, err
	}
	var manifest sealed
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, wire.Errorf(wire.Refused, "the manifest of image %s cannot be read: %w", name, err)
	}
	job, err := jobFor(scribe.Verify, name, args.Key)
	if err != nil {
		return nil, err
	}
	files, err := pool.OpenImage(name, scribe.Files)
	if err != nil {
		return nil, err
	}
	defer disk.CloseAll(files)
	task, err := h.scribes.Begin(job, files, nil, nil)
	if err != nil {
		return nil, err
	}
	defer task.Close()
	sums, err := sumsOf(ctx, task, job)
	if err != nil {
		return nil, err
	}
	if found := image.DigestOf(sums...); found != manifest.Digest {
		return nil, wire.Errorf(wire.Refused, "image %s has the digest %s, and its manifest says %s", name, found, manifest.Digest)
	}
	return map[string]any{"digest": manifest.Digest, "verifyMs": milliseconds(time.Since(begin))}, nil
}

type listedImage struct {
	Image  names.Image `json:"image"`
	Sealed bool        `json:"sealed"`
	Bytes  int64       `json:"bytes"`
}

func (h *Host) listImages(context.Context, struct{}) (any, error) {
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	found, err := pool.Images()
	if err != nil {
		return nil, err
	}
	out := []listedImage{}
	for _, name := range found {
		bytes, err := pool.ImageBytes(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // It was deleted meanwhile.
		}
		if err != nil {
			return nil, err
		}
		isSealed, err := pool.IsSealed(name)
		if err != nil {
			return nil, fmt.Errorf("looking whether image %s is sealed: %w", name, err)
		}
		out = append(out, listedImage{name, isSealed, bytes})
	}
	return map[string]any{"images": out}, nil
}

func (h *Host) readImage(_ context.Context, args imageArgs) (any, error) {
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	manifest, err := pool.Manifest(name)
	if err != nil {
		return nil, err
	}
	if !json.Valid(manifest) {
		return nil, wire.Errorf(wire.Refused, "the manifest of image %s cannot be read", name)
	}
	bytes, err := pool.ImageBytes(name)
	return map[string]any{"manifest": json.RawMessage(manifest), "bytes": bytes}, err
}

func (h *Host) deleteImage(ctx context.Context, args imageArgs) (any, error) {
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	return done{}, h.withImage(ctx, name, func(pool *disk.Pool, held *lock.Held) error {
		if err := errors.Join(pool.DeleteImage(name), pool.DeleteParcel(name)); err != nil {
			return err
		}
		return held.Forget()
	})
}

type restoreArgs struct {
	ID         string `json:"id"`
	Image      string `json:"image"`
	Key        []byte `json:"key"`
	Background bool   `json:"background"`
}

func (h *Host) restoreSandbox(ctx context.Context, args restoreArgs) (any, error) {
	id, err := parseID(args.ID)
	if err != nil {
		return nil, err
	}
	name, err := parseImage(args.Image)
	if err != nil {
		return nil, err
	}
	pool, _, err := h.prepared()
	if err != nil {
		return nil, err
	}
	job, err := jobFor(scribe.Load, name, args.Key)
	if err != nil {
		return nil, err
	}
	var result any
	err = h.locked(ctx, id, func(held *lock.Held) error {
		if _, err := pool.Manifest(name); err != nil {
			return err
		}
		files, err := pool.OpenImage(name, scribe.Files)
		if err != nil {
			return err
		}
		defer disk.CloseAll(files)
		result, err = h.restore(ctx, id, job, files, held, args.Background)
		return err
	})
	return result, err
}

// backgroundMax is how long a sandbox may take to fetch all its memory while it runs.
const backgroundMax = 10 * time.Minute

// restore has the scribe join the instance's memory group: what it fills is the guest's memory, and counts as it.
func (h *Host) restore(ctx context.Context, id names.ID, job scribe.Job, files []*os.File, held *lock.Held, background bool) (any, error) {
	task, err := h.scribes.Begin(job, files, held.File, func(pid int) error { return h.sandboxes.JoinMemory(id, pid) })
	if err != nil {
		return nil, err
	}
	restored, err := h.sandboxes.Restore(ctx, id, sandbox.Image{Socket: task.Sentry, Lock: held.File, Background: background, Why: func() error { return refusedBy(task, job) }})
	if err != nil || !background {
		task.Close()
		return restored, err
	}
	go func() {
		defer task.Close()
		bounded, cancel := context.WithTimeout(context.Background(), backgroundMax)
		defer cancel()
		if _, err := sumsOf(bounded, task, job); err != nil {
			h.Log.Warn("a sandbox did not get all its memory and has died of it", "id", id, "err", err)
		}
	}()
	return restored, held.Leave()
}

// reasonDeadline is for a scribe to say what it could not read; one that has nothing to say keeps silent.
const reasonDeadline = 500 * time.Millisecond

func refusedBy(task *scribe.Task, job scribe.Job) error {
	bounded, cancel := context.WithTimeout(context.Background(), reasonDeadline)
	defer cancel()
	_, why := sumsOf(bounded, task, job)
	if why == nil || wire.AsError(why).Code == wire.Deadline {
		return nil
	}
	return why
}
