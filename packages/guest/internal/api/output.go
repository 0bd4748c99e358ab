package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/output"
	"torpor/guest/internal/process"
)

const outputKeepalive = 5 * time.Second

func (s *Server) processOutput(response http.ResponseWriter, request *http.Request) error {
	found, err := s.Processes.Find(request.PathValue("id"))
	if err != nil {
		return err
	}
	from, err := number(request, "from", 0, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	follow, err := flag(request, "follow", false)
	if err != nil {
		return err
	}
	selection, err := selectionOf(request.URL.Query().Get("stream"))
	if err != nil {
		return err
	}
	cursor := found.Log.Read(selection, from)
	switch format := request.URL.Query().Get("format"); format {
	case "", "raw":
		return sendRaw(response, request, cursor, follow)
	case "frames":
		return sendFrames(response, request, found, cursor, follow)
	default:
		return fault.BadRequest("format is %q; expected raw or frames", format)
	}
}

func selectionOf(stream string) (output.Selection, error) {
	switch stream {
	case "", "both":
		return output.Both, nil
	case "stdout":
		return output.OnlyStdout, nil
	case "stderr":
		return output.OnlyStderr, nil
	}
	return 0, fault.BadRequest("stream is %q; expected stdout, stderr or both", stream)
}

func sendRaw(response http.ResponseWriter, request *http.Request, cursor *output.Cursor, follow bool) error {
	response.Header().Set("Content-Type", "application/octet-stream")
	response.WriteHeader(http.StatusOK)
	control := http.NewResponseController(response)
	for {
		piece, found, ended, more := cursor.Next()
		if found {
			if _, err := response.Write(piece.Data); err != nil {
				return err
			}
			continue
		}
		if ended || !follow {
			return nil
		}
		if err := control.Flush(); err != nil {
			return err
		}
		select {
		case <-more:
		case <-request.Context().Done():
			return nil
		}
	}
}

type frame struct {
	Stream   string `json:"stream"`
	Offset   int64  `json:"offset"`
	Position *int64 `json:"position,omitempty"`
	Data     []byte `json:"data"`
}

// frames writes one JSON object per line, and tells the network only when it is about to wait.
type frames struct {
	response http.ResponseWriter
	control  *http.ResponseController
}

func (f frames) send(shape any) error {
	line, err := json.Marshal(shape)
	if err != nil {
		return err
	}
	_, err = f.response.Write(append(line, '\n'))
	return err
}

func newFrames(response http.ResponseWriter) frames {
	response.Header().Set("Content-Type", "application/x-ndjson")
	response.WriteHeader(http.StatusOK)
	return frames{response: response, control: http.NewResponseController(response)}
}

func sendFrames(response http.ResponseWriter, request *http.Request, of *process.Process, cursor *output.Cursor, follow bool) error {
	lines := newFrames(response)
	for {
		piece, found, ended, more := cursor.Next()
		switch {
		case found:
			if err := lines.send(shapeOf(piece, cursor.Selects())); err != nil {
				return err
			}
		case ended:
			return lines.send(exitOf(of))
		case !follow:
			return nil
		default:
			if err := lines.awaitMore(request.Context(), more); err != nil {
				return nil // the caller went away
			}
		}
	}
}

// awaitMore returns when there may be more, and sends a sign of life meanwhile.
func (f frames) awaitMore(ctx context.Context, more <-chan struct{}) error {
	if err := f.control.Flush(); err != nil {
		return err
	}
	beat := time.NewTicker(outputKeepalive)
	defer beat.Stop()
	for {
		select {
		case <-more:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
			if err := f.send(map[string]bool{"keepalive": true}); err != nil {
				return err
			}
			if err := f.control.Flush(); err != nil {
				return err
			}
		}
	}
}

func shapeOf(piece output.Piece, selection output.Selection) any {
	if piece.Data == nil {
		return map[string]any{"dropped": map[string]any{
			"stream": piece.Stream.String(), "from": piece.Offset, "to": piece.DroppedTo,
		}}
	}
	shape := frame{Stream: piece.Stream.String(), Offset: piece.Offset, Data: piece.Data}
	if selection == output.Both {
		shape.Position = &piece.Position
	}
	return shape
}

// exitOf is the last frame; the log ended, so the process did.
func exitOf(of *process.Process) any {
	<-of.Settled()
	view := of.View()
	exit := map[string]any{"code": view.ExitCode, "signal": view.Signal}
	if view.EndReason != "" {
		exit["endReason"] = view.EndReason
	}
	return map[string]any{"exit": exit}
}
