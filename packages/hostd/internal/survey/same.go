package survey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sameContents says that two files of one size hold the same only when that is proven: they are the very same blocks of
// the pool, or every byte was read. Times prove nothing; a tenant may write twice within one tick of the kernel's clock.
func sameContents(a, b *os.File, areOwn bool, spend *budget) (bool, error) {
	if areOwn {
		are, err := areOneExtents(a, b, spend)
		if are || err != nil {
			return are, err
		}
	}
	return readSame(a, b, spend)
}

const chunk = 256 << 10

// readSame passes over what is a hole in both, however large.
func readSame(a, b *os.File, spend *budget) (bool, error) {
	left, right := make([]byte, chunk), make([]byte, chunk)
	for offset := int64(0); ; {
		next, err := nextData(a, b, offset)
		if err != nil {
			return false, err
		}
		if next < 0 {
			return true, nil
		}
		offset = next - next%4096
		n, err := readAt(a, left, offset)
		if err != nil {
			return false, err
		}
		m, err := readAt(b, right, offset)
		if err != nil {
			return false, err
		}
		if err := spend.spendBytes(int64(n) + int64(m)); err != nil {
			return false, err
		}
		if !bytes.Equal(left[:n], right[:m]) {
			return false, nil
		}
		if n == 0 {
			return true, nil
		}
		offset += int64(n)
	}
}

func readAt(file *os.File, into []byte, offset int64) (int, error) {
	n, err := file.ReadAt(into, offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("reading: %w", err)
	}
	return n, nil
}

// nextData is where from an offset on either has anything; −1 when neither has.
func nextData(a, b *os.File, offset int64) (int64, error) {
	out := int64(-1)
	for _, file := range []*os.File{a, b} {
		at, err := unix.Seek(int(file.Fd()), offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("looking for data: %w", err)
		}
		if out < 0 || at < out {
			out = at
		}
	}
	return out, nil
}

// struct fiemap, with room for so many extents of 56 bytes.
const (
	ioctlFiemap   = 0xc020660b
	fiemapHeader  = 32
	fiemapExtent  = 56
	extentsAtOnce = 128
)

const (
	extentLast      = 0x1
	extentUnwritten = 0x800
	// Of these the address does not tell the contents, or not all of them: unknown, not allocated yet, compressed, encrypted, not aligned, inline, packed.
	extentsUntold = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400
)

type extent struct {
	logical, physical, length uint64
	isUnwritten               bool
}

// areOneExtents says whether two files of one pool are made of the very same blocks at the same offsets. Blocks that
// somebody refers to are never written again.
func areOneExtents(a, b *os.File, spend *budget) (bool, error) {
	for start := uint64(0); ; {
		mine, isTold, isLast, err := extents(a, start)
		if err != nil || !isTold {
			return false, err
		}
		theirs, areTold, areLast, err := extents(b, start)
		if err != nil || !areTold || isLast != areLast || len(mine) != len(theirs) {
			return false, err
		}
		for i := range mine {
			if mine[i] != theirs[i] {
				return false, nil
			}
		}
		if isLast || len(mine) == 0 {
			return true, nil
		}
		if err := spend.inTime(); err != nil {
			return false, err
		}
		start = mine[len(mine)-1].logical + mine[len(mine)-1].length
	}
}

func extents(of *os.File, start uint64) (found []extent, areTold, isLast bool, err error) {
	argument := make([]byte, fiemapHeader+extentsAtOnce*fiemapExtent)
	binary.NativeEndian.PutUint64(argument[0:], start)
	binary.NativeEndian.PutUint64(argument[8:], ^uint64(0)-start)
	binary.NativeEndian.PutUint32(argument[24:], extentsAtOnce)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, of.Fd(), ioctlFiemap, uintptr(unsafe.Pointer(&argument[0])))
	if errno == unix.EOPNOTSUPP || errno == unix.ENOTTY {
		return nil, false, false, nil
	}
	if errno != 0 {
		return nil, false, false, fmt.Errorf("asking where the contents lie: %w", errno)
	}
	for i := range int(binary.NativeEndian.Uint32(argument[20:])) {
		one := argument[fiemapHeader+i*fiemapExtent:]
		flags := binary.NativeEndian.Uint32(one[40:])
		if flags&extentsUntold != 0 {
			return nil, false, false, nil
		}
		isLast = flags&extentLast != 0
		found = append(found, extent{
			logical: binary.NativeEndian.Uint64(one[0:]), physical: binary.NativeEndian.Uint64(one[8:]), length: binary.NativeEndian.Uint64(one[16:]),
			isUnwritten: flags&extentUnwritten != 0,
		})
	}
	return found, true, isLast, nil
}
