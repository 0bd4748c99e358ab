//go:build host

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// twoBuilds lays two builds side by side, as an upgrade does: `then`, EARLIER_HOSTD and EARLIER_RUNSC, which were made from another version of gVisor,
// and `now`, the one that these tests are about. The node is of the former.
func twoBuilds(t *testing.T) (n *node, upgrade func()) {
	t.Helper()
	earlierHostd, earlierRunsc := os.Getenv("EARLIER_HOSTD"), os.Getenv("EARLIER_RUNSC")
	if earlierHostd == "" || earlierRunsc == "" {
		t.Skip("NOT TESTED with two versions of gVisor: EARLIER_HOSTD and EARLIER_RUNSC name no programs of an earlier one")
	}
	place := t.TempDir()
	lay := func(name string, from ...string) (hostd, runsc string) {
		t.Helper()
		directory := filepath.Join(place, name)
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range from {
			if text, err := exec.Command("cp", path, directory).CombinedOutput(); err != nil {
				t.Fatalf("laying %s: %v: %s", name, err, text)
			}
		}
		return filepath.Join(directory, "hostd"), filepath.Join(directory, "runsc")
	}
	now, nowRunsc := lay("now", built.hostd, os.Getenv("RUNSC"))
	then, thenRunsc := lay("then", earlierHostd, earlierRunsc)
	n = newNode(t)
	replace := func(hostd, runsc string) {
		n.kill()
		n.hostd, n.runsc = hostd, runsc
		n.start()
	}
	replace(then, thenRunsc)
	return n, func() { replace(now, nowRunsc) }
}

func TestAnImageWakesByTheBuildThatWroteItAfterAnUpgradeOfGvisor(t *testing.T) {
	n, upgrade := twoBuilds(t)
	i := n.up(0)
	isWhole := i.lives("20")
	n.must("sandbox.pause", i.ref())
	madeOf, _ := i.store("image-one")["madeOf"].(args)
	if build, _ := madeOf["build"].(args); build["runsc"] != "then" || build["hostd"] != "then" {
		t.Fatalf("the image says that it was made of %v", madeOf)
	}
	n.must("sandbox.delete", i.ref())
	upgrade()
	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", i.sandboxArgs()) // Of today's build, which cannot read it.
	n.refused("host_error", "sandbox.restore", args{"id": i.id, "image": "image-one", "key": workspaceKey})
	n.must("sandbox.delete", i.ref())
	comeBack := func(image string) {
		t.Helper()
		n.must("net.create", i.slotArgs())
		shell := i.sandboxArgs()
		shell["build"] = madeOf["build"]
		n.must("sandbox.create", shell)
		t.Logf("restored %v", n.must("sandbox.restore", args{"id": i.id, "image": image, "key": workspaceKey}))
		i.answers()
	}
	comeBack("image-one")
	// From here on today's hostd has it: it sleeps, wakes, and is stored as any other.
	n.must("sandbox.pause", i.ref())
	again, _ := i.store("image-two")["madeOf"].(args)
	if build, _ := again["build"].(args); build["runsc"] != "then" {
		t.Errorf("the second image says that it was made of %v", again)
	}
	n.must("sandbox.resume", i.ref())
	isWhole(i)
	n.must("sandbox.delete", i.ref())
	comeBack("image-two")
	isWhole(i)
	// New ones are of today's.
	fresh := n.up(1)
	n.must("sandbox.pause", fresh.ref())
	if of, _ := fresh.store("image-three")["madeOf"].(args); of["build"].(args)["runsc"] != "now" {
		t.Errorf("a new one is made of %v", of)
	}
}

func TestABuildThatIsGoneIsAClearRefusalAndTheImageStays(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	isWhole := i.lives("4")
	n.must("sandbox.pause", i.ref())
	i.store("image-one")
	n.must("sandbox.delete", i.ref())
	n.must("net.create", i.slotArgs())
	for code, build := range map[string]args{
		"not_found":   {"runsc": "runsc-gone", "hostd": "hostd-gone"},
		"bad_request": {"runsc": "../../etc", "hostd": "hostd-gone"},
	} {
		shell := i.sandboxArgs()
		shell["build"] = build
		n.refused(code, "sandbox.create", shell)
	}
	i.restore("image-one")
	isWhole(i)
}
