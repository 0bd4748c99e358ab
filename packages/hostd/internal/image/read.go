package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"sync"
)

// Reader reads one finished file, from any offset, by many at once.
type Reader struct {
	file   *os.File
	seal   *sealer
	size   int64
	chunks []chunk
	// starts[i] is the offset of what chunk i stands for; one more tells the end.
	starts []uint64
	mutex  sync.Mutex
	recent [recentMax]opened
	turn   int
}

// recentMax chunks are kept open for whoever reads them in parts.
const recentMax = 4

type opened struct {
	number int
	plain  []byte
}

// NewReader checks everything but the chunks themselves, which are checked as they are read.
func NewReader(file *os.File, imageKey []byte, name Name) (*Reader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at %s: %w", name.Role, err)
	}
	header, trailer := make([]byte, headerSize), make([]byte, trailerSize)
	if info.Size() < headerSize+tagSize+trailerSize {
		return nil, refused("%s is cut short", name.Role)
	}
	if _, err := file.ReadAt(header, 0); err != nil {
		return nil, fmt.Errorf("reading the header of %s: %w", name.Role, err)
	}
	if err := checkHeader(header, name); err != nil {
		return nil, err
	}
	if _, err := file.ReadAt(trailer, info.Size()-trailerSize); err != nil {
		return nil, fmt.Errorf("reading the trailer of %s: %w", name.Role, err)
	}
	seal, err := newSealer(imageKey, header)
	if err != nil {
		return nil, err
	}
	r := &Reader{file: file, seal: seal, size: info.Size()}
	return r, r.readIndex(trailer)
}

func (r *Reader) readIndex(trailer []byte) error {
	at, sealed, count := binary.LittleEndian.Uint64(trailer[8:]), binary.LittleEndian.Uint64(trailer[16:]), binary.LittleEndian.Uint64(trailer[24:])
	room := uint64(r.size) - headerSize - trailerSize
	if string(trailer[:8]) != endMagic || at < headerSize || sealed < tagSize || sealed > room || at-headerSize != room-sealed || count != (sealed-tagSize)/chunkLine {
		return refused("it does not end as an image does")
	}
	text := make([]byte, sealed)
	if _, err := r.file.ReadAt(text, int64(at)); err != nil {
		return fmt.Errorf("reading the index: %w", err)
	}
	index, err := r.seal.aead.Open(text[:0], indexNonce, text, r.seal.indexBond(trailer))
	if err != nil {
		return refused("its index is not the one that was written")
	}
	if r.chunks, err = decodeIndex(index, at); err != nil {
		return err
	}
	r.starts = make([]uint64, len(r.chunks)+1)
	for i, c := range r.chunks {
		r.starts[i+1] = r.starts[i] + uint64(c.length)
	}
	return nil
}

// Length is how many bytes the file stands for.
func (r *Reader) Length() int64 { return int64(r.starts[len(r.chunks)]) }

// ReadAt fills the pieces, one after the other, from offset on. Fewer bytes than asked come with io.EOF or another error.
func (r *Reader) ReadAt(offset uint64, pieces ...[]byte) (int, error) {
	done := 0
	for len(pieces) > 0 {
		if len(pieces[0]) == 0 {
			pieces = pieces[1:]
			continue
		}
		if offset >= uint64(r.Length()) {
			return done, io.EOF
		}
		number := sort.Search(len(r.chunks), func(i int) bool { return r.starts[i+1] > offset })
		n, err := r.readFrom(number, int(offset-r.starts[number]), pieces[0])
		done, offset, pieces[0] = done+n, offset+uint64(n), pieces[0][n:]
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readFrom copies as much as there is of one chunk. Where all of it is wanted in one place, it is decrypted right there.
func (r *Reader) readFrom(number, skip int, into []byte) (int, error) {
	length := int(r.chunks[number].length)
	if skip == 0 && len(into) >= length {
		if _, err := r.open(number, into[:length:length]); err != nil {
			return 0, err
		}
		return length, nil
	}
	plain, err := r.inParts(number)
	if err != nil {
		return 0, err
	}
	return copy(into, plain[skip:]), nil
}

func (r *Reader) inParts(number int) ([]byte, error) {
	r.mutex.Lock()
	for _, kept := range r.recent {
		if kept.plain != nil && kept.number == number {
			r.mutex.Unlock()
			return kept.plain, nil
		}
	}
	r.mutex.Unlock()
	plain, err := r.open(number, make([]byte, r.chunks[number].length))
	if err != nil {
		return nil, err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.recent[r.turn] = opened{number, plain}
	r.turn = (r.turn + 1) % recentMax
	return plain, nil
}

// open fills into, which has exactly the chunk's length, and gives it.
func (r *Reader) open(number int, into []byte) ([]byte, error) {
	c := r.chunks[number]
	if c.kind == zeros {
		clear(into)
		return into, nil
	}
	use := scratches.Get().(*scratch)
	defer scratches.Put(use)
	sealed := use.sealed[:c.stored]
	if _, err := r.file.ReadAt(sealed, int64(c.at)); errors.Is(err, io.EOF) {
		return nil, refused("chunk %d is cut short", number)
	} else if err != nil {
		return nil, fmt.Errorf("reading chunk %d: %w", number, err)
	}
	sealed = append(sealed, c.tag[:]...)
	target := into[:0]
	if c.kind == compressed {
		target = use.packed[:0]
	}
	plain, err := r.seal.aead.Open(target, chunkNonce(uint64(number)), sealed, r.seal.chunkBond(uint64(number), c))
	if err != nil {
		return nil, refused("chunk %d is not the one that was written", number)
	}
	if c.kind != compressed {
		return plain, nil
	}
	plain, err = decoder().DecodeAll(plain, into[:0])
	if err != nil || len(plain) != len(into) {
		return nil, refused("chunk %d does not unpack to what it stands for", number)
	}
	if &plain[0] != &into[0] { // The decoder may use other memory than it was given.
		copy(into, plain)
	}
	return into, nil
}

// Verify reads every chunk and gives the sum of the whole.
func (r *Reader) Verify() (Sum, error) {
	plain := make([]byte, ChunkSize)
	kept := uint64(0)
	for number, c := range r.chunks {
		if _, err := r.open(number, plain[:c.length:c.length]); err != nil {
			return Sum{}, err
		}
		kept += uint64(c.stored)
	}
	if index := uint64(len(r.chunks)*chunkLine + tagSize); headerSize+kept+index+trailerSize != uint64(r.size) {
		return Sum{}, refused("it has bytes that no chunk stands for")
	}
	return r.seal.sum(r.chunks, r.size), nil
}
