package survey

import (
	"fmt"
	"time"
)

// Limits bound what a survey may cost: a tenant makes trees as large, deep and slow to read as it likes.
type Limits struct {
	// Entries is how many names may be looked at, all trees together.
	Entries int64 `json:"entries"`
	// Bytes is how much of files' contents may be read, all trees together.
	Bytes int64 `json:"bytes"`
	Ms    int64 `json:"ms"`
	// Listed is how many changes are told of one by one; the others are counted.
	Listed int `json:"listed"`
}

// depthMax is how many directories may lie in one another. A path that the kernel takes whole has fewer.
const depthMax = 2100

// LimitError says which limit ended a survey.
type LimitError struct{ Limit string }

func (e *LimitError) Error() string {
	return "going through the files was ended at the limit of " + e.Limit
}

// budget is what is left of the limits.
type budget struct {
	limits         Limits
	entries, bytes int64
	until          time.Time
}

func newBudget(limits Limits) *budget {
	return &budget{limits: limits, entries: limits.Entries, bytes: limits.Bytes, until: time.Now().Add(time.Duration(limits.Ms) * time.Millisecond)}
}

func (b *budget) spendEntries(count int) error {
	if b.entries -= int64(count); b.entries < 0 {
		return &LimitError{fmt.Sprintf("%d entries", b.limits.Entries)}
	}
	return b.inTime()
}

func (b *budget) spendBytes(count int64) error {
	if b.bytes -= count; b.bytes < 0 {
		return &LimitError{fmt.Sprintf("%d bytes to read", b.limits.Bytes)}
	}
	return b.inTime()
}

func (b *budget) inTime() error {
	if time.Now().After(b.until) {
		return &LimitError{fmt.Sprintf("%d ms", b.limits.Ms)}
	}
	return nil
}
