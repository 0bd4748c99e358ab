package sandbox

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHowAProcessEndedIsKnownBeforeAndAfterItIsCollected(t *testing.T) {
	bundle := t.TempDir()
	child := exec.Command("sh", "-c", "exit 7")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := child.Process.Pid
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	seven := func(moment string) {
		t.Helper()
		if end := endOf(pid, bundle); end == nil || end.ExitStatus() != 7 {
			t.Errorf("%s: %v", moment, end)
		}
	}
	seven("a zombie")
	var b births
	b.remember(pid, bundle)
	b.bury(pid)
	seven("collected")
	if startTicks(pid) != 0 {
		t.Error("it was not collected")
	}
	if end := endOf(os.Getpid(), bundle); end != nil {
		t.Errorf("this process has ended: %v", end)
	}
}
