package thread

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// As in hostd: the main thread is nobody's, for it cannot end.
func init() { runtime.LockOSThread() }

func TestAThreadEndsWithWhatRanOnItAlone(t *testing.T) {
	var on int
	failed := errors.New("failed")
	if err := Alone(func() error { on = unix.Gettid(); return failed }); err != failed {
		t.Errorf("it answers %v", err)
	}
	for until := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", on)); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("thread %d is still there", on)
		}
		runtime.Gosched()
	}
}
