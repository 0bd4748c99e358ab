package lock

import (
	"context"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
)

func locks(t *testing.T) (*Locks, names.Paths) {
	t.Helper()
	paths := names.Paths{RunDir: t.TempDir()}
	if err := os.Mkdir(paths.Locks(), 0o755); err != nil {
		t.Fatal(err)
	}
	return New(paths), paths
}

func shortly(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestOnlyOneHoldsALockAndOthersAreToldItIsBusy(t *testing.T) {
	l, _ := locks(t)
	held, err := l.Take(shortly(t), "inst0001")
	if err != nil {
		t.Fatal(err)
	}
	if held.IsWanted() {
		t.Error("somebody waits although nobody asked")
	}
	wanted := make(chan bool, 1)
	go func() {
		for !held.IsWanted() {
			runtime.Gosched()
		}
		wanted <- true
	}()
	if _, err := l.Take(shortly(t), "inst0001"); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a second taker was told %v", err)
	}
	<-wanted
	if held.IsWanted() {
		t.Error("who has given up still waits")
	}
	other, err := l.Take(shortly(t), "inst0002")
	if err != nil {
		t.Errorf("another instance's lock: %v", err)
	} else {
		other.Release()
	}
	held.Release()
	again, err := l.Take(shortly(t), "inst0001")
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
	if len(l.turns) != 0 {
		t.Errorf("%d turns are remembered for nobody", len(l.turns))
	}
}

func TestASuccessorWaitsForTheChildOfAKilledHostd(t *testing.T) {
	l, paths := locks(t)
	held, err := l.Take(shortly(t), "inst0001")
	if err != nil {
		t.Fatal(err)
	}
	child, err := unix.Dup(int(held.File.Fd())) // What a spawner gets.
	if err != nil {
		t.Fatal(err)
	}
	held.Release()
	successor := New(paths)
	if _, err := successor.Take(shortly(t), "inst0001"); err == nil {
		t.Fatal("the successor did not wait")
	}
	unix.Close(child)
	after, err := successor.Take(shortly(t), "inst0001")
	if err != nil {
		t.Fatal(err)
	}
	after.Release()
}

func TestALockThatWasForgottenIsTakenAnew(t *testing.T) {
	l, paths := locks(t)
	held, err := l.Take(shortly(t), "inst0001")
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Forget(); err != nil {
		t.Fatal(err)
	}
	// A holder of the deleted file must not be alone with it while another holds the new one.
	fresh, err := New(paths).Take(shortly(t), "inst0001")
	if err != nil {
		t.Fatal(err)
	}
	held.Release()
	if !isStillAt(fresh.File, paths.Lock("inst0001")) {
		t.Error("the new lock is not the one on disk")
	}
	fresh.Release()
}
