package api

import (
	"net/http"
	"time"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/ports"
)

const (
	portLookFirst = 5 * time.Millisecond
	portLookLast  = 100 * time.Millisecond
)

func (s *Server) listPorts(response http.ResponseWriter, _ *http.Request) error {
	listening, err := ports.Listening()
	if err != nil {
		return err
	}
	return answer(response, map[string]any{"ports": s.shown(listening)})
}

// shown is the listeners of the instance, ours left out.
func (s *Server) shown(listening []ports.Listener) []any {
	shown := []any{}
	for _, listener := range listening {
		if listener.Port != s.Port {
			shown = append(shown, s.withProcess(listener))
		}
	}
	return shown
}

func (s *Server) withProcess(listener ports.Listener) any {
	shown := struct {
		ports.Listener
		ProcessID string `json:"processId,omitempty"`
	}{Listener: listener}
	if listener.Pid != 0 {
		// Each started process leads a session, so its descendants are known by theirs.
		shown.ProcessID = s.Processes.RunningID(ports.SessionOf(listener.Pid))
	}
	return shown
}

// waitForPort looks again and again, as the kernel tells nobody about new listeners; ever slower, and only while somebody waits.
func (s *Server) waitForPort(response http.ResponseWriter, request *http.Request) error {
	port, err := portOf(request.PathValue("port"))
	if err != nil {
		return err
	}
	limit, err := wait(request, "waitMs")
	if err != nil {
		return err
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for pause := portLookFirst; ; pause = min(pause*3/2, portLookLast) {
		if ports.IsListening(port) {
			return answer(response, map[string]any{"port": port, "listening": true})
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-deadline.C:
			again.Stop()
			return fault.Failed("nothing listens on port %d after %d ms", port, limit.Milliseconds())
		case <-request.Context().Done():
			again.Stop()
			return nil
		}
	}
}
