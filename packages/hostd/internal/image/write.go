package image

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

// Writer makes one file. Put may be called by many at once; Finish comes after the last.
type Writer struct {
	file  *os.File
	seal  *sealer
	pack  *packer
	end   atomic.Uint64
	mutex sync.Mutex
	// chunks in the order of their numbers, which is the order of what they stand for, not that on the disk.
	chunks []chunk
}

// NewWriter begins a file, which must be empty. The header takes the first page.
func NewWriter(file *os.File, imageKey []byte, name Name, compress Compression) (*Writer, error) {
	header, err := newHeader(name)
	if err != nil {
		return nil, err
	}
	seal, err := newSealer(imageKey, header)
	if err != nil {
		return nil, err
	}
	if _, err := file.WriteAt(header, 0); err != nil {
		return nil, fmt.Errorf("writing the header of %s: %w", name.Role, err)
	}
	w := &Writer{file: file, seal: seal, pack: newPacker(compress)}
	w.end.Store(headerSize)
	return w, nil
}

// scratch is what sealing one chunk needs besides the chunk itself.
type scratch struct{ gathered, packed, sealed []byte }

var scratches = sync.Pool{New: func() any {
	return &scratch{gathered: make([]byte, 0, ChunkSize), packed: make([]byte, 0, ChunkSize), sealed: make([]byte, 0, ChunkSize+tagSize)}
}}

// Warm does once what a process otherwise does when it first seals and opens a chunk: it takes the memory that this needs.
func Warm() {
	var taken []*scratch
	for range runtime.NumCPU() {
		use := scratches.Get().(*scratch)
		for _, buffer := range [][]byte{use.gathered, use.packed, use.sealed} {
			clear(buffer[:cap(buffer)])
		}
		taken = append(taken, use)
	}
	for _, use := range taken {
		scratches.Put(use)
	}
}

// Put keeps the pieces, together at most ChunkSize and not empty, as chunk number, which must be its own.
func (w *Writer) Put(number uint64, pieces ...[]byte) error {
	use := scratches.Get().(*scratch)
	defer scratches.Put(use)
	plain := gather(pieces, use)
	if len(plain) == 0 || len(plain) > ChunkSize {
		return fmt.Errorf("a chunk of %d bytes cannot be", len(plain))
	}
	made := chunk{length: uint32(len(plain)), kind: asItWas, at: headerSize}
	if allZero(plain) {
		made.kind = zeros
		w.note(number, made)
		return nil
	}
	if packed, pays := w.pack.try(plain, use.packed); pays {
		made.kind, plain = compressed, packed
	}
	sealed := w.seal.aead.Seal(use.sealed[:0], chunkNonce(number), plain, w.seal.chunkBond(number, made))
	made.stored = uint32(len(plain))
	copy(made.tag[:], sealed[len(plain):])
	made.at = w.end.Add(uint64(made.stored)) - uint64(made.stored)
	if _, err := w.file.WriteAt(sealed[:len(plain)], int64(made.at)); err != nil {
		return fmt.Errorf("writing a chunk: %w", err)
	}
	w.note(number, made)
	return nil
}

// gather avoids the copy where there is only one piece.
func gather(pieces [][]byte, use *scratch) []byte {
	if len(pieces) == 1 {
		return pieces[0]
	}
	use.gathered = use.gathered[:0]
	for _, piece := range pieces {
		use.gathered = append(use.gathered, piece...)
	}
	return use.gathered
}

var noughts [4096]byte

func allZero(plain []byte) bool {
	for len(plain) > 0 {
		n := min(len(plain), len(noughts))
		if !bytes.Equal(plain[:n], noughts[:n]) {
			return false
		}
		plain = plain[n:]
	}
	return true
}

func (w *Writer) note(number uint64, made chunk) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for uint64(len(w.chunks)) <= number {
		w.chunks = append(w.chunks, chunk{})
	}
	w.chunks[number] = made
}

// Finish writes index and trailer; without them the file is refused. It does not sync.
func (w *Writer) Finish() (Sum, error) {
	for number, c := range w.chunks {
		if c.length == 0 {
			return Sum{}, fmt.Errorf("chunk %d was never written", number)
		}
	}
	index, at := encodeIndex(w.chunks), w.end.Load()
	trailer := encodeTrailer(at, uint64(len(index)+tagSize), uint64(len(w.chunks)))
	tail := append(w.seal.aead.Seal(nil, indexNonce, index, w.seal.indexBond(trailer)), trailer...)
	if _, err := w.file.WriteAt(tail, int64(at)); err != nil {
		return Sum{}, fmt.Errorf("writing the index: %w", err)
	}
	return w.seal.sum(w.chunks, int64(at)+int64(len(tail))), nil
}
