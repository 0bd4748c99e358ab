package output

import (
	"fmt"
	"os"
	"path/filepath"
)

// spillBytes is how much of a segment stays in memory; most commands never need a file.
const spillBytes = 16 << 10

type stream struct {
	name     string
	older    *segment
	newer    *segment
	end      int64
	sequence int
}

// segment is a run of bytes from start; in memory until it has a path.
type segment struct {
	start  int64
	length int64
	memory []byte
	path   string
	file   *os.File // open while being written to
}

func (s *stream) base() int64 {
	switch {
	case s.older != nil:
		return s.older.start
	case s.newer != nil:
		return s.newer.start
	}
	return s.end
}

func (s *stream) kept() int64 { return s.end - s.base() }

func (s *stream) append(dir string, data []byte, segmentBytes int64) {
	for len(data) > 0 {
		if s.newer == nil || s.newer.length >= segmentBytes {
			s.turn()
		}
		room := min(segmentBytes-s.newer.length, int64(len(data)))
		if err := s.newer.write(s.fileName(dir), data[:room]); err != nil {
			s.end += int64(len(data))
			s.dropAll()
			return
		}
		s.end += room
		data = data[room:]
	}
}

// turn begins a new segment and lets the oldest go.
func (s *stream) turn() {
	s.older.remove()
	s.older = s.newer
	s.older.rest()
	s.newer = &segment{start: s.end}
	s.sequence++
}

func (s *stream) fileName(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("%s.%d", s.name, s.sequence))
}

func (s *stream) dropAll() {
	s.older.remove()
	s.newer.remove()
	s.older, s.newer = nil, nil
}

func (s *stream) rest() {
	s.older.rest()
	s.newer.rest()
}

// read copies from the offset into the buffer, at most to the end of one segment. The offset lies in base..end.
func (s *stream) read(offset int64, buffer []byte) (int, error) {
	from := s.newer
	if s.older != nil && offset < s.older.start+s.older.length {
		from = s.older
	}
	if from == nil {
		return 0, nil
	}
	return from.read(offset-from.start, buffer)
}

func (g *segment) write(path string, data []byte) error {
	if g.path == "" && len(g.memory)+len(data) <= spillBytes {
		g.memory = append(g.memory, data...)
		g.length = int64(len(g.memory))
		return nil
	}
	if err := g.open(path); err != nil {
		return err
	}
	written, err := g.file.WriteAt(data, g.length)
	g.length += int64(written)
	return err
}

// open makes the file of the segment, or opens it again, and moves what was in memory there.
func (g *segment) open(path string) error {
	if g.file != nil {
		return nil
	}
	if g.path == "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		g.path = path
	}
	file, err := os.OpenFile(g.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if len(g.memory) > 0 {
		if _, err := file.WriteAt(g.memory, 0); err != nil {
			file.Close()
			return err
		}
		g.memory = nil
	}
	g.file = file
	return nil
}

func (g *segment) read(at int64, buffer []byte) (int, error) {
	wanted := min(int64(len(buffer)), g.length-at)
	if wanted <= 0 {
		return 0, nil
	}
	if g.path == "" {
		return copy(buffer, g.memory[at:at+wanted]), nil
	}
	file := g.file
	if file == nil {
		opened, err := os.Open(g.path)
		if err != nil {
			return 0, err
		}
		defer opened.Close()
		file = opened
	}
	return file.ReadAt(buffer[:wanted], at)
}

func (g *segment) rest() {
	if g != nil && g.file != nil {
		g.file.Close()
		g.file = nil
	}
}

func (g *segment) remove() {
	if g == nil {
		return
	}
	g.rest()
	if g.path != "" {
		os.Remove(g.path)
	}
}
