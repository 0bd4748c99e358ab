//go:build host

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// carry copies the files of a parcel to another node, as node-agents do.
func carry(t *testing.T, from, to *node, image string) map[string]any {
	t.Helper()
	return carryPacked(t, from, to, args{"image": image, "key": workspaceKey})
}

func carryPacked(t *testing.T, from, to *node, what args) map[string]any {
	t.Helper()
	image := what["image"].(string)
	packed := from.must("parcel.pack", what)
	opened := to.must("parcel.open", args{"image": image, "needMib": 16})
	for _, one := range packed["files"].([]any) {
		file := one.(map[string]any)
		text, err := os.ReadFile(filepath.Join(packed["path"].(string), file["name"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		if float64(len(text)) != file["bytes"].(float64) {
			t.Errorf("%v has %d bytes", file, len(text))
		}
		if err := os.WriteFile(filepath.Join(opened["path"].(string), file["name"].(string)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return packed
}

func unpackArgs(image string, packed map[string]any) args {
	return args{"image": image, "key": workspaceKey, "diskDigest": packed["diskDigest"], "diskMib": packed["diskMib"], "diskUsedMib": packed["diskUsedMib"]}
}

// odd puts into a disk what a copy by hand would lose.
func odd(t *testing.T, upper string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(upper, name) }
	sparse, err := os.Create(at("sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	for _, err := range []error{
		sparse.Truncate(1 << 40), os.WriteFile(at("two"), []byte("names"), 0o4755), os.Link(at("two"), at("names")),
		os.Symlink("/nowhere/\xff", at("link")), unix.Mknod(at("whiteout"), unix.S_IFCHR, 0), unix.Mkfifo(at("fifo"), 0o600),
		os.Mkdir(at("opaque"), 0o700), unix.Setxattr(at("opaque"), "trusted.overlay.opaque", []byte("y"), 0),
		unix.Setxattr(at("two"), "user.bytes", []byte{0, 1, 255}, 0), os.Lchown(at("link"), 1234, 5678),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sparse.WriteAt([]byte("far out"), 1<<39); err != nil {
		t.Fatal(err)
	}
}

func TestAnImageTravelsToAnotherNodeAndComesBackWholeThere(t *testing.T) {
	here, there := newNode(t), newNode(t)
	i := here.up(0)
	isWhole := i.lives("20")
	odd(t, filepath.Join(here.dir, "pool", "i", i.id, "upper"))
	here.must("sandbox.pause", i.ref())
	i.store("image-one")
	packed := carry(t, here, there, "image-one")
	there.must("parcel.unpack", unpackArgs("image-one", packed))
	t.Logf("again %v", there.must("parcel.unpack", unpackArgs("image-one", packed)))
	there.must("parcel.delete", args{"image": "image-one"})
	here.must("sandbox.delete", i.ref())

	moved := there.instance(3)
	there.must("disk.restore", args{"id": moved.id, "image": "image-one"})
	moved.restore("image-one")
	isWhole(moved)
	if usage := there.must("disk.usage", moved.ref()); usage["limitMib"] != 200.0 {
		t.Errorf("its disk: %v", usage)
	}
	upper := filepath.Join(there.dir, "pool", "i", moved.id, "upper")
	var sparse unix.Stat_t
	if err := unix.Lstat(filepath.Join(upper, "sparse"), &sparse); err != nil || sparse.Size != 1<<40 || sparse.Blocks > 64 {
		t.Errorf("the sparse file: %+v %v", sparse, err)
	}
}

func TestADiskThatIsKeptAloneTravelsWithoutMemory(t *testing.T) {
	here, there := newNode(t), newNode(t)
	i := here.up(0)
	i.mustGet("/write", map[string]string{"path": "/file", "text": "then"})
	here.must("sandbox.pause", i.ref())
	i.store("image-one")
	here.must("sandbox.delete", i.ref())
	upper := filepath.Join(here.dir, "pool", "i", i.id, "upper")
	if err := os.WriteFile(filepath.Join(upper, "file"), []byte("at death"), 0o600); err != nil {
		t.Fatal(err)
	}
	here.must("disk.restore", args{"id": i.id, "image": "image-one", "keep": "aside-one"})
	here.refused("not_found", "parcel.pack", args{"image": "aside-one", "key": workspaceKey})
	packed := carryPacked(t, here, there, args{"image": "aside-one", "key": workspaceKey, "diskAlone": true})
	if files := packed["files"].([]any); len(files) != 1 {
		t.Fatalf("it has %v", files)
	}
	want := unpackArgs("aside-one", packed)
	want["diskAlone"] = true
	parcel := filepath.Join(there.dir, "pool", "x", "aside-one", "disk.img")
	whole, err := os.ReadFile(parcel)
	if err != nil {
		t.Fatal(err)
	}
	broken := append([]byte{}, whole...)
	broken[len(broken)/2] ^= 1
	os.WriteFile(parcel, broken, 0o600)
	there.refused("refused", "parcel.unpack", want)
	os.WriteFile(parcel, whole, 0o600)
	there.must("parcel.unpack", want)
	there.must("parcel.unpack", want)
	there.must("parcel.delete", args{"image": "aside-one"})
	if images := there.must("image.list", args{})["images"].([]any); len(images) != 0 {
		t.Errorf("%v is taken for an image", images)
	}
	moved := there.instance(3)
	there.must("disk.restore", args{"id": moved.id, "image": "aside-one"})
	text, err := os.ReadFile(filepath.Join(there.dir, "pool", "i", moved.id, "upper", "file"))
	if err != nil || string(text) != "at death" {
		t.Errorf("its file: %q %v", text, err)
	}
	there.must("image.delete", args{"image": "aside-one"})
}

func TestAParcelThatIsNotWhatWasPackedIsRefusedAndNothingIsLeft(t *testing.T) {
	here, there := newNode(t), newNode(t)
	i := here.up(0)
	i.mustGet("/write", map[string]string{"path": "/file", "text": "secret"})
	here.must("sandbox.pause", i.ref())
	i.store("image-one")
	packed := carry(t, here, there, "image-one")
	parcel := filepath.Join(there.dir, "pool", "x", "image-one")
	for _, name := range []string{"disk.img", "pages.img", "checkpoint.img"} {
		path := filepath.Join(parcel, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(whole), "secret") {
			t.Errorf("%s travels in the clear", name)
		}
		for what, change := range map[string]func(text []byte) []byte{
			"flipped": func(text []byte) []byte { text[len(text)/2] ^= 1; return text },
			"cut":     func(text []byte) []byte { return text[:len(text)/2] },
		} {
			if err := os.WriteFile(path, change(append([]byte{}, whole...)), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, %s", name, what)
			there.refused("refused", "parcel.unpack", unpackArgs("image-one", packed))
			if images := there.must("image.list", args{})["images"].([]any); len(images) > 0 && images[0].(map[string]any)["sealed"] == true {
				t.Errorf("%v is taken for an image", images)
			}
		}
		os.WriteFile(path, whole, 0o600)
		there.must("image.delete", args{"image": "image-one"})
		packed = carry(t, here, there, "image-one")
	}
	other := unpackArgs("image-one", packed)
	other["diskDigest"] = strings.Repeat("0", 64)
	there.refused("refused", "parcel.unpack", other)
	os.Remove(filepath.Join(parcel, "pages.img"))
	os.Symlink("/etc/shadow", filepath.Join(parcel, "pages.img"))
	there.refused("host_error", "parcel.unpack", unpackArgs("image-one", packed))
}
