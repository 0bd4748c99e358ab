package host

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"torpor.dev/hostd/internal/wire"
)

// Each verb is told of in one line, under the trace of whoever asked: which verb on what, how long it took (waiting for its turn included), and how
// it ended. Arguments may hold a tenant's secrets and are not in it.

// quiet verbs are asked in a loop, or hold up a request that wakes an instance: when they succeed in time, nobody is told.
var quiet = map[string]bool{
	"hello": true, "node.usage": true, "inventory": true, "disk.usage": true, "disk.stats": true, "volume.usage": true,
	"sandbox.state": true, "sandbox.stats": true, "sandbox.pause": true, "sandbox.resume": true, "sandbox.lean": true,
}

// slow is from when on a quiet verb is told of all the same.
const slow = 50 * time.Millisecond

func (h *Host) note(request wire.Request, took time.Duration, err error) {
	level := slog.LevelInfo
	switch {
	case err != nil:
		level = slog.LevelWarn
	case quiet[request.Verb] && took <= slow:
		level = slog.LevelDebug
	}
	if h.Log.Enabled(context.Background(), level) {
		h.Log.LogAttrs(context.Background(), level, "verb", wide(request, took, err)...)
	}
}

func wide(request wire.Request, took time.Duration, err error) []slog.Attr {
	var subject struct{ ID, Volume string }
	_ = json.Unmarshal(request.Args, &subject) // Only for the line; the verb itself judged the arguments.
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	line := []slog.Attr{slog.String("verb", request.Verb), slog.Float64("ms", float64(took.Microseconds())/1000), slog.String("outcome", outcome)}
	for _, known := range []struct{ name, value string }{{"id", subject.ID}, {"volume", subject.Volume}, {"traceId", request.TraceID()}} {
		if known.value != "" {
			line = append(line, slog.String(known.name, known.value))
		}
	}
	if err != nil {
		line = append(line, slog.String("code", string(wire.AsError(err).Code)), slog.String("err", err.Error()))
	}
	return line
}
