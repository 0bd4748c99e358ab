package api

import (
	"net/http"
	"time"
	"unicode/utf8"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/output"
	"torpor/guest/internal/process"
)

const (
	outputLimitDefault = 4 << 20
	outputLimitMax     = 64 << 20
	// stdinBytes bounds one write to a program's standard input.
	stdinBytes = 64 << 20
)

// finished is a process with its output inline.
type finished struct {
	process.View
	Stdout    string `json:"stdout"`
	Stderr    string `json:"stderr"`
	Logs      string `json:"logs"`
	Truncated bool   `json:"truncated"`
}

func (s *Server) startProcess(response http.ResponseWriter, request *http.Request) error {
	var ask struct {
		process.Ask
		WaitMs      *int64 `json:"waitMs"`
		OutputLimit *int64 `json:"outputLimit"`
	}
	if err := readJSON(response, request, &ask); err != nil {
		return err
	}
	if ask.WaitMs != nil && (*ask.WaitMs < 0 || *ask.WaitMs > waitMax.Milliseconds()) {
		return fault.BadRequest("waitMs is %d; expected 0 to %d", *ask.WaitMs, waitMax.Milliseconds())
	}
	limit := int64(outputLimitDefault)
	if ask.OutputLimit != nil {
		limit = *ask.OutputLimit
	}
	if limit < 0 || limit > outputLimitMax {
		return fault.BadRequest("outputLimit is %d; expected 0 to %d", limit, outputLimitMax)
	}
	started, err := s.Processes.Start(ask.Ask, s.Instance.Surroundings())
	if err != nil {
		return err
	}
	if ask.WaitMs == nil {
		return answer(response, started.View())
	}
	awaitExit(request, started, time.Duration(*ask.WaitMs)*time.Millisecond)
	return answer(response, inline(started, limit))
}

func awaitExit(request *http.Request, started *process.Process, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-started.Settled():
	case <-timer.C:
	case <-request.Context().Done():
	}
}

func inline(started *process.Process, limit int64) finished {
	result := finished{View: started.View()}
	for _, part := range []struct {
		selection output.Selection
		into      *string
	}{{output.OnlyStdout, &result.Stdout}, {output.OnlyStderr, &result.Stderr}, {output.Both, &result.Logs}} {
		data, truncated := started.Log.Collect(part.selection, limit)
		if truncated {
			data = withoutPartialRune(data)
			result.Truncated = true
		}
		*part.into = string(data)
	}
	return result
}

// withoutPartialRune cuts off the beginning of a character whose end was cut off.
func withoutPartialRune(data []byte) []byte {
	for back := 1; back <= utf8.UTFMax && back <= len(data); back++ {
		first := data[len(data)-back]
		if utf8.RuneStart(first) {
			if !utf8.FullRune(data[len(data)-back:]) {
				return data[:len(data)-back]
			}
			return data
		}
	}
	return data
}

func (s *Server) listProcesses(response http.ResponseWriter, _ *http.Request) error {
	views := []process.View{}
	for _, item := range s.Processes.All() {
		views = append(views, item.View())
	}
	return answer(response, map[string]any{"processes": views})
}

func (s *Server) getProcess(response http.ResponseWriter, request *http.Request) error {
	found, err := s.Processes.Find(request.PathValue("id"))
	if err != nil {
		return err
	}
	limit, err := wait(request, "waitMs")
	if err != nil {
		return err
	}
	if limit > 0 {
		awaitExit(request, found, limit)
	}
	return answer(response, found.View())
}

func (s *Server) signalProcess(response http.ResponseWriter, request *http.Request) error {
	found, err := s.Processes.Find(request.PathValue("id"))
	if err != nil {
		return err
	}
	var ask struct {
		Signal string `json:"signal"`
		Group  *bool  `json:"group"`
	}
	if err := readJSON(response, request, &ask); err != nil {
		return err
	}
	signal, err := process.ParseSignal(ask.Signal)
	if err != nil {
		return err
	}
	if err := found.Signal(signal, ask.Group == nil || *ask.Group); err != nil {
		return err
	}
	return answer(response, found.View())
}

func (s *Server) writeStdin(response http.ResponseWriter, request *http.Request) error {
	found, err := s.Processes.Find(request.PathValue("id"))
	if err != nil {
		return err
	}
	written, err := found.WriteStdin(request.Context(), http.MaxBytesReader(response, request.Body, stdinBytes))
	if err != nil {
		return err
	}
	return answer(response, map[string]any{"bytes": written})
}

func (s *Server) closeStdin(response http.ResponseWriter, request *http.Request) error {
	found, err := s.Processes.Find(request.PathValue("id"))
	if err != nil {
		return err
	}
	if err := found.CloseStdin(); err != nil {
		return err
	}
	return answer(response, found.View())
}

func (s *Server) resizeProcess(response http.ResponseWriter, request *http.Request) error {
	found, err := s.Processes.Find(request.PathValue("id"))
	if err != nil {
		return err
	}
	var size process.Size
	if err := readJSON(response, request, &size); err != nil {
		return err
	}
	if size.Cols == 0 || size.Rows == 0 {
		return fault.BadRequest("the size is %d x %d; expected at least 1 x 1", size.Cols, size.Rows)
	}
	if err := found.Resize(size); err != nil {
		return err
	}
	return answer(response, found.View())
}
