package image

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
)

// go test -bench . ./internal/image: what encrypting and decrypting cost one processor.
func BenchmarkPutIncompressible(b *testing.B) {
	plain := make([]byte, ChunkSize)
	rand.Read(plain)
	for _, compress := range []Compression{None, Auto} {
		b.Run(string(compress), func(b *testing.B) {
			file, err := os.Create(filepath.Join(b.TempDir(), "image"))
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			key, _ := KeyOf(make([]byte, KeySize), "image-0001")
			writer, err := NewWriter(file, key, testName, compress)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(ChunkSize)
			for b.Loop() {
				writer.end.Store(headerSize) // The same place of the file again and again, so that the disk is not what is measured.
				if err := writer.Put(0, plain); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	plain := make([]byte, ChunkSize)
	rand.Read(plain)
	file, err := os.Create(filepath.Join(b.TempDir(), "image"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	key, _ := KeyOf(make([]byte, KeySize), "image-0001")
	writer, err := NewWriter(file, key, testName, None)
	if err != nil {
		b.Fatal(err)
	}
	if err := writer.Put(0, plain); err != nil {
		b.Fatal(err)
	}
	if _, err := writer.Finish(); err != nil {
		b.Fatal(err)
	}
	reader, err := NewReader(file, key, testName)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(ChunkSize)
	for b.Loop() {
		if _, err := reader.open(0, plain); err != nil {
			b.Fatal(err)
		}
	}
}
