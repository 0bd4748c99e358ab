package image

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Compression of a file's chunks.
type Compression string

const (
	// Auto compresses what shrinks well, and leaves the rest alone.
	Auto Compression = "auto"
	None Compression = "none"
)

const (
	// chunkPays: a chunk must shrink below 7/8 to be kept compressed, since reading it back costs time too.
	chunkPays = 7.0 / 8
	// pauseMax chunks at most are left alone before another is tried.
	pauseMax = 31
)

// packer tries each chunk while that pays, and ever fewer after one that did not: what does not shrink, such as a cache of
// pictures, lies together in memory, and trying it would cost a save as much again as encrypting it.
type packer struct {
	mutex sync.Mutex
	never bool
	pause int // How many are left alone after the last that did not pay,
	left  int // and how many of these still.
}

func newPacker(compress Compression) *packer { return &packer{never: compress == None} }

func (p *packer) wanted() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.left > 0 {
		p.left--
		return false
	}
	return !p.never
}

func (p *packer) learn(pays bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if pays {
		p.pause, p.left = 0, 0
		return
	}
	p.pause = min(2*p.pause+1, pauseMax)
	p.left = p.pause
}

// try gives the compressed bytes, in into's memory, when keeping them pays.
func (p *packer) try(plain, into []byte) ([]byte, bool) {
	if !p.wanted() {
		return nil, false
	}
	packed := encoder().EncodeAll(plain, into[:0])
	pays := float64(len(packed)) < chunkPays*float64(len(plain))
	p.learn(pays)
	return packed, pays
}

var encoder = sync.OnceValue(func() *zstd.Encoder {
	made, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // Only its options can be wrong.
	}
	return made
})

// decoder refuses to make more of a chunk than a chunk can be.
var decoder = sync.OnceValue(func() *zstd.Decoder {
	made, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(ChunkSize), zstd.WithDecoderMaxWindow(ChunkSize), zstd.IgnoreChecksum(true))
	if err != nil {
		panic(err)
	}
	return made
})
