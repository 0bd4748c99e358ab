package image

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// kind is how a chunk's bytes are kept.
type kind byte

const (
	asItWas kind = iota
	compressed
	zeros // Nothing is kept of it.
)

// chunk is one line of the index: where it is kept, in how many bytes, and how many it stands for.
type chunk struct {
	at     uint64
	stored uint32
	length uint32
	kind   kind
	tag    [tagSize]byte
}

const chunkLine = 8 + 4 + 4 + 1 + tagSize

func encodeIndex(chunks []chunk) []byte {
	out := make([]byte, 0, len(chunks)*chunkLine)
	for _, c := range chunks {
		out = binary.LittleEndian.AppendUint64(out, c.at)
		out = binary.LittleEndian.AppendUint32(out, c.stored)
		out = binary.LittleEndian.AppendUint32(out, c.length)
		out = append(append(out, byte(c.kind)), c.tag[:]...)
	}
	return out
}

// decodeIndex reads lines that were authenticated, and still trusts none that lead out of [headerSize, end) or grow in reading.
func decodeIndex(text []byte, end uint64) ([]chunk, error) {
	if len(text)%chunkLine != 0 {
		return nil, refused("its index has half a line")
	}
	chunks := make([]chunk, len(text)/chunkLine)
	for i := range chunks {
		line := text[i*chunkLine:]
		c := chunk{
			at: binary.LittleEndian.Uint64(line), stored: binary.LittleEndian.Uint32(line[8:]),
			length: binary.LittleEndian.Uint32(line[12:]), kind: kind(line[16]),
		}
		copy(c.tag[:], line[17:])
		sound := c.length > 0 && c.length <= ChunkSize && c.stored <= ChunkSize && c.at >= headerSize && c.at <= end && uint64(c.stored) <= end-c.at
		switch c.kind {
		case asItWas:
			sound = sound && c.stored == c.length
		case compressed:
			sound = sound && c.stored > 0
		case zeros:
			sound = sound && c.stored == 0
		default:
			sound = false
		}
		if !sound {
			return nil, refused("its index has an impossible line")
		}
		chunks[i] = c
	}
	return chunks, nil
}

// trailer: magic, then where the index begins, how long it is sealed, how many chunks it lists; all 8 bytes.
const trailerSize = 32

func encodeTrailer(at, sealed, chunks uint64) []byte {
	out := append(make([]byte, 0, trailerSize), endMagic...)
	for _, number := range []uint64{at, sealed, chunks} {
		out = binary.LittleEndian.AppendUint64(out, number)
	}
	return out
}

// Sum tells one whole file from any other: how many bytes it has on the disk, how many it stands for, and a digest over all lengths and tags.
type Sum struct {
	Bytes  int64  `json:"bytes"`
	Length int64  `json:"length"`
	Digest string `json:"digest"`
}

func (s *sealer) sum(chunks []chunk, fileSize int64) Sum {
	sum := Sum{Bytes: fileSize}
	digest := sha256.New()
	digest.Write(s.header[:])
	digest.Write(encodeIndex(chunks))
	for _, c := range chunks {
		sum.Length += int64(c.length)
	}
	sum.Digest = hex.EncodeToString(digest.Sum(nil))
	return sum
}

// DigestOf puts the digests of an image's files together, in the order given.
func DigestOf(files ...Sum) string {
	digest := sha256.New()
	for _, file := range files {
		digest.Write([]byte(file.Digest + "\n"))
	}
	return hex.EncodeToString(digest.Sum(nil))
}
