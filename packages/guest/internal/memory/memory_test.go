package memory

import (
	"testing"
	"time"
)

func TestFieldsOfMeminfo(t *testing.T) {
	content := []byte("MemTotal:         524288 kB\nMemFree:          511980 kB\nMemAvailable:     411980 kB\n")
	if field(content, "MemTotal:") != 512<<20 || field(content, "MemAvailable:") != 411980<<10 || field(content, "Nothing:") != 0 {
		t.Fatal("meminfo is misread")
	}
}

func TestANameCannotForgeTheOtherFields(t *testing.T) {
	line := "77 (evil) Z 1 1 (x) S 5 77 70 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 4096 25 18446744073709551615"
	got, ok := parseStat(77, []byte(line))
	if !ok || got.Name != "evil) Z 1 1 (x" || got.parent != 5 || got.Session != 70 || got.zombie || got.ResidentBytes != 25*4096 {
		t.Fatalf("%+v %v", got, ok)
	}
	if _, ok := parseStat(77, []byte("77 (cut")); ok {
		t.Fatal("a cut line was accepted")
	}
}

func TestTheGuardLooksMoreOftenTheLessIsLeft(t *testing.T) {
	for spare, want := range map[int64]time.Duration{-5: lookFirst, 0: lookFirst, 1 << 30: 250 * time.Millisecond, 64 << 30: lookLast} {
		if got := pauseFor(spare); got != want {
			t.Errorf("with %d spare: %v, want %v", spare, got, want)
		}
	}
}

func TestTheLargestEndsAndOnlyIfThatHelps(t *testing.T) {
	small, big := Program{Pid: 2, ResidentBytes: 1 << 20}, Program{Pid: 3, ResidentBytes: 100 << 20}
	if victim, found := largest([]Program{small, big}); !found || victim.Pid != 3 {
		t.Fatal("not the largest")
	}
	if _, found := largest([]Program{small}); found {
		t.Fatal("a small program was ended for nothing")
	}
}
