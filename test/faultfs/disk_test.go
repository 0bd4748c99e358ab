package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func newDisk(t *testing.T, blocks int) (*disk, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, blocks*blockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := openDisk(path)
	if err != nil {
		t.Fatal(err)
	}
	return made, path
}

func (d *disk) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestACutKeepsWhatWasFlushedAndSomeOfTheRest(t *testing.T) {
	const blocks = 64
	kept := map[byte]int{}
	for seed := range uint64(8) {
		d, path := newDisk(t, blocks)
		d.must(t, d.write(bytes.Repeat([]byte{1}, blocks*blockSize), 0))
		d.must(t, d.flush())
		d.must(t, d.write(bytes.Repeat([]byte{2}, blocks*blockSize), 0))
		d.must(t, d.cut(seed))
		d.must(t, d.write(bytes.Repeat([]byte{3}, blocks*blockSize), 0))
		d.must(t, d.flush())
		found, err := os.ReadFile(path)
		d.must(t, err)
		for at := 0; at < len(found); at += blockSize {
			block := found[at : at+blockSize]
			if !bytes.Equal(block, bytes.Repeat(block[:1], blockSize)) {
				t.Fatalf("seed %d tore the block at %d", seed, at)
			}
			kept[block[0]]++
		}
	}
	if len(kept) != 2 || kept[1] == 0 || kept[2] == 0 {
		t.Errorf("blocks kept by what was written to them: %v, want some of 1, some of 2, and nothing else", kept)
	}
}

func TestWhatWasWrittenIsReadFlushedOrNotCutOrNot(t *testing.T) {
	d, _ := newDisk(t, 4)
	want := make([]byte, 4*blockSize)
	put := func(at int, text string) {
		copy(want[at:], text)
		d.must(t, d.write([]byte(text), int64(at)))
	}
	steps := []func(){
		func() { put(100, "first") },
		func() { d.must(t, d.flush()) },
		func() { put(blockSize-3, "over the edge") },
		func() { d.must(t, d.cut(1)) },
		func() { put(102, "later") },
	}
	for n, step := range steps {
		step()
		for _, from := range []int{0, 101, blockSize - 1} {
			found := make([]byte, len(want)-from)
			count, err := d.read(found, int64(from))
			d.must(t, err)
			if count != len(found) || !bytes.Equal(found, want[from:]) {
				t.Errorf("after step %d, from %d on, something else was read than was written", n, from)
			}
		}
	}
}
