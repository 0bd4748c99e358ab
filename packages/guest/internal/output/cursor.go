package output

// Selection is what a cursor reads.
type Selection uint8

const (
	OnlyStdout Selection = iota
	OnlyStderr
	Both
)

// pieceBytes bounds one read, and so the memory of a slow reader.
const pieceBytes = 64 << 10

// Cursor reads a log from a place onwards. It is not safe for concurrent use.
type Cursor struct {
	log       *Log
	selection Selection
	at        int64 // an offset for one stream, a position for both
	expected  [2]int64
	buffer    []byte
}

// Piece is some bytes of one stream, or the announcement that bytes were dropped: then Data is nil and [Offset, DroppedTo) is gone.
// Data is valid until the next call.
type Piece struct {
	Stream    Stream
	Offset    int64
	Position  int64 // only meaningful when both streams are read
	Data      []byte
	DroppedTo int64
}

// Read makes a cursor at an offset (one stream) or a position (both).
func (l *Log) Read(selection Selection, from int64) *Cursor {
	cursor := &Cursor{log: l, selection: selection, at: max(from, 0), expected: [2]int64{-1, -1}}
	if cursor.at == 0 {
		cursor.expected = [2]int64{0, 0}
	}
	return cursor
}

// Next gives the next piece. Without one it says whether the log ended, and else gives a channel that closes when there may be more.
func (c *Cursor) Next() (piece Piece, found bool, ended bool, more <-chan struct{}) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	if c.selection == Both {
		piece, found = c.nextOfBoth()
	} else {
		piece, found = c.nextOfOne(Stream(c.selection))
	}
	if found {
		return piece, true, false, nil
	}
	if c.log.ended || c.log.closed {
		return Piece{}, false, true, nil
	}
	return Piece{}, false, false, c.log.watch()
}

func (c *Cursor) nextOfOne(stream Stream) (Piece, bool) {
	source := &c.log.streams[stream]
	if c.at < source.base() {
		piece := Piece{Stream: stream, Offset: c.at, DroppedTo: source.base()}
		c.at = source.base()
		return piece, true
	}
	if c.at >= source.end {
		return Piece{}, false
	}
	return c.take(stream, c.at, source.end-c.at), true
}

func (c *Cursor) nextOfBoth() (Piece, bool) {
	index := c.log.recordAt(c.at)
	if index == len(c.log.records) {
		return c.missingAtEnd()
	}
	item := c.log.records[index]
	skipped := max(c.at-item.position, 0)
	offset := item.offset + skipped
	if expected := c.expected[item.stream]; expected >= 0 && expected < offset {
		c.expected[item.stream] = offset
		return Piece{Stream: item.stream, Offset: expected, DroppedTo: offset}, true
	}
	c.at = item.position + skipped
	return c.take(item.stream, offset, item.length-skipped), true
}

// missingAtEnd announces what was dropped and has nothing after it.
func (c *Cursor) missingAtEnd() (Piece, bool) {
	for stream := range c.log.streams {
		expected, end := c.expected[stream], c.log.streams[stream].end
		if c.at < c.log.position && expected >= 0 && expected < end {
			c.expected[stream] = end
			return Piece{Stream: Stream(stream), Offset: expected, DroppedTo: end}, true
		}
	}
	c.at = max(c.at, c.log.position)
	return Piece{}, false
}

// take reads at most one piece and moves on. Bytes that should be there and cannot be read are announced as dropped.
func (c *Cursor) take(stream Stream, offset, available int64) Piece {
	piece := Piece{Stream: stream, Offset: offset, Position: c.at}
	wanted := min(available, pieceBytes)
	if int64(cap(c.buffer)) < wanted {
		c.buffer = make([]byte, wanted)
	}
	count, err := c.log.streams[stream].read(offset, c.buffer[:wanted])
	taken := int64(count)
	if err != nil || count == 0 {
		taken = available
		piece.DroppedTo = offset + taken
	} else {
		piece.Data = c.buffer[:count]
	}
	c.at += taken
	c.expected[stream] = offset + taken
	return piece
}

// Collect reads what is there now, at most limit bytes, and says whether something was left out or had been dropped.
func (l *Log) Collect(selection Selection, limit int64) (data []byte, truncated bool) {
	cursor := l.Read(selection, 0)
	for {
		piece, found, _, _ := cursor.Next()
		if !found {
			return data, truncated
		}
		if piece.Data == nil {
			truncated = true
			continue
		}
		room := limit - int64(len(data))
		if int64(len(piece.Data)) > room {
			return append(data, piece.Data[:room]...), true
		}
		data = append(data, piece.Data...)
	}
}

// Selects is what the cursor reads.
func (c *Cursor) Selects() Selection { return c.selection }
