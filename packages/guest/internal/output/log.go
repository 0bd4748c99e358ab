// Package output keeps what processes wrote, so that any reader can come back to any offset.
//
// Words: a *stream* is stdout or stderr; an *offset* counts the bytes of one stream since the process began; a *position*
// counts the bytes of both streams together in the order they came. Both stay true when the oldest half was dropped.
// A stream is held in two segments: when the newer is full the older goes. Small output stays in memory; a segment that grows
// past spillBytes moves to a file. Readers that follow sleep on a channel that the next write closes.
package output

import (
	"sort"
	"sync"
)

type Stream uint8

const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// maxRecords bounds the order index of one process (24 bytes each).
const maxRecords = 1 << 18

// Log is the output of one process over all its restarts.
type Log struct {
	dir          string
	segmentBytes int64

	mu       sync.Mutex
	streams  [2]stream
	records  []record
	position int64
	ended    bool
	closed   bool
	changed  chan struct{}
	watched  bool
}

// record says that length bytes of a stream, from offset, came at position.
type record struct {
	position int64
	offset   int64
	length   int64
	stream   Stream
}

// NewLog keeps at most capBytes of each stream, in dir once it is more than a little. Dir is made when needed.
func NewLog(dir string, capBytes int64) *Log {
	log := &Log{dir: dir, segmentBytes: max(capBytes/2, 1), changed: make(chan struct{})}
	log.streams[Stdout].name = Stdout.String()
	log.streams[Stderr].name = Stderr.String()
	return log
}

// Append adds bytes that a stream gave. When they cannot be kept (the disk is full) they count as dropped, never as an error of the program.
func (l *Log) Append(stream Stream, data []byte) {
	if len(data) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	target := &l.streams[stream]
	offset := target.end
	base := target.base()
	target.append(l.dir, data, l.segmentBytes)
	l.index(stream, offset, int64(len(data)))
	if target.base() != base || len(l.records) > maxRecords {
		l.forgetDropped()
	}
	l.wake()
}

func (l *Log) index(stream Stream, offset, length int64) {
	last := len(l.records) - 1
	if last >= 0 && l.records[last].stream == stream && l.records[last].offset+l.records[last].length == offset {
		l.records[last].length += length
	} else {
		l.records = append(l.records, record{position: l.position, offset: offset, length: length, stream: stream})
	}
	l.position += length
}

// forgetDropped removes the records whose bytes are gone, and the older half when there are too many.
func (l *Log) forgetDropped() {
	records := l.records
	if len(records) > maxRecords {
		records = records[len(records)/2:]
	}
	kept := make([]record, 0, len(records))
	for _, item := range records {
		gone := l.streams[item.stream].base() - item.offset
		if gone >= item.length {
			continue
		}
		if gone > 0 {
			item.position += gone
			item.offset += gone
			item.length -= gone
		}
		kept = append(kept, item)
	}
	l.records = kept
}

// End says that the process is over: followers get what is there and stop. Later bytes of left-over descendants are still kept.
func (l *Log) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.wake()
}

// Drop forgets all bytes and takes no more; offsets stay.
func (l *Log) Drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for index := range l.streams {
		l.streams[index].dropAll()
	}
	l.records = nil
	l.wake()
}

// Rest closes the files between writes; called when no writer is left.
func (l *Log) Rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for index := range l.streams {
		l.streams[index].rest()
	}
}

// Sizes are the bytes that the streams have given so far, kept or not.
func (l *Log) Sizes() (stdout, stderr int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams[Stdout].end, l.streams[Stderr].end
}

// Kept is the number of bytes held, in memory and in files.
func (l *Log) Kept() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.streams[Stdout].kept() + l.streams[Stderr].kept()
}

func (l *Log) wake() {
	if l.watched {
		close(l.changed)
		l.changed = make(chan struct{})
		l.watched = false
	}
}

func (l *Log) watch() <-chan struct{} {
	l.watched = true
	return l.changed
}

// recordAt is the index of the first record that ends after the position.
func (l *Log) recordAt(position int64) int {
	return sort.Search(len(l.records), func(index int) bool {
		return l.records[index].position+l.records[index].length > position
	})
}
