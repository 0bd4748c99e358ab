package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
)

const blockSize = 4096

// disk is a file that takes writes as a disk with a cache does: what was written before the last flush is safe, of the rest
// any part may be lost when the power is cut. The order "cut <seed>" writes down what is left then; from then on it goes on
// for whoever still uses it, and nothing of that is kept.
type disk struct {
	mu   sync.Mutex
	file *os.File
	size int64
	// cache holds what is newer than the file, by block.
	cache map[int64][]byte
	// written since the last flush, the oldest first.
	written []write
	isCut   bool
}

type write struct {
	at   int64
	data []byte
}

func openDisk(path string) (*disk, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size()%blockSize != 0 {
		return nil, fmt.Errorf("%s has %d bytes, which is no multiple of %d", path, info.Size(), blockSize)
	}
	return &disk{file: file, size: info.Size(), cache: map[int64][]byte{}}, nil
}

func (d *disk) order(line string) error {
	var seed uint64
	if _, err := fmt.Sscanf(line, "cut %d", &seed); err != nil {
		return fmt.Errorf("%q is not \"cut <seed>\"", line)
	}
	return d.cut(seed)
}

// cut keeps each write since the last flush or not; how likely is a matter of chance too.
func (d *disk) cut(seed uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isCut {
		return fmt.Errorf("the power is off already")
	}
	d.isCut = true
	chance := rand.New(rand.NewPCG(seed, 0))
	share := chance.Float64()
	for _, each := range d.written {
		// A disk keeps or loses a block whole, and a longer write in part.
		for at := int64(0); at < int64(len(each.data)); at += blockSize {
			if chance.Float64() >= share {
				continue
			}
			if _, err := d.file.WriteAt(each.data[at:min(at+blockSize, int64(len(each.data)))], each.at+at); err != nil {
				return err
			}
		}
	}
	d.written = nil
	return d.file.Sync()
}

func (d *disk) read(buffer []byte, at int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	buffer = buffer[:max(0, min(int64(len(buffer)), d.size-at))]
	if _, err := d.file.ReadAt(buffer, at); err != nil {
		return 0, err
	}
	for block := at / blockSize; block*blockSize < at+int64(len(buffer)); block++ {
		if newer, ok := d.cache[block]; ok {
			from := max(at, block*blockSize)
			copy(buffer[from-at:], newer[from-block*blockSize:])
		}
	}
	return len(buffer), nil
}

func (d *disk) write(data []byte, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at+int64(len(data)) > d.size {
		return fmt.Errorf("a write of %d bytes at %d is beyond the end", len(data), at)
	}
	for done := 0; done < len(data); {
		block, offset := (at+int64(done))/blockSize, (at+int64(done))%blockSize
		newer, ok := d.cache[block]
		if !ok {
			newer = make([]byte, blockSize)
			if _, err := d.file.ReadAt(newer, block*blockSize); err != nil {
				return err
			}
			d.cache[block] = newer
		}
		done += copy(newer[offset:], data[done:])
	}
	if !d.isCut {
		d.written = append(d.written, write{at, append([]byte(nil), data...)})
	}
	return nil
}

// flush makes all that was written safe.
func (d *disk) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isCut {
		return nil
	}
	for _, each := range d.written {
		if _, err := d.file.WriteAt(each.data, each.at); err != nil {
			return err
		}
	}
	d.written, d.cache = nil, map[int64][]byte{}
	return nil
}
