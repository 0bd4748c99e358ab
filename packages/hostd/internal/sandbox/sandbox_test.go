package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func ask() Ask {
	return Ask{
		ID: "inst0001", Slot: 1, Lower: []string{"/t"}, Hostname: "h", Argv: []string{"/init"}, VolumeDir: true,
		Limits: Limits{MemoryMib: 512, Cpus: 1, Pids: 100, Nofile: 1024},
	}
}

func TestASandboxIsDescribedAsWeMeanIt(t *testing.T) {
	at := places{rootfs: "/r", netns: "/n", cgroup: "/c", volumes: "/v"}
	described := spec(ask(), at)
	if described.Process.NoNewPrivileges {
		t.Error("sudo cannot work inside")
	}
	if got := described.Process.Rlimits[0]; got.Type != "RLIMIT_NOFILE" || got.Hard != 1024 {
		t.Errorf("open files: %+v", got)
	}
	if got := described.Process.Rlimits[1]; got.Type != "RLIMIT_NPROC" || got.Hard != 100 || got.Soft != 100 {
		t.Errorf("processes: %+v", got)
	}
	text, err := json.Marshal(described)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"cgroupsPath":"/c"`, `{"type":"network","path":"/n"}`, `"size=256m"`, `"destination":"/torpor/vol","type":"bind","source":"/v"`, `"CAP_SYS_ADMIN"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the spec lacks %s: %s", want, text)
		}
	}
	for _, never := range []string{"CAP_NET_RAW", "CAP_SYS_MODULE", "CAP_NET_ADMIN"} {
		if strings.Contains(string(text), never) {
			t.Errorf("the spec grants %s", never)
		}
	}
	without := ask()
	without.VolumeDir = false
	if text, _ := json.Marshal(spec(without, at)); strings.Contains(string(text), "/torpor/vol") {
		t.Error("a sandbox without a volume directory has one")
	}
}

func TestFilesInMemoryStayBelowItsLimit(t *testing.T) {
	of := func(keepTmp bool) map[string]int {
		sizes := map[string]int{}
		for _, mount := range mounts(ask(), places{keepTmp: keepTmp}) {
			for _, option := range mount.Options {
				var mib int
				if n, _ := fmt.Sscanf(option, "size=%dm", &mib); n == 1 && mount.Destination != "/dev" {
					sizes[mount.Destination] = mib
				}
			}
		}
		return sizes
	}
	if got := of(false); !maps.Equal(got, map[string]int{"/tmp": 256, "/dev/shm": 128, "/run": 64}) {
		t.Errorf("of 512 MiB: %v", got)
	}
	if got := of(true); got["/tmp"] != 0 {
		t.Error("the template's own /tmp is hidden")
	}
}

func TestAMountOnTmpHidesNothing(t *testing.T) {
	at := t.TempDir()
	if holdsFiles(at) || holdsFiles(filepath.Join(at, "none")) {
		t.Error("an empty directory, or none, holds nothing")
	}
	if err := os.Symlink("/etc", filepath.Join(at, "tmp")); err != nil {
		t.Fatal(err)
	}
	if !holdsFiles(at) || !holdsFiles(filepath.Join(at, "tmp")) {
		t.Error("what is there would be hidden")
	}
	if bringsTmp([]string{t.TempDir()}) || !bringsTmp([]string{t.TempDir(), at}) {
		t.Error("any layer of a template brings what is to stay in sight")
	}
}

func TestAnAskWithoutALimitIsRefused(t *testing.T) {
	if err := checkAsk(ask()); err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*Ask){
		"memory": func(a *Ask) { a.Limits.MemoryMib = 0 }, "cpus": func(a *Ask) { a.Limits.Cpus = 0 }, "pids": func(a *Ask) { a.Limits.Pids = 0 },
		"nofile": func(a *Ask) { a.Limits.Nofile = 0 }, "argv": func(a *Ask) { a.Argv = nil }, "relative argv": func(a *Ask) { a.Argv = []string{"init"} },
		"hostname": func(a *Ask) { a.Hostname = "" },
	} {
		spoilt := ask()
		spoil(&spoilt)
		if checkAsk(spoilt) == nil {
			t.Errorf("an ask without %s was taken", what)
		}
	}
}

func TestLowerDirectoriesThatWouldBreakOutOfTheMountOptionsAreRefused(t *testing.T) {
	good := t.TempDir()
	if options, err := overlayOptions([]string{good, good}, "/d"); err != nil || !strings.HasPrefix(options, "lowerdir="+good+":"+good+",upperdir=/d/upper,workdir=/d/work") {
		t.Errorf("got %q, %v", options, err)
	}
	odd := filepath.Join(good, "a,upperdir=x")
	if err := os.Mkdir(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]string{nil, {"relative"}, {odd}, {"/a:/b"}, {`/a\`}, {"/not/there"}} {
		if _, err := overlayOptions(bad, "/d"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

const (
	inDoStop     = "gvisor.dev/gvisor/pkg/sentry/kernel.(*Task).doStop(0x1)\n\tx.go:1\ngvisor.dev/gvisor/pkg/sentry/kernel.(*Task).run(0x1, 0x2)\n\tx.go:2"
	stoppedTask  = "goroutine 5 [sync.Cond.Wait, 2 minutes]:\n" + inDoStop
	leavingTask  = "goroutine 5 [runnable]:\n" + inDoStop
	runningTask  = "goroutine 6 [syscall]:\ngvisor.dev/gvisor/pkg/sentry/platform/systrap.(*context).Switch(0x1)\n\tx.go:1\ngvisor.dev/gvisor/pkg/sentry/kernel.(*Task).run(0x1, 0x2)\n\tx.go:2"
	otherRoutine = "goroutine 1 [running]:\nmain.main()\n\tx.go:1"
	saving       = "goroutine 8 [semacquire]:\ngvisor.dev/gvisor/runsc/boot.(*containerManager).Checkpoint(0x1, 0x0, 0x0)\n\tx.go:2"
	pausing      = "goroutine 7 [semacquire]:\ngvisor.dev/gvisor/pkg/sentry/kernel.(*Kernel).Pause(0x1)\n\tx.go:1\ngvisor.dev/gvisor/runsc/boot.(*containerManager).Pause(0x1, 0x0, 0x0)\n\tx.go:2"
)

// Believing in a pause that is over would resume once too often, which kills the sandbox.
func TestASandboxIsPausedWhenAllItsTasksStandStill(t *testing.T) {
	for _, c := range []struct {
		stacks []string
		want   taskState
	}{
		{[]string{otherRoutine, stoppedTask, stoppedTask}, tasksPaused}, {[]string{stoppedTask, runningTask}, tasksRunning},
		{[]string{runningTask}, tasksRunning}, {[]string{otherRoutine}, tasksRunning}, {nil, tasksRunning},
		{[]string{leavingTask, stoppedTask}, tasksUnknown}, {[]string{leavingTask, runningTask}, tasksRunning},
		{[]string{stoppedTask, pausing}, tasksUnknown}, {[]string{stoppedTask, saving}, tasksUnknown},
	} {
		if got := tasksIn(strings.Join(c.stacks, "\n\n")); got != c.want {
			t.Errorf("%v: %v", c.stacks, got)
		}
	}
}

func TestLowerDirectoriesLieWhereTheOperatorSaid(t *testing.T) {
	layers, elsewhere := t.TempDir(), t.TempDir()
	inside := filepath.Join(layers, "template")
	for _, err := range []error{
		os.Mkdir(inside, 0o755), os.Mkdir(layers+"-besides", 0o755),
		os.Symlink(elsewhere, filepath.Join(layers, "out")), os.Symlink(inside, filepath.Join(elsewhere, "in")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Remove(layers + "-besides") })
	for _, good := range []string{layers, inside, filepath.Join(elsewhere, "in")} {
		if _, err := amongLayers([]string{good}, []string{layers}); err != nil {
			t.Errorf("%s was refused: %v", good, err)
		}
	}
	for _, bad := range []string{"/", "/etc", elsewhere, filepath.Join(layers, "out"), filepath.Join(layers, ".."), layers + "-besides", "template"} {
		if resolved, err := amongLayers([]string{inside, bad}, []string{layers}); err == nil {
			t.Errorf("%s was taken as %v", bad, resolved)
		}
	}
}
