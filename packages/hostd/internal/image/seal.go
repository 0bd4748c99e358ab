// Package image is the file format in which a sandbox's memory is kept: encrypted, authenticated, and readable from any offset.
//
// A file is a header, chunks, an index and a trailer. The header is one page: magic, version, the name of the image, the
// role of the file in it, and a salt. Each chunk is what was written in one piece, at most ChunkSize, as it was, compressed,
// or left out when it holds only zeros. The index lists all chunks with their tags. The trailer says where the index is.
//
// Every byte is bound: chunks and index are sealed with AES-256-GCM under a key that belongs to this file alone, derived
// from the image's key and the salt, so that a nonce is simply a chunk's number. What a chunk is sealed with names the
// header and the number; what the index is sealed with names header and trailer. So a flipped byte, a cut or swapped
// chunk, and a file of another image or role or an older one of the same name are all refused.
package image

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// ChunkSize is the most that is written in one piece, in bytes.
const ChunkSize = 256 << 10

// KeySize of every key here, in bytes.
const KeySize = 32

// ErrRefused is in the chain of every error that says the file is not what was written, or the key not the one it was written under.
var ErrRefused = errors.New("the image is damaged, or the key is not the one it was saved under")

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
}

// Name says which file of which image it is.
type Name struct{ Image, Role string }

// KeyOf derives an image's own key from the workspace's, so that who reads one image can read no other.
func KeyOf(workspace []byte, image string) ([]byte, error) {
	if len(workspace) != KeySize {
		return nil, fmt.Errorf("a key of %d bytes cannot be: it must have %d", len(workspace), KeySize)
	}
	return hkdf.Key(sha256.New, workspace, nil, "torpor image "+image, KeySize)
}

const (
	magic      = "TORPORIM"
	endMagic   = "TORPOREN"
	version    = 1
	headerSize = 4096 // A page, so that chunks that were left as they are lie on page boundaries.
	saltSize   = 32
	nameMax    = 64
)

// header: magic, version (4), chunk size (4), salt, then image and role, each a length byte and its text; zeros fill the page.
func newHeader(name Name) ([]byte, error) {
	if len(name.Image) > nameMax || len(name.Role) > nameMax {
		return nil, fmt.Errorf("the name %+v is too long for an image's header", name)
	}
	header := make([]byte, headerSize)
	copy(header, magic)
	binary.LittleEndian.PutUint32(header[8:], version)
	binary.LittleEndian.PutUint32(header[12:], ChunkSize)
	if _, err := rand.Read(header[16 : 16+saltSize]); err != nil {
		return nil, fmt.Errorf("drawing an image's salt: %w", err)
	}
	copy(header[16+saltSize:], nameField(name))
	return header, nil
}

func nameField(name Name) []byte {
	field := append([]byte{byte(len(name.Image))}, name.Image...)
	return append(append(field, byte(len(name.Role))), name.Role...)
}

func checkHeader(header []byte, name Name) error {
	switch {
	case string(header[:8]) != magic:
		return refused("it does not begin as an image does")
	case binary.LittleEndian.Uint32(header[8:]) != version || binary.LittleEndian.Uint32(header[12:]) != ChunkSize:
		return refused("it is of version %d, not %d", binary.LittleEndian.Uint32(header[8:]), version)
	}
	want := nameField(name)
	if got := header[16+saltSize : 16+saltSize+len(want)]; string(got) != string(want) {
		return refused("it is not %s of image %s", name.Role, name.Image)
	}
	return nil
}

// sealer holds what all chunks of one file have in common.
type sealer struct {
	aead   cipher.AEAD
	header [sha256.Size]byte
}

func newSealer(imageKey, header []byte) (*sealer, error) {
	key, err := hkdf.Key(sha256.New, imageKey, header[16:16+saltSize], "torpor image file", KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealer{aead: aead, header: sha256.Sum256(header)}, err
}

const tagSize = 16

func chunkNonce(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), number)
}

// chunkBond is what a chunk is bound to, besides its contents: the file, its number and how it is kept.
func (s *sealer) chunkBond(number uint64, c chunk) []byte {
	bond := binary.LittleEndian.AppendUint64(s.header[:sha256.Size:sha256.Size], number)
	return append(binary.LittleEndian.AppendUint32(bond, c.length), byte(c.kind))
}

// indexNonce can be no chunk's: those begin with zeros.
var indexNonce = []byte("torpor index")

func (s *sealer) indexBond(trailer []byte) []byte {
	return append(s.header[:sha256.Size:sha256.Size], trailer...)
}
