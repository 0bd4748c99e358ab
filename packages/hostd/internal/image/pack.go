package image

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Compression of a file's chunks.
type Compression string

const (
	// Auto compresses a file whose first chunks shrink well, and leaves any other alone.
	Auto Compression = "auto"
	None Compression = "none"
)

const (
	// samples are how many chunks are tried before the decision for the rest of the file.
	samples = 8
	// A chunk must shrink below 7/8 to be kept compressed, the samples together below 3/4: reading back costs time too.
	chunkPays, samplesPay = 7.0 / 8, 3.0 / 4
)

// packer decides by sampling whether compressing pays.
type packer struct {
	mutex         sync.Mutex
	left          int // Samples still to be taken.
	plain, packed int
	on            bool
}

func newPacker(compress Compression) *packer {
	if compress == None {
		return &packer{}
	}
	return &packer{left: samples, on: true}
}

func (p *packer) wanted() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.on
}

func (p *packer) learn(plain, packed int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.left == 0 {
		return
	}
	p.left, p.plain, p.packed = p.left-1, p.plain+plain, p.packed+packed
	if p.left == 0 {
		p.on = float64(p.packed) < samplesPay*float64(p.plain)
	}
}

// try gives the compressed bytes, in into's memory, when keeping them pays.
func (p *packer) try(plain, into []byte) ([]byte, bool) {
	if !p.wanted() {
		return nil, false
	}
	packed := encoder().EncodeAll(plain, into[:0])
	p.learn(len(plain), len(packed))
	return packed, float64(len(packed)) < chunkPays*float64(len(plain))
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
