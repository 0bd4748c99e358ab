//go:build host

package e2e

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/sandbox"
	"gvisor.dev/gvisor/runsc/specutils"
)

// TestWhatStoringCosts prints, for several sizes of incompressible memory, what our save and restore take, beside bare
// gVisor's checkpoint and restore of the same sandbox, each taken in turn: HOSTD_E2E_BENCH=<rounds>.
func TestWhatStoringCosts(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv("HOSTD_E2E_BENCH"))
	if rounds == 0 {
		t.Skip("HOSTD_E2E_BENCH gives no number of rounds")
	}
	for slot, size := range sizes() {
		t.Run(fmt.Sprintf("%dMiB", size), func(t *testing.T) { measureStoring(t, slot, size, rounds) })
	}
}

// sizes in MiB: HOSTD_E2E_BENCH_MIB="0 200", or what the goals speak of.
func sizes() (out []int) {
	for _, text := range strings.Fields(os.Getenv("HOSTD_E2E_BENCH_MIB")) {
		size, err := strconv.Atoi(text)
		if err != nil {
			panic(err)
		}
		out = append(out, size)
	}
	if len(out) == 0 {
		return []int{0, 100, 400}
	}
	return out
}

// rows of milliseconds by what they measure.
type rows map[string][]float64

func (r rows) add(what string, ms any) { r[what] = append(r[what], ms.(float64)) }

func (r rows) took(what string, act func()) {
	begin := time.Now()
	act()
	r.add(what, float64(time.Since(begin).Microseconds())/1000)
}

func (r rows) print(t *testing.T) {
	names := []string{}
	for name := range r {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		sorted := slices.Sorted(slices.Values(r[name]))
		t.Logf("%-28s min %7.1f  median %7.1f  max %7.1f  n=%d", name, sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1], len(sorted))
	}
}

func measureStoring(t *testing.T, slot, size, rounds int) {
	n := newNode(t, func(prepare map[string]any) { prepare["pool"] = map[string]any{"sizeMib": 8192, "reserveMib": 128} })
	i := n.instance(slot)
	i.memoryMib = 2048
	n.must("disk.create", i.diskArgs())
	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", i.sandboxArgs())
	n.must("sandbox.start", i.ref())
	i.answers()
	if size > 0 {
		i.mustGet("/random", map[string]string{"mib": strconv.Itoa(size)})
	}
	found, bare := rows{}, n.bareRunsc()
	for round := range rounds {
		image := fmt.Sprintf("image-%04d", round)
		n.must("sandbox.pause", i.ref())
		saved := n.must("image.save", i.saveArgs(image))
		found.add("ours: save", saved["saveMs"])
		found.add("ours: stall", saved["stallMs"])
		found.took("ours: disk snapshot", func() { n.must("disk.snapshot", args{"id": i.id, "image": image}) })
		sealed := n.must("image.seal", args{"image": image, "manifest": args{"digest": saved["digest"]}})
		found.add("ours: fsync", sealed["fsyncMs"])
		found.add("ours: verify", n.must("image.verify", args{"image": image, "key": workspaceKey})["verifyMs"])
		plain := filepath.Join(n.dir, "pool", "plain")
		i.thawed(func() { found.took("bare: checkpoint", func() { bare.checkpoint(t, i.id, plain) }) })
		n.must("sandbox.delete", i.ref())

		i.shell()
		found.took("bare: restore to answer", func() {
			found.took("bare: restore", func() { bare.restore(t, i.id, plain) })
			i.answers()
		})
		os.RemoveAll(plain)
		n.must("sandbox.delete", i.ref())

		i.shell()
		found.took("ours: restore to answer", func() {
			restored := n.must("sandbox.restore", args{"id": i.id, "image": image, "key": workspaceKey})
			found.add("ours: restore", restored["restoreMs"])
			i.answers()
		})
		n.must("sandbox.delete", i.ref())

		i.shell()
		found.took("ours: background to answer", func() {
			n.must("sandbox.restore", args{"id": i.id, "image": image, "key": workspaceKey, "background": true})
			i.answers()
		})
		n.must("image.delete", args{"image": image})
	}
	found.print(t)
}

// thawed lets a paused sandbox's processes run for as long as act takes.
func (i instance) thawed(act func()) {
	state := "/sys/fs/cgroup/freezer/torpor-" + i.n.scope + "/" + i.id + "/freezer.state"
	os.WriteFile(state, []byte("THAWED"), 0)
	act()
	os.WriteFile(state, []byte("FROZEN"), 0)
	i.n.eventually("frozen again", 5*time.Second, func() error {
		if text, _ := os.ReadFile(state); !strings.HasPrefix(string(text), "FROZEN") {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
}

// bareRunsc is gVisor's own library, as a program would use it that wants an image and nothing else.
type bareRunsc struct {
	root string
	conf *config.Config
}

func (n *node) bareRunsc() bareRunsc {
	n.t.Helper()
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	specutils.ExePath = os.Getenv("RUNSC")
	root := filepath.Join(n.dir, "run", "runsc")
	flags := flag.NewFlagSet("runsc", flag.ContinueOnError)
	config.RegisterFlags(flags)
	for name, value := range map[string]string{
		"root": root, "platform": "systrap", "network": "sandbox", "net-disconnect-ok": "true", "overlay2": "none",
		"file-access-mounts": "shared", "allow-suid": "true", "host-settings": "ignore",
	} {
		if err := flags.Set(name, value); err != nil {
			n.t.Fatal(err)
		}
	}
	conf, err := config.NewFromFlags(flags)
	if err != nil {
		n.t.Fatal(err)
	}
	return bareRunsc{root, conf}
}

func (b bareRunsc) load(t *testing.T, id string) *container.Container {
	t.Helper()
	loaded, err := container.Load(b.root, container.FullID{SandboxID: id, ContainerID: id}, container.LoadOpts{Exact: true, SkipCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func (b bareRunsc) checkpoint(t *testing.T, id, directory string) {
	t.Helper()
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.load(t, id).Checkpoint(b.conf, directory, sandbox.CheckpointOpts{Compression: "none", Resume: true}); err != nil {
		t.Fatal(err)
	}
}

// restore runs on a thread that ends with it, since gVisor visits the sandbox's network namespace on it.
func (b bareRunsc) restore(t *testing.T, id, directory string) {
	t.Helper()
	loaded, done := b.load(t, id), make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- loaded.Restore(b.conf, directory, false, false, nil)
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
