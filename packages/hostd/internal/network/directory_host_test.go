//go:build host

package network

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// On a host where nobody has made a named namespace yet, which is most: the first `ip netns add` comes when sandboxes are there already.
func TestANamespaceCanBeUnpinnedAfterTheFirstOfAnotherTool(t *testing.T) {
	const inside = "TORPOR_TEST_OWN_MOUNTS"
	if os.Getenv(inside) == "" {
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1")
		again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if text, err := again.CombinedOutput(); err != nil {
			t.Fatalf("in mounts of its own: %v\n%s", err, text)
		}
		return
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	before := mountsOf(t, NetnsDir) // of the host, below
	path := NetnsDir + "/ours"
	// Another installation that has come and gone took the directory's mount with it.
	for _, act := range []func() error{func() error { return ensureNetns(path) }, func() error { return removeNetns(path) }, leaveDirectory} {
		if err := act(); err != nil {
			t.Fatal(err)
		}
	}
	if err := ensureNetns(path); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("ip", "netns", "add", "theirs").CombinedOutput(); err != nil {
		t.Fatalf("ip netns add: %v: %s", err, text)
	}
	if err := removeNetns(path); err != nil {
		t.Error(err)
	}
	if err := leaveDirectory(); err != nil {
		t.Error(err)
	}
	if !isNetns(NetnsDir + "/theirs") {
		t.Error("another tool's namespace is gone")
	}
	if text, err := exec.Command("ip", "netns", "del", "theirs").CombinedOutput(); err != nil {
		t.Fatalf("ip netns del: %v: %s", err, text)
	}
	if err := leaveDirectory(); err != nil {
		t.Error(err)
	}
	if after := mountsOf(t, NetnsDir); after != before {
		t.Errorf("%s is a mount %d times, and was %d times before", NetnsDir, after, before)
	}
}

func mountsOf(t *testing.T, path string) int {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(mounts), " "+path+" ")
}
