package host

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"torpor.dev/hostd/internal/wire"
)

// told is the one line that an operator reads about a verb, or nil.
func told(t *testing.T, request wire.Request, took time.Duration, err error) map[string]any {
	t.Helper()
	var out bytes.Buffer
	h := &Host{Options: Options{Log: slog.New(slog.NewJSONHandler(&out, nil))}}
	h.note(request, took, err)
	if out.Len() == 0 {
		return nil
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not one line of JSON: %q", out.String())
	}
	return line
}

func TestAVerbIsToldOfUnderTheTraceOfWhoAsked(t *testing.T) {
	request := wire.Request{
		Verb: "sandbox.create", Args: json.RawMessage(`{"id":"inst0001","env":["TOKEN=secret"]}`),
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	line := told(t, request, 1500*time.Microsecond, nil)
	for name, want := range map[string]any{
		"level": "INFO", "verb": "sandbox.create", "id": "inst0001", "traceId": "0af7651916cd43dd8448eb211c80319c", "ms": 1.5, "outcome": "ok",
	} {
		if line[name] != want {
			t.Errorf("%s is %v, want %v", name, line[name], want)
		}
	}
	if len(line) != 8 { // Those, the time and the message.
		t.Errorf("the line says more than it should: %v", line)
	}
}

func TestPauseAndResumeAreToldOfWhenTheyFailOrAreSlow(t *testing.T) {
	for _, verb := range []string{"sandbox.pause", "sandbox.resume", "sandbox.state"} {
		request := wire.Request{Verb: verb, Args: json.RawMessage(`{"id":"inst0001"}`)}
		if line := told(t, request, 3*time.Millisecond, nil); line != nil {
			t.Errorf("%s: %v", verb, line)
		}
		if line := told(t, request, 51*time.Millisecond, nil); line["level"] != "INFO" {
			t.Errorf("%s that took long: %v", verb, line)
		}
		line := told(t, request, time.Millisecond, wire.Errorf(wire.Busy, "later"))
		if line["level"] != "WARN" || line["outcome"] != "failed" || line["code"] != "busy" {
			t.Errorf("%s that failed: %v", verb, line)
		}
	}
}
