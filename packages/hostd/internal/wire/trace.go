package wire

import "strings"

// TraceID is the trace of the span in which the client asks, 32 hex digits, or "" where it gave no traceparent (W3C Trace Context) that is one: a
// verb is not refused for its trace.
func (r Request) TraceID() string {
	version, rest, _ := strings.Cut(r.Traceparent, "-")
	trace, rest, _ := strings.Cut(rest, "-")
	span, flags, _ := strings.Cut(rest, "-")
	if !isHex(version, 2) || !isHex(trace, 32) || !isHex(span, 16) || !isHex(flags, 2) || strings.Trim(trace, "0") == "" {
		return ""
	}
	return trace
}

func isHex(text string, digits int) bool {
	return len(text) == digits && strings.Trim(text, "0123456789abcdef") == ""
}
