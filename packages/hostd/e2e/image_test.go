//go:build host

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var workspaceKey = base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))

func (i instance) saveArgs(image string) args {
	return args{"id": i.id, "image": image, "key": workspaceKey, "compress": "none"}
}

// store saves a paused instance as an image, with its disks, and seals it.
func (i instance) store(image string) map[string]any {
	i.n.t.Helper()
	saved := i.n.must("image.save", i.saveArgs(image))
	i.n.must("disk.snapshot", args{"id": i.id, "image": image})
	i.n.must("image.seal", args{"image": image, "manifest": args{"digest": saved["digest"], "of": i.id}})
	return saved
}

// shell makes the place that an image is restored into; disk and network are there.
func (i instance) shell() {
	i.n.t.Helper()
	i.n.must("net.create", i.slotArgs())
	i.n.must("sandbox.create", i.sandboxArgs())
}

func (i instance) restore(image string) map[string]any {
	i.n.t.Helper()
	i.shell()
	restored := i.n.must("sandbox.restore", args{"id": i.id, "image": image, "key": workspaceKey})
	i.answers()
	return restored
}

// lives gives an instance something of everything that must not be lost, and tells how to see that it is there.
func (i instance) lives(mib string) (isWhole func(as instance)) {
	t := i.n.t
	t.Helper()
	i.mustGet("/write", map[string]string{"path": "/file", "text": "first second third"})
	i.mustGet("/open", map[string]string{"path": "/file", "bytes": "6"})
	i.mustGet("/map", map[string]string{"path": "/mapped"})
	i.mustGet("/scribble", map[string]string{"text": "by memory"})
	i.mustGet("/child", nil)
	i.mustGet("/add", map[string]string{"number": "40"})
	hash := i.mustGet("/random", map[string]string{"mib": mib})
	return func(as instance) {
		t.Helper()
		if got := as.mustGet("/hash", nil); got != hash {
			t.Errorf("%s: its memory is %s, was %s", as.id, got, hash)
		}
		if got := as.mustGet("/next", map[string]string{"bytes": "6"}); got != "second" {
			t.Errorf("%s: its open file goes on with %q", as.id, got)
		}
		if got := as.mustGet("/add", map[string]string{"number": "2"}); got != "42\n" {
			t.Errorf("%s: its child says %q", as.id, got)
		}
		if got := as.mustGet("/read", map[string]string{"path": "/mapped"}); !strings.HasPrefix(got, "by memory") {
			t.Errorf("%s: what it wrote by memory is %.20q", as.id, got)
		}
	}
}

func TestAStoredSandboxComesBackWhole(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("100")
	i.n.must("sandbox.pause", i.ref())
	saved := i.store("image-one")
	t.Logf("saved %v", saved)
	if state := i.state(); state["runsc"] != "paused" || state["frozen"] != true {
		t.Fatalf("after the save: %v", state)
	}
	t.Logf("verified %v", n.must("image.verify", args{"image": "image-one", "key": workspaceKey}))
	i.n.must("sandbox.delete", i.ref())
	i.n.must("net.delete", i.slotArgs())
	restored := i.restore("image-one")
	t.Logf("restored %v", restored)
	isWhole(i)
	state := i.state()
	if state["runsc"] != "running" || state["memoryMib"].(float64) < 100 || state["pid"] != restored["pid"] {
		t.Errorf("restored: %v", state)
	}
}

func TestASandboxMayRunBeforeAllItsMemoryIsThere(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("100")
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	for range 3 {
		n.must("sandbox.delete", i.ref())
		i.shell()
		n.must("sandbox.restore", args{"id": i.id, "image": "image-one", "key": workspaceKey, "background": true})
		n.must("sandbox.pause", i.ref())
		n.must("image.save", i.saveArgs("image-two"))
		n.must("sandbox.resume", i.ref())
		isWhole(i)
	}
	n.must("image.seal", args{"image": "image-two", "manifest": args{"digest": "any"}})
	n.must("sandbox.delete", i.ref())
	i.restore("image-two")
	isWhole(i)
}

func TestAForkHasItsOwnDiskAndAddressAndLeavesItsParentAlone(t *testing.T) {
	n := newNode(t)
	parent, fork := n.up(0), n.instance(1)
	isWhole := parent.lives("4")
	n.must("sandbox.pause", parent.ref())
	parent.store("image-one")
	n.must("sandbox.resume", parent.ref())
	n.must("disk.restore", args{"id": fork.id, "image": "image-one"})
	fork.restore("image-one")
	isWhole(parent)
	isWhole(fork)
	fork.mustGet("/write", map[string]string{"path": "/file", "text": "of the fork"})
	if got := parent.mustGet("/read", map[string]string{"path": "/file"}); got != "first second third" {
		t.Errorf("the parent's file says %q", got)
	}
	if usage := n.must("disk.usage", fork.ref()); usage["limitMib"] != 200.0 {
		t.Errorf("the fork's disk: %v", usage)
	}
}

func TestADiskIsTakenBackToAnImagesAndTheOtherIsKept(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	n.must("volume.create", args{"volume": "data", "sizeMib": 50})
	n.must("volume.attach", args{"id": i.id, "volume": "data", "name": "data"})
	i.mustGet("/write", map[string]string{"path": "/file", "text": "then"})
	i.mustGet("/write", map[string]string{"path": "/torpor/vol/data/file", "text": "then"})
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	kept := n.must("disk.snapshot", args{"id": i.id, "image": "image-one"})
	if volumes, _ := json.Marshal(kept); string(volumes) != `{"volumes":[{"name":"data","volume":"data"}]}` {
		t.Errorf("kept %s", volumes)
	}
	n.must("sandbox.resume", i.ref())
	i.mustGet("/write", map[string]string{"path": "/file", "text": "now"})
	n.refused("busy", "disk.restore", args{"id": i.id, "image": "image-one"})
	n.must("sandbox.delete", i.ref())
	n.must("net.delete", i.slotArgs())
	n.must("disk.restore", args{"id": i.id, "image": "image-one", "keep": "kept-before"})
	n.must("volume.attach", args{"id": i.id, "volume": "data", "name": "data"})
	i.restore("image-one")
	for path, want := range map[string]string{"/file": "then", "/torpor/vol/data/file": "then"} {
		if got := i.mustGet("/read", map[string]string{"path": path}); got != want {
			t.Errorf("%s says %q, not %q", path, got, want)
		}
	}
	n.must("sandbox.delete", i.ref())
	n.must("volume.create", args{"volume": "copy", "sizeMib": 40, "from": "data", "image": "image-one"})
	if usage := n.must("volume.usage", args{"volume": "copy"}); usage["limitMib"] != 40.0 {
		t.Errorf("the copy of the volume: %v", usage)
	}
	n.must("disk.restore", args{"id": i.id, "image": "kept-before"})
	n.must("net.delete", i.slotArgs())
	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", i.sandboxArgs())
	n.must("sandbox.start", i.ref())
	i.answers()
	if got := i.mustGet("/read", map[string]string{"path": "/file"}); got != "now" {
		t.Errorf("what was kept says %q", got)
	}
	for _, image := range []string{"image-one", "kept-before", "image-one"} {
		n.must("image.delete", args{"image": image})
	}
	found := n.must("inventory", args{})
	if images, _ := json.Marshal([]any{found["images"], found["snapshots"]}); string(images) != "[[],[]]" {
		t.Errorf("after the deletes: %s", images)
	}
}

func TestADamagedImageOrAWrongKeyIsRefusedAndEndsOnlyTheShell(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("8")
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	n.must("sandbox.delete", i.ref())
	n.must("net.delete", i.slotArgs())
	ask := args{"id": i.id, "image": "image-one", "key": base64.StdEncoding.EncodeToString(make([]byte, 32))}
	n.refused("refused", "image.verify", args{"image": "image-one", "key": ask["key"]})
	pages := filepath.Join(n.dir, "pool", "m", "image-one", "pages.img")
	whole, err := os.ReadFile(pages)
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func(){
		"a wrong key": func() {},
		"a flipped byte": func() {
			ask["key"] = workspaceKey
			flipped := bytes.Clone(whole)
			flipped[len(flipped)/2] ^= 1
			os.WriteFile(pages, flipped, 0o600)
		},
	} {
		damage()
		i.shell()
		if _, err := n.client.ask("sandbox.restore", ask); err == nil || !strings.HasPrefix(err.Error(), "refused:") {
			t.Errorf("%s: %v", what, err)
		}
		if state := i.state(); state["runsc"] != "stopped" {
			t.Errorf("%s: the shell is %v", what, state["runsc"])
		}
		n.must("sandbox.delete", i.ref())
		n.must("net.delete", i.slotArgs())
		ask["key"] = workspaceKey
	}
	n.refused("refused", "image.verify", args{"image": "image-one", "key": workspaceKey})
	os.WriteFile(pages, whole, 0o600)
	i.restore("image-one")
	isWhole(i)
}

func TestASaveThatHasNoRoomIsRefusedEarlyOrFailsAndTheSandboxLivesOn(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("100")
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	images := filepath.Join(n.dir, "pool", "m")
	if out, err := exec.Command("btrfs", "qgroup", "limit", "160M", images).CombinedOutput(); err != nil {
		t.Fatalf("limiting the images: %v: %s", err, out)
	}
	n.refused("no_space", "image.save", i.saveArgs("image-two"))
	if state := i.state(); state["runsc"] != "paused" || state["frozen"] != true {
		t.Fatalf("after the save that failed: %v", state)
	}
	filler := filepath.Join(n.dir, "pool", "filler")
	free := n.must("node.usage", args{})["pool"].(map[string]any)["freeMib"].(float64)
	if out, err := exec.Command("fallocate", "-l", fmt.Sprintf("%.0fM", free-128-110), filler).CombinedOutput(); err != nil {
		t.Fatalf("filling the pool: %v: %s", err, out)
	}
	n.refused("no_space", "image.save", i.saveArgs("image-two"))
	if listed, _ := json.Marshal(n.must("image.list", args{})); strings.Contains(string(listed), "image-two") {
		t.Errorf("a save that was refused early left %s", listed)
	}
	n.must("sandbox.resume", i.ref())
	isWhole(i)
}

// What follows a save writes as well: the snapshots of the disks, and the manifest. Here and there of it the pool may be found full.
func TestAStoreThatFindsThePoolFullAfterItsSaveSaysSoAndAllIsWhole(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("4")
	at := args{"id": i.id, "volume": "data", "name": "data"}
	n.must("volume.create", args{"volume": "data", "sizeMib": 50})
	n.must("volume.attach", at)
	i.mustGet("/write", map[string]string{"path": "/torpor/vol/data/letter", "text": "dear"})
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	saved := n.must("image.save", i.saveArgs("image-two"))
	manifest := args{"image": "image-two", "manifest": args{"digest": saved["digest"]}}

	pool := filepath.Join(n.dir, "pool")
	n.untilRoom(pool, "disk.snapshot", args{"id": i.id, "image": "image-two"})
	n.untilRoom(filepath.Join(pool, "m"), "image.seal", manifest)
	n.must("image.verify", args{"image": "image-two", "key": workspaceKey})
	n.must("image.delete", args{"image": "image-two"})

	n.must("image.verify", args{"image": "image-one", "key": workspaceKey})
	n.must("sandbox.resume", i.ref())
	isWhole(i)
	if text := i.mustGet("/read", map[string]string{"path": "/torpor/vol/data/letter"}); text != "dear" {
		t.Errorf("the volume reads %q", text)
	}
	n.must("sandbox.pause", i.ref())
	i.store("image-two")
	found := n.must("inventory", args{})
	if kept, _ := json.Marshal(found["snapshots"]); string(kept) != `["image-one","image-two"]` {
		t.Errorf("after a store that had room: %s", kept)
	}
}

// untilRoom asks a verb again and again with a little more room in the subvolume that it writes to, until it ends well: before that it is refused for want
// of room, and nothing else.
func (n *node) untilRoom(path, verb string, ask args) {
	n.t.Helper()
	n.sync()
	used := n.used(path)
	for room := int64(0); ; room += 16 << 10 {
		n.limitSubvolume(path, fmt.Sprint(used+room))
		_, err := n.client.ask(verb, ask)
		if err == nil && room == 0 {
			n.t.Errorf("%s found room in a full pool", verb)
		}
		if err == nil {
			n.limitSubvolume(path, "none")
			return
		}
		if refused, ok := err.(*refusal); !ok || refused.Code != "no_space" || room > 16<<20 {
			n.t.Fatalf("%s with room for %d bytes: %v", verb, room, err)
		}
		n.t.Logf("%s with room for %d bytes: %v", verb, room, err)
	}
}

func (n *node) sync() {
	n.t.Helper()
	pool, err := os.Open(filepath.Join(n.dir, "pool"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer pool.Close()
	if err := unix.Syncfs(int(pool.Fd())); err != nil {
		n.t.Fatal(err)
	}
}

// used is what a subvolume holds, in bytes.
func (n *node) used(path string) (bytes int64) {
	n.t.Helper()
	uuid := n.said("findmnt", "--noheadings", "--raw", "--output", "UUID", filepath.Join(n.dir, "pool"))
	number := n.said("btrfs", "inspect-internal", "rootid", path)
	text, err := os.ReadFile(filepath.Join("/sys/fs/btrfs", uuid, "qgroups", "0_"+number, "referenced"))
	if err == nil {
		bytes, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return bytes
}

// limitSubvolume asks by way of another subvolume: to change its limit, a full one has no room.
func (n *node) limitSubvolume(path, bytes string) {
	n.t.Helper()
	number := n.said("btrfs", "inspect-internal", "rootid", path)
	disks, err := filepath.Glob(filepath.Join(n.dir, "pool", "i", "*"))
	if err != nil || len(disks) == 0 {
		n.t.Fatalf("there is no disk: %v", err)
	}
	n.said("btrfs", "qgroup", "limit", bytes, "0/"+number, disks[0])
}

func (n *node) said(command string, argv ...string) string {
	n.t.Helper()
	out, err := exec.Command(command, argv...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %v: %v: %s", command, argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// scribes are those that wait for work or do it.
func (n *node) scribes() (pids []int) {
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range processes {
		text, _ := os.ReadFile(path)
		if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil && strings.Contains(string(text), "\x00scribe\x00"+n.dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// withScribesStopped has a save stand still in its middle.
func (n *node) withScribesStopped(act func()) {
	n.t.Helper()
	n.eventually("scribes are ready", 10*time.Second, func() error {
		if ready := len(n.scribes()); ready < 2 {
			return fmt.Errorf("%d are", ready)
		}
		return nil
	})
	stopped := n.scribes()
	for _, pid := range stopped {
		unix.Kill(pid, unix.SIGSTOP)
	}
	defer func() { // Also when the test fails: one that stands still keeps the pool mounted.
		for _, pid := range stopped {
			unix.Kill(pid, unix.SIGCONT)
		}
	}()
	act()
}

// saving starts a save in the background and returns once the sandbox is thawed for it.
func (i instance) saving(image string, deadlineMs int) (outcome chan error) {
	i.n.t.Helper()
	own, err := dialHostd(filepath.Join(i.n.dir, "run", "hostd.sock"))
	if err != nil {
		i.n.t.Fatal(err)
	}
	outcome = make(chan error, 1)
	go func() {
		defer own.connection.Close()
		_, err := own.askWithin(deadlineMs, "image.save", i.saveArgs(image))
		outcome <- err
	}()
	i.n.eventually("the save has begun", 10*time.Second, func() error {
		for _, path := range []string{"/sys/fs/cgroup/freezer/torpor-" + i.n.scope + "/" + i.id + "/freezer.state", "/sys/fs/cgroup/torpor-" + i.n.scope + "/" + i.id + "/cgroup.freeze"} {
			if text, err := os.ReadFile(path); err == nil && (strings.HasPrefix(string(text), "THAWED") || strings.HasPrefix(string(text), "0")) {
				return nil
			}
		}
		return errors.New("still frozen")
	})
	return outcome
}

func TestADeathInTheMiddleOfASaveIsToldAndLeavesHalfAnImage(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	i.lives("20")
	n.must("sandbox.pause", i.ref())
	pid := int(i.state()["pid"].(float64))
	n.withScribesStopped(func() {
		outcome := i.saving("image-one", 20_000)
		unix.Kill(pid, unix.SIGKILL)
		if err := <-outcome; err == nil || !strings.HasPrefix(err.Error(), "gone:") {
			t.Errorf("got %v", err)
		}
	})
	n.refused("not_found", "image.read", args{"image": "image-one"})
	n.must("image.delete", args{"image": "image-one"})
}

func TestASaveThatIsTooLateIsGivenUpAndTheSandboxIsFrozenAgain(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("20")
	n.must("sandbox.pause", i.ref())
	var outcome chan error
	n.withScribesStopped(func() {
		outcome = i.saving("image-one", 300)
		unix.Nanosleep(&unix.Timespec{Nsec: 500_000_000}, nil) // The deadline itself is what is waited for.
	})
	if err := <-outcome; err == nil || !strings.HasPrefix(err.Error(), "deadline:") {
		t.Errorf("got %v", err)
	}
	if state := i.state(); state["runsc"] != "paused" || state["frozen"] != true {
		t.Errorf("after the save: %v", state)
	}
	n.must("sandbox.resume", i.ref())
	isWhole(i)
}

func TestTheDeathOfAScribeIsAnErrorAndTheSandboxLivesOn(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("20")
	n.must("sandbox.pause", i.ref())
	n.withScribesStopped(func() {
		outcome := i.saving("image-one", 20_000)
		for _, pid := range n.scribes() {
			unix.Kill(pid, unix.SIGKILL)
		}
		if err := <-outcome; err == nil || !strings.HasPrefix(err.Error(), "host_error:") {
			t.Errorf("got %v", err)
		}
	})
	if state := i.state(); state["runsc"] != "paused" || state["frozen"] != true {
		t.Errorf("after the save: %v", state)
	}
	i.store("image-two")
	n.must("sandbox.resume", i.ref())
	isWhole(i)
}

func TestASandboxIsFoundPausedWhenHostdDiesInTheMiddleOfItsSave(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("20")
	n.must("sandbox.pause", i.ref())
	n.withScribesStopped(func() {
		outcome := i.saving("image-one", 20_000)
		n.kill()
		<-outcome
		n.start()
		if _, err := n.client.askWithin(100, "sandbox.state", i.ref()); err == nil || !strings.HasPrefix(err.Error(), "busy:") {
			t.Errorf("while the save goes on: %v", err)
		}
	})
	if state := i.state(); state["runsc"] != "paused" {
		t.Errorf("after hostd's death: %v", state)
	}
	if listed, _ := json.Marshal(n.must("image.list", args{})); !strings.Contains(string(listed), `"sealed":false`) {
		t.Errorf("half an image: %s", listed)
	}
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	n.must("sandbox.resume", i.ref())
	isWhole(i)
}

func TestAScribeIsNobodyAndSeesNothing(t *testing.T) {
	n := newNode(t)
	n.eventually("scribes are confined", 10*time.Second, func() error {
		scribes := n.scribes()
		if len(scribes) < 2 {
			return fmt.Errorf("%d are there", len(scribes))
		}
		for _, pid := range scribes {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				return err
			}
			for _, want := range []string{
				"\nUid:\t2147418113\t2147418113\t2147418113\t2147418113\n", "\nGid:\t2147418113\t2147418113\t2147418113\t2147418113\n", "\nGroups:\t \n",
				"\nCapEff:\t0000000000000000\n", "\nCapPrm:\t0000000000000000\n", "\nNoNewPrivs:\t1\n",
			} {
				if !strings.Contains(string(status), want) {
					return fmt.Errorf("%q is not in %s", want, status)
				}
			}
			if seen, err := os.ReadDir(fmt.Sprintf("/proc/%d/root", pid)); err != nil || len(seen) != 0 {
				return fmt.Errorf("it sees %v (%v)", seen, err)
			}
			if mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid)); err != nil || strings.Count(string(mounts), "\n") != 1 {
				return fmt.Errorf("it has other mounts than its root: %s (%v)", mounts, err)
			}
		}
		return nil
	})
}

// A save and a restore take memory themselves, which must not be what a guest lacks that has used up its own.
func TestASandboxWithHardlyAnyMemoryLeftIsStoredAndComesBack(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	hash := i.mustGet("/random", map[string]string{"mib": "190"})
	for i.state()["memoryMib"].(float64) < 240 {
		hash = i.mustGet("/random", map[string]string{"mib": "4"})
	}
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	n.must("sandbox.resume", i.ref())
	i.answers()
	n.must("sandbox.delete", i.ref())
	i.restore("image-one")
	if got := i.mustGet("/hash", nil); got != hash {
		t.Errorf("its memory is %s, was %s", got, hash)
	}
}
