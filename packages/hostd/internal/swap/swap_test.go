package swap

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"torpor.dev/hostd/internal/names"
)

func TestTheKernelsTableOfSwapsIsRead(t *testing.T) {
	text := "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram1                              partition\t262140\t\t1024\t\t-2\n/swap\\040file                           file\t\t2097148\t\t0\t\t-3\n"
	want := []Area{{Kind: Host, Device: "/dev/zram1", SizeMib: 255, UsedMib: 1}, {Kind: Host, Device: "/swap file", SizeMib: 2047}}
	if got := areasIn(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := areasIn("Filename\tType\tSize\tUsed\tPriority\n"); len(got) != 0 {
		t.Errorf("a host without swap has %+v", got)
	}
}

func TestAHeaderIsOneThatTheKernelKnows(t *testing.T) {
	page := header(64<<20, 4096)
	if string(page[4086:]) != "SWAPSPACE2" || binary.NativeEndian.Uint32(page[1024:]) != 1 || binary.NativeEndian.Uint32(page[1028:]) != 64<<8-1 {
		t.Errorf("got version %d, last page %d, magic %q", binary.NativeEndian.Uint32(page[1024:]), binary.NativeEndian.Uint32(page[1028:]), page[4086:])
	}
}

func TestTheCryptTableCoversTheWholeDeviceUnderTheKey(t *testing.T) {
	want := "0 131072 crypt aes-xts-plain64 " + strings.Repeat("ab", 64) + " 0 /dev/loop7 0\n"
	if got := cryptTable("/dev/loop7", 64<<20, bytes.Repeat([]byte{0xab}, 64)); got != want {
		t.Errorf("got %q", got)
	}
}

func TestAnAskThatCannotBeIsRefused(t *testing.T) {
	for _, bad := range []Ask{{Kinds: []Kind{"tape"}, SizeMib: 64}, {Kinds: []Kind{Zram}, SizeMib: 1}, {Kinds: []Kind{Host}, SizeMib: 64}} {
		if bad.Refuse() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	for _, good := range []Ask{{}, {Kinds: []Kind{Crypt, Zram, File}, SizeMib: 64}} {
		if err := good.Refuse(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

// Each is a device in a sysfs of its own making.
func TestWhatLiesOnAnEncryptedDeviceIsEncryptedAndWhatLiesOnADiskIsNot(t *testing.T) {
	sys := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		full := filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(above, below string) {
		t.Helper()
		at := filepath.Join(sys, "block", above, "slaves", below)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(sys, "block", below), at); err != nil {
			t.Fatal(err)
		}
	}
	write("block/sda/size", "1")
	write("block/dm-0/dm/uuid", "CRYPT-LUKS2-abc\n")
	link("dm-0", "sda")
	write("block/dm-1/dm/uuid", "LVM-abc\n")
	link("dm-1", "dm-0")
	write("block/dm-2/dm/uuid", "LVM-def\n")
	link("dm-2", "dm-0")
	link("dm-2", "sda")
	write("block/zram0/backing_dev", "none\n")
	write("block/zram1/backing_dev", "/dev/sda\n")
	for device, want := range map[string]AtRest{
		"sda": Plain, "dm-0": Encrypted, "dm-1": Encrypted, "dm-2": Plain, "zram0": InMemory, "zram1": Unknown, "absent": Unknown,
	} {
		if got := blockAtRest(sys, filepath.Join(sys, "block", device)); got != want {
			t.Errorf("%s: %s, want %s", device, got, want)
		}
	}
}

// What a killed installation held counts no more; what another holds does.
func TestOnlyHoldersThatStillExistKeepAnArea(t *testing.T) {
	top := t.TempDir()
	place := Place{Dir: filepath.Join(top, "swap"), File: filepath.Join(top, "file")}
	alive := filepath.Join(top, "alive")
	for _, directory := range []string{place.Dir, alive} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for scope, runDir := range map[names.Scope]string{"aaaaaa": filepath.Join(top, "gone"), "bbbbbb": alive} {
		if err := place.hold(scope, runDir); err != nil {
			t.Fatal(err)
		}
	}
	if held, err := place.isHeld(); err != nil || !held {
		t.Errorf("with a living holder: %v, %v", held, err)
	}
	if err := place.Leave(t.Context(), "bbbbbb"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(place.Dir); !os.IsNotExist(err) {
		t.Errorf("after the last living holder left: %v", err)
	}
}

func TestAFileThatARebootLeftGoesWithTheLastInstallation(t *testing.T) {
	top := t.TempDir()
	place := Place{Dir: filepath.Join(top, "swap"), File: filepath.Join(top, "file")}
	if err := os.WriteFile(place.File, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := place.Leave(t.Context(), "aaaaaa"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(place.File); !os.IsNotExist(err) {
		t.Errorf("the file: %v", err)
	}
}
