//go:build host

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestLimitsAreOnEverySandbox(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	if total := memTotalMib(t, i.mustGet("/read", map[string]string{"path": "/proc/meminfo"})); total != 256 {
		t.Errorf("the guest sees %d MiB of memory, want 256", total)
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		t.Skip("the files below are those of cgroup v1")
	}
	for path, want := range map[string]string{
		"memory/%s/memory.limit_in_bytes": strconv.Itoa(256 << 20), "pids/%s/pids.max": "2048", "cpu/%s/cpu.cfs_quota_us": "100000",
	} {
		group := "torpor-" + n.scope + "/" + i.id
		text, err := os.ReadFile("/sys/fs/cgroup/" + strings.Replace(path, "%s", group, 1))
		if err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s is %q, want %s (%v)", path, text, want, err)
		}
	}
	inside, err := os.ReadFile("/sys/fs/cgroup/freezer/torpor-" + n.scope + "/" + i.id + "/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	var gofer, sentry bool
	for _, pid := range strings.Fields(string(inside)) {
		line, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		gofer = gofer || strings.HasPrefix(string(line), "runsc-gofer")
		sentry = sentry || strings.HasPrefix(string(line), "runsc-sandbox")
		if !strings.HasPrefix(string(line), "runsc-") && !strings.HasPrefix(string(line), "systrap") && len(line) > 0 {
			t.Errorf("something besides runsc's own is in the sandbox's cgroup: %q", line)
		}
	}
	if !gofer || !sentry {
		t.Errorf("the cgroup lacks the gofer or the sentry: %s", inside)
	}
}

func memTotalMib(t *testing.T, meminfo string) int {
	t.Helper()
	for _, line := range strings.Split(meminfo, "\n") {
		var kib int
		if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kib); n == 1 {
			return kib >> 10
		}
	}
	t.Fatalf("no MemTotal in %q", meminfo)
	return 0
}

// gVisor ends when the host refuses it a thread, so the limit inside must be met first.
func TestWhoeverStartsTooManyProcessesIsRefusedInsideAndTheSandboxLivesOn(t *testing.T) {
	n := newNode(t)
	i := n.up(0, func(sandbox args) { sandbox["limits"] = args{"memoryMib": 2048, "cpus": 1, "pids": 64, "nofile": 1024} })
	text := i.mustGet("/multiply-as-user", nil)
	var count int
	if _, err := fmt.Sscanf(text, "%d", &count); err != nil || count < 8 || count > 64 || !strings.Contains(text, "resource temporarily unavailable") {
		t.Errorf("of 64 processes and threads, it says: %s", text)
	}
	i.answers()
	if state := i.state(); state["runsc"] != "running" || state["pidsRefused"].(float64) != 0 {
		t.Errorf("the host refused it something: %v", state)
	}
}

func TestAFileInMemoryMeetsItsEndBeforeTheSandboxDoes(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	for _, path := range []string{"/tmp/big", "/dev/shm/big", "/run/big"} {
		if text, err := i.get("/fill", asking("path", path)); err != nil || !strings.Contains(text, "no space left") {
			t.Errorf("%s does not end at its size: %q %v", path, text, err)
		}
	}
	i.answers()
}

func TestSetUserIDProgramsWorkInside(t *testing.T) {
	n := newNode(t)
	if euid := n.up(0).mustGet("/elevated", nil); euid != "0" {
		t.Errorf("a set-user-id program of root runs as %s", euid)
	}
}

func TestAProcessorQuotaBoundsWhatRunsInsideAndNotItsMakingOrItsWake(t *testing.T) {
	n := newNode(t)
	i := n.instance(0)
	quotaFile := "/sys/fs/cgroup/cpu/torpor-" + n.scope + "/" + i.id + "/cpu.cfs_quota_us"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		t.Skip("the file below is that of cgroup v1")
	}
	quotaIs := func(when string, want int) {
		t.Helper()
		if text, err := os.ReadFile(quotaFile); err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(want) {
			t.Errorf("%s: the quota is %s, want %d (%v)", when, text, want, err)
		}
	}
	ask := i.sandboxArgs()
	ask["limits"].(args)["cpus"] = 0.5
	n.must("disk.create", i.diskArgs())
	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", ask)
	quotaIs("a shell", 200_000)
	n.must("sandbox.start", i.ref())
	quotaIs("started", 50_000)
	i.answers()
	if cpus := strings.Count(i.mustGet("/read", map[string]string{"path": "/proc/cpuinfo"}), "processor\t"); cpus != 2 {
		t.Errorf("the guest sees %d processors, want 2", cpus)
	}
	n.must("sandbox.pause", i.ref())
	saved := n.must("image.save", i.saveArgs("image-0001"))
	quotaIs("saved", 50_000)
	n.must("disk.snapshot", args{"id": i.id, "image": "image-0001"})
	n.must("image.seal", args{"image": "image-0001", "manifest": args{"digest": saved["digest"]}})
	n.must("sandbox.delete", i.ref())

	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", ask)
	n.must("sandbox.restore", args{"id": i.id, "image": "image-0001", "key": workspaceKey})
	quotaIs("restored", 50_000)

	// As a hostd leaves it that is killed in the middle of a save.
	n.kill()
	if err := os.WriteFile(quotaFile, []byte("200000"), 0); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.must("sandbox.pause", i.ref())
	quotaIs("paused by another hostd", 50_000)
	i.down()
}
