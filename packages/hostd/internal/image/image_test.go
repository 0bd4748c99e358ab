package image

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

var testName = Name{Image: "image-0001", Role: "pages"}

func testKey(t *testing.T, image string) []byte {
	t.Helper()
	key, err := KeyOf(bytes.Repeat([]byte{7}, KeySize), image)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// contents has one chunk of each kind and a short last one.
func contents() [][]byte {
	random, text := make([]byte, ChunkSize), bytes.Repeat([]byte("the same again "), ChunkSize/15)
	rand.Read(random)
	return [][]byte{text, random, make([]byte, ChunkSize), text, random[:1000]}
}

func written(t *testing.T, name Name, compress Compression, chunks [][]byte) (string, Sum) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	writer, err := NewWriter(file, testKey(t, name.Image), name, compress)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for number, chunk := range chunks {
		all.Go(func() {
			if err := writer.Put(uint64(number), chunk[:len(chunk)/3], chunk[len(chunk)/3:]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	sum, err := writer.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return path, sum
}

// readWhole gives what a reader makes of a file: all its bytes, or why not.
func readWhole(path string, key []byte, name Name) ([]byte, Sum, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, Sum{}, err
	}
	defer file.Close()
	reader, err := NewReader(file, key, name)
	if err != nil {
		return nil, Sum{}, err
	}
	out := make([]byte, reader.Length())
	if _, err := reader.ReadAt(0, out); err != nil {
		return nil, Sum{}, err
	}
	sum, err := reader.Verify()
	return out, sum, err
}

func TestWhatWasWrittenIsReadFromAnyOffset(t *testing.T) {
	chunks := contents()
	want := bytes.Join(chunks, nil)
	for _, compress := range []Compression{Auto, None} {
		path, sum := written(t, testName, compress, chunks)
		got, verified, err := readWhole(path, testKey(t, testName.Image), testName)
		if err != nil || !bytes.Equal(got, want) || verified != sum || sum.Length != int64(len(want)) {
			t.Fatalf("%s: %v, equal %v, sums %+v and %+v", compress, err, bytes.Equal(got, want), verified, sum)
		}
		file, _ := os.Open(path)
		defer file.Close()
		reader, err := NewReader(file, testKey(t, testName.Image), testName)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, 1, ChunkSize - 1, ChunkSize, 2*ChunkSize - 5, len(want) - 1} {
			size := min(ChunkSize+10, len(want)-at)
			a, b := make([]byte, size/2), make([]byte, size-size/2)
			if n, err := reader.ReadAt(uint64(at), a, b); err != nil || n != size || !bytes.Equal(append(a, b...), want[at:at+size]) {
				t.Errorf("%s at %d: %d bytes, %v", compress, at, n, err)
			}
		}
		if n, err := reader.ReadAt(uint64(len(want)-3), make([]byte, 10)); n != 3 || err != io.EOF {
			t.Errorf("past the end: %d, %v", n, err)
		}
	}
}

func TestZerosAndWhatShrinksTakeLittleAndTheRestNoMoreThanItself(t *testing.T) {
	_, sum := written(t, testName, Auto, [][]byte{make([]byte, ChunkSize), bytes.Repeat([]byte("ab"), ChunkSize/2)})
	if sum.Bytes > headerSize+4096 {
		t.Errorf("kept in %d bytes", sum.Bytes)
	}
	random := make([]byte, ChunkSize)
	rand.Read(random)
	if _, sum = written(t, testName, Auto, [][]byte{random}); sum.Bytes != headerSize+ChunkSize+chunkLine+tagSize+trailerSize {
		t.Errorf("kept in %d bytes", sum.Bytes)
	}
}

func TestWhatDoesNotShrinkIsSoonLeftAloneAndWhatComesAfterItIsFound(t *testing.T) {
	random, text := make([]byte, ChunkSize), bytes.Repeat([]byte("x"), ChunkSize)
	rand.Read(random)
	pack, tried := newPacker(Auto), 0
	for range 1000 {
		if packed, _ := pack.try(random, nil); packed != nil {
			tried++
		}
	}
	if tried > 1000/pauseMax+5 {
		t.Errorf("tried %d of 1000 chunks that do not shrink", tried)
	}
	for at := 0; ; at++ {
		if _, pays := pack.try(text, nil); pays {
			break
		}
		if at > pauseMax {
			t.Fatalf("of %d chunks that shrink none was tried", at)
		}
	}
	for range 10 {
		if _, pays := pack.try(text, nil); !pays {
			t.Error("left alone although the one before did shrink")
		}
	}
}

func TestAFlippedByteAnywhereIsRefused(t *testing.T) {
	path, _ := written(t, testName, Auto, contents())
	whole, _ := os.ReadFile(path)
	places := []int{}
	for at := 0; at < len(whole); at += 997 {
		places = append(places, at)
	}
	for at := 0; at < 128; at++ {
		places = append(places, at, len(whole)-1-at)
	}
	for _, at := range places {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readWhole(path, testKey(t, testName.Image), testName); !errors.Is(err, ErrRefused) {
			t.Fatalf("byte %d of %d: %v", at, len(whole), err)
		}
	}
}

func TestATruncatedOrLengthenedFileIsRefused(t *testing.T) {
	path, _ := written(t, testName, None, contents())
	whole, _ := os.ReadFile(path)
	for _, size := range []int{0, 1, headerSize, headerSize + 40, len(whole) / 2, len(whole) - trailerSize, len(whole) - 1, len(whole) + 1} {
		if err := os.Truncate(path, int64(size)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readWhole(path, testKey(t, testName.Image), testName); !errors.Is(err, ErrRefused) {
			t.Errorf("%d of %d bytes: %v", size, len(whole), err)
		}
		os.WriteFile(path, whole, 0o600)
	}
}

func TestSwappedChunksAreRefused(t *testing.T) {
	one, other := make([]byte, ChunkSize), make([]byte, ChunkSize)
	rand.Read(one)
	rand.Read(other)
	path, _ := written(t, testName, None, [][]byte{one, other})
	whole, _ := os.ReadFile(path)
	swapped := bytes.Clone(whole)
	copy(swapped[headerSize:], whole[headerSize+ChunkSize:headerSize+2*ChunkSize])
	copy(swapped[headerSize+ChunkSize:], whole[headerSize:headerSize+ChunkSize])
	os.WriteFile(path, swapped, 0o600)
	if _, _, err := readWhole(path, testKey(t, testName.Image), testName); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestAnotherFileImageOrKeyIsRefused(t *testing.T) {
	path, first := written(t, testName, None, contents())
	key := testKey(t, testName.Image)
	for what, name := range map[string]Name{"role": {testName.Image, "state"}, "image": {"image-0002", testName.Role}} {
		if _, _, err := readWhole(path, key, name); !errors.Is(err, ErrRefused) {
			t.Errorf("another %s: %v", what, err)
		}
	}
	if _, _, err := readWhole(path, testKey(t, "image-0002"), testName); !errors.Is(err, ErrRefused) {
		t.Errorf("another key: %v", err)
	}
	if _, again := written(t, testName, None, contents()); again.Digest == first.Digest {
		t.Error("two writings of one name have the same digest")
	}
}

// A part of one writing must not pass in another of the same name and key: each has a key of its own.
func TestAPartOfAnEarlierWritingIsRefused(t *testing.T) {
	chunks := contents()
	old, _ := written(t, testName, None, chunks)
	path, _ := written(t, testName, None, chunks)
	before, _ := os.ReadFile(old)
	whole, _ := os.ReadFile(path)
	copy(whole[headerSize:headerSize+2*ChunkSize], before[headerSize:headerSize+2*ChunkSize])
	os.WriteFile(path, whole, 0o600)
	if _, _, err := readWhole(path, testKey(t, testName.Image), testName); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestAFullDiskIsAnErrorOfTheWriter(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	defer full.Close()
	if _, err := NewWriter(full, testKey(t, testName.Image), testName, None); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

func TestAChunkThatWasNeverWrittenIsNotPassedOver(t *testing.T) {
	file, _ := os.Create(filepath.Join(t.TempDir(), "image"))
	defer file.Close()
	writer, err := NewWriter(file, testKey(t, testName.Image), testName, None)
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Put(1, []byte("second")); err != nil {
		t.Fatal(err)
	}
	if _, err := writer.Finish(); err == nil {
		t.Error("it was finished")
	}
}
