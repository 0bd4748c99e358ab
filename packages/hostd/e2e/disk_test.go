//go:build host

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The limit is met at ±5 %, by the tenant alone: while it fills, its neighbour's writes and fsyncs all succeed.
func TestADiskEndsAtItsLimitAndNeighboursNoticeNothing(t *testing.T) {
	n := newNode(t)
	greedy, neighbour := n.up(0), n.up(1)
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for round := 0; ; round++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := neighbour.get("/write", map[string]string{"path": "/note", "text": strings.Repeat("x", 1000+round)}); err != nil {
				failed <- err
				return
			}
		}
	}()
	said := greedy.mustGet("/fill", map[string]string{"path": "/big"})
	close(stop)
	if err := <-failed; err != nil {
		t.Errorf("the neighbour's write failed meanwhile: %v", err)
	}
	var mib int
	if _, err := fmt.Sscanf(said, "%d", &mib); err != nil || mib < 190 || mib > 210 {
		t.Errorf("a disk of 200 MiB took %s", said)
	}
	if !strings.Contains(said, "quota") && !strings.Contains(said, "space") {
		t.Errorf("the guest was told %q, want that the disk is full", said)
	}
	usage := n.must("disk.usage", greedy.ref())
	if used := usage["usedMib"].(float64); used < 185 || used > 205 || usage["limitMib"].(float64) != 200 {
		t.Errorf("usage of a full disk: %v", usage)
	}
	if usage := n.must("disk.usage", neighbour.ref()); usage["usedMib"].(float64) > 5 {
		t.Errorf("the neighbour is charged: %v", usage)
	}
	all := n.must("disk.stats", args{"ids": []string{neighbour.id, "nosuch00", greedy.id}})
	if len(all) != 2 || fmt.Sprint(all[greedy.id]) != fmt.Sprint(usage) || all[neighbour.id].(map[string]any)["limitMib"].(float64) != 200 {
		t.Errorf("usage of several at once: %v", all)
	}
	// A full tenant can be given more, and goes on.
	n.must("disk.create", args{"id": greedy.id, "diskMib": 260})
	greedy.mustGet("/write", map[string]string{"path": "/more", "text": "fits"})
}

// All tenants together end where the reserve begins; the file system itself never fills.
func TestTenantsTogetherLeaveTheReserve(t *testing.T) {
	n := newNode(t, func(prepare map[string]any) { prepare["pool"] = args{"sizeMib": 600, "reserveMib": 200} })
	path := func(i instance) string {
		return n.must("disk.create", args{"id": i.id, "diskMib": 500})["path"].(string)
	}
	one, two, three := path(n.instance(0)), path(n.instance(1)), path(n.instance(2))
	filled := fillDirectly(t, one) + fillDirectly(t, two) + fillDirectly(t, three)
	if filled < 360 || filled > 410 {
		t.Errorf("three tenants took %d MiB of a pool of 600 with a reserve of 200", filled)
	}
	if usage := n.must("node.usage", args{})["pool"].(map[string]any); usage["freeMib"].(float64) < 100 {
		t.Errorf("the pool has only %v MiB left", usage["freeMib"])
	}
	// The pool itself is still writable: what hostd needs to do, it can.
	n.must("disk.delete", n.instance(0).ref())
	n.must("disk.delete", n.instance(1).ref())
	n.must("disk.delete", n.instance(2).ref())
}

// Data takes all that it can get, in whole chunks and past the reserve; what hostd needs to do, it still can.
func TestAPoolWithoutRoomForDataIsStillManaged(t *testing.T) {
	n := newNode(t, func(prepare map[string]any) { prepare["pool"] = args{"sizeMib": 1024, "reserveMib": 64} })
	i := n.instance(0)
	disk := n.must("disk.create", i.diskArgs())["path"].(string)
	filler, err := os.Create(filepath.Join(n.dir, "pool", "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	left := n.must("node.usage", args{})["pool"].(map[string]any)["freeMib"].(float64) - 64 - 4
	if err := unix.Fallocate(int(filler.Fd()), 0, 0, int64(left)<<20); err != nil {
		t.Fatal(err)
	}
	// More than the 8 MiB that mkfs gives the metadata hold.
	for round := range 100 {
		for file := range 100 {
			text := make([]byte, 2000)
			if err := os.WriteFile(filepath.Join(disk, "upper", fmt.Sprintf("%d-%d", round, file)), text, 0o600); err != nil {
				t.Fatalf("after %d small files: %v", 100*round+file, err)
			}
		}
	}
	n.must("disk.delete", i.ref())
}

func fillDirectly(t *testing.T, disk string) int {
	t.Helper()
	file, err := os.Create(filepath.Join(disk, "upper", "fill"))
	if err != nil {
		return 0
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for at := range block {
		block[at] = byte(at * 13)
	}
	written := 0
	for written < 1000 {
		if _, err := file.Write(block); err != nil {
			break
		}
		if err := file.Sync(); err != nil {
			break
		}
		written++
	}
	return written
}

func TestNoDiskIsMadeBelowTheReserve(t *testing.T) {
	n := newNode(t, func(prepare map[string]any) { prepare["pool"] = args{"sizeMib": 600, "reserveMib": 590} })
	n.refused("no_space", "disk.create", n.instance(0).diskArgs())
}

func TestThePoolFileIsNeverSparse(t *testing.T) {
	n := newNode(t)
	i := n.instance(0)
	disk := n.must("disk.create", i.diskArgs())["path"].(string)
	fillDirectly(t, disk)
	n.must("disk.delete", i.ref())
	n.eventually("the deleted disk's space is free again", 30*time.Second, func() error {
		if free := n.must("node.usage", args{})["pool"].(map[string]any)["freeMib"].(float64); free < 850 {
			return fmt.Errorf("%.0f MiB free", free)
		}
		return nil
	})
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(n.dir, "pool.btrfs"), &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Blocks*512 < 1024<<20 {
		t.Errorf("the pool file has %d MiB allocated of 1024", stat.Blocks*512>>20)
	}
}

func TestADiskFromAnotherStartsAsItsCopy(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	i.mustGet("/write", map[string]string{"path": "/kept", "text": "from the first"})
	n.must("volume.create", args{"volume": "attached", "sizeMib": 50})
	n.must("volume.attach", args{"id": i.id, "volume": "attached", "name": "data"})
	n.must("sandbox.pause", i.ref())
	copied := n.instance(1)
	n.must("disk.create", args{"id": copied.id, "diskMib": 150, "from": i.id})
	n.must("net.create", copied.slotArgs())
	n.must("sandbox.create", copied.sandboxArgs())
	n.must("sandbox.start", copied.ref())
	copied.answers()
	if text := copied.mustGet("/read", map[string]string{"path": "/kept"}); text != "from the first" {
		t.Errorf("the copy has %q", text)
	}
	if found := copied.mustGet("/list", map[string]string{"path": "/torpor/vol"}); found != "" {
		t.Errorf("the copy has the first one's volumes: %s", found)
	}
	copied.mustGet("/write", map[string]string{"path": "/kept", "text": "changed"})
	n.must("sandbox.resume", i.ref())
	if text := i.mustGet("/read", map[string]string{"path": "/kept"}); text != "from the first" {
		t.Errorf("the first one now has %q", text)
	}
}

func TestAVolumeComesAndGoesBeneathARunningSandbox(t *testing.T) {
	n := newNode(t)
	i, other := n.up(0), n.up(1)
	attach := args{"id": i.id, "volume": "vol-1", "name": "data"}
	n.refused("not_found", "volume.attach", attach)
	n.must("volume.create", args{"volume": "vol-1", "sizeMib": 50})
	n.must("volume.attach", attach)
	n.must("volume.attach", attach)
	i.mustGet("/bind", map[string]string{"from": "/torpor/vol/data", "to": "/mnt/data"})
	i.mustGet("/write", map[string]string{"path": "/mnt/data/letter", "text": "dear"})
	n.refused("busy", "volume.attach", args{"id": other.id, "volume": "vol-1", "name": "data"})
	n.refused("busy", "volume.delete", args{"volume": "vol-1"})
	var mib int
	if said := i.mustGet("/fill", map[string]string{"path": "/mnt/data/big"}); true {
		if _, err := fmt.Sscanf(said, "%d", &mib); err != nil || mib < 46 || mib > 54 {
			t.Errorf("a volume of 50 MiB took %s", said)
		}
	}
	i.mustGet("/unbind", map[string]string{"at": "/mnt/data"})
	n.must("volume.detach", attach)
	n.must("volume.detach", attach)
	if found := i.mustGet("/list", map[string]string{"path": "/torpor/vol"}); found != "" {
		t.Errorf("after the detach the first still sees %s", found)
	}
	n.must("volume.attach", args{"id": other.id, "volume": "vol-1", "name": "data"})
	if text := other.mustGet("/read", map[string]string{"path": "/torpor/vol/data/letter"}); text != "dear" {
		t.Errorf("the second reads %q", text)
	}
	// Deleting the instance, not the volume: it is there for the next.
	other.down()
	n.must("volume.attach", attach)
	if text := i.mustGet("/read", map[string]string{"path": "/torpor/vol/data/letter"}); text != "dear" {
		t.Errorf("after its instance's end the volume reads %q", text)
	}
	n.must("volume.detach", attach)
	n.must("volume.delete", args{"volume": "vol-1"})
	n.must("volume.delete", args{"volume": "vol-1"})
}

// Its images must find a volume where they knew it, so its guest, root or not, leaves it there.
func TestAGuestCannotMoveAVolumeNorTakeAName(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	for _, volume := range []string{"one", "two"} {
		n.must("volume.create", args{"volume": volume, "sizeMib": 50})
		n.must("volume.attach", args{"id": i.id, "volume": volume, "name": volume})
	}
	for to, why := range map[string]string{"/torpor/vol/away": "rename away", "/torpor/vol/two/inside": "rename into another"} {
		if said, err := i.get("/rename", map[string]string{"from": "/torpor/vol/one", "to": to}); err == nil {
			t.Errorf("%s: the guest was told %q, want a refusal", why, said)
		}
	}
	if said, err := i.get("/write", map[string]string{"path": "/torpor/vol/mine", "text": "x"}); err == nil {
		t.Errorf("a file beside the volumes: the guest was told %q, want a refusal", said)
	}
	i.mustGet("/write", map[string]string{"path": "/torpor/vol/one/letter", "text": "dear"})
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	kept := n.must("disk.snapshot", args{"id": i.id, "image": "image-one"})
	if volumes, _ := json.Marshal(kept); string(volumes) != `{"volumes":[{"name":"one","volume":"one"},{"name":"two","volume":"two"}]}` {
		t.Errorf("kept %s", volumes)
	}
}

func TestAVolumeIsTakenBackToWhatAnImageHoldsOfIt(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	n.must("volume.create", args{"volume": "data", "sizeMib": 50})
	at := args{"id": i.id, "volume": "data", "name": "data"}
	n.must("volume.attach", at)
	i.mustGet("/write", map[string]string{"path": "/torpor/vol/data/letter", "text": "then"})
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	n.must("sandbox.resume", i.ref())
	i.mustGet("/write", map[string]string{"path": "/torpor/vol/data/letter", "text": "now"})
	n.must("volume.create", args{"volume": "data", "sizeMib": 70})
	back := args{"volume": "data", "image": "image-one", "from": "data"}
	n.refused("busy", "volume.restore", back)
	n.must("sandbox.delete", i.ref())
	n.must("net.delete", i.slotArgs())
	n.must("disk.restore", args{"id": i.id, "image": "image-one", "keep": "kept-before"})
	n.refused("not_found", "volume.restore", args{"volume": "data", "image": "image-one", "from": "other"})
	n.must("volume.restore", back)
	n.must("volume.restore", back)
	n.must("volume.attach", at)
	i.restore("image-one")
	if text := i.mustGet("/read", map[string]string{"path": "/torpor/vol/data/letter"}); text != "then" {
		t.Errorf("after it was taken back the volume reads %q", text)
	}
	stats := n.must("volume.stats", args{"volumes": []args{{"volume": "data", "id": i.id, "name": "data"}, {"volume": "nosuch"}}})
	if len(stats) != 1 || stats["data"].(map[string]any)["limitMib"].(float64) != 70 {
		t.Errorf("usage of several at once: %v", stats)
	}
	n.must("volume.create", args{"volume": "put-aside", "sizeMib": 70, "from": "data", "image": "kept-before"})
	n.must("volume.attach", args{"id": i.id, "volume": "put-aside", "name": "aside"})
	if text := i.mustGet("/read", map[string]string{"path": "/torpor/vol/aside/letter"}); text != "now" {
		t.Errorf("what it was before reads %q", text)
	}

	// Of a volume that is gone, the image may hold all that is left.
	n.must("sandbox.delete", i.ref())
	n.must("volume.detach", at)
	n.must("volume.delete", args{"volume": "data"})
	n.must("volume.restore", back)
	if usage := n.must("volume.usage", args{"volume": "data"}); usage["limitMib"] != 50.0 {
		t.Errorf("a volume that was gone came back as %v", usage)
	}
	if text, err := os.ReadFile(filepath.Join(n.dir, "pool", "v", "data", "letter")); string(text) != "then" {
		t.Errorf("a volume that was gone came back with %q: %v", text, err)
	}
}

// asBefore makes an instance's vol/ what it was on disks that an older hostd made: its guest may change what lies in it.
func (n *node) asBefore(i instance) {
	n.t.Helper()
	directory, err := os.Open(filepath.Join(n.dir, "pool", "i", i.id, "vol"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer directory.Close()
	if err := unix.IoctlSetPointerInt(int(directory.Fd()), unix.FS_IOC_SETFLAGS, 0); err != nil {
		n.t.Fatal(err)
	}
}

// A guest that hides an attached volume in a directory of its own cannot keep it, nor keep its instance from being deleted.
func TestAVolumeThatTheGuestMovedIsFound(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	n.must("volume.create", args{"volume": "vol-2", "sizeMib": 50})
	n.must("volume.attach", args{"id": i.id, "volume": "vol-2", "name": "data"})
	n.asBefore(i)
	vol := filepath.Join(n.dir, "pool", "i", i.id, "vol")
	if err := os.MkdirAll(filepath.Join(vol, "deep", "er"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(vol, "data"), filepath.Join(vol, "deep", "er", "mine")); err != nil {
		t.Fatal(err)
	}
	i.down()
	if usage := n.must("volume.usage", args{"volume": "vol-2"}); usage["limitMib"].(float64) != 50 {
		t.Errorf("the volume came back as %v", usage)
	}
	n.must("volume.delete", args{"volume": "vol-2"})
}

// A path has 4096 bytes at most, and what its guest made is no reason not to delete an instance, nor to lose a volume.
func TestAVolumeAtTheBottomOfATreeDeeperThanAnyPathIsFound(t *testing.T) {
	n := newNode(t)
	detached, deleted := n.up(0), n.up(1)
	for _, i := range []instance{detached, deleted} {
		volume := "of-" + i.id
		n.must("volume.create", args{"volume": volume, "sizeMib": 50})
		n.must("volume.attach", args{"id": i.id, "volume": volume, "name": "data"})
		i.mustGet("/write", map[string]string{"path": "/torpor/vol/data/letter", "text": "dear"})
		n.asBefore(i)
		i.mustGet("/dig", map[string]string{"top": "/torpor/vol", "move": "/torpor/vol/data"})
	}
	volume := args{"volume": "of-" + detached.id}
	n.refused("busy", "volume.delete", volume)
	n.must("volume.create", args{"volume": "of-" + detached.id, "sizeMib": 60})
	if usage := n.must("volume.usage", volume); usage["limitMib"].(float64) != 60 {
		t.Errorf("the volume was given 60 MiB and has %v", usage)
	}
	n.must("volume.create", args{"volume": "copy", "sizeMib": 50, "from": "of-" + detached.id})
	n.must("volume.detach", args{"id": detached.id, "volume": "of-" + detached.id, "name": "data"})
	deleted.down()
	for _, volume := range []string{"copy", "of-" + detached.id, "of-" + deleted.id} {
		n.must("volume.attach", args{"id": detached.id, "volume": volume, "name": "data"})
		if text := detached.mustGet("/read", asking("path", "/torpor/vol/data/letter")); text != "dear" {
			t.Errorf("volume %s reads %q", volume, text)
		}
		n.must("volume.detach", args{"id": detached.id, "volume": volume, "name": "data"})
	}
	detached.down()
}

// Nothing keeps a guest from moving one volume into another. Each has a life of its own nevertheless.
func TestAVolumeInsideAnotherComesBackWithIt(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	hide := func() {
		for _, volume := range []string{"outer", "inner"} {
			n.must("volume.create", args{"volume": volume, "sizeMib": 50})
			n.must("volume.attach", args{"id": i.id, "volume": volume, "name": volume})
		}
		n.asBefore(i)
		i.mustGet("/rename", map[string]string{"from": "/torpor/vol/inner", "to": "/torpor/vol/outer/hidden"})
		n.refused("busy", "volume.delete", args{"volume": "inner"})
	}
	hide()
	n.must("volume.detach", args{"id": i.id, "volume": "outer", "name": "outer"})
	hide()
	i.down()
	for _, volume := range []string{"outer", "inner"} {
		n.must("volume.delete", args{"volume": volume})
	}
}
