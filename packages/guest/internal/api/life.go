package api

import (
	"context"
	"net/http"
	"time"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/identity"
)

func (s *Server) health(response http.ResponseWriter, _ *http.Request) error {
	claimed, generation := s.Instance.State()
	_, running := s.Processes.Busy()
	return answer(response, map[string]any{
		"ready": true, "version": s.Version, "claimed": claimed, "generation": generation,
		"uptimeMs": time.Since(s.StartedAt).Milliseconds(), "processes": running,
	})
}

func (s *Server) claim(response http.ResponseWriter, request *http.Request) error {
	var claim identity.Claim
	if err := readJSON(response, request, &claim); err != nil {
		return err
	}
	before, _ := s.Instance.State()
	if err := s.Instance.Take(claim); err != nil {
		return err
	}
	s.Claimed(before)
	return s.health(response, request)
}

func (s *Server) generation(response http.ResponseWriter, request *http.Request) error {
	var notice struct {
		Generation *int64 `json:"generation"`
	}
	if err := readJSON(response, request, &notice); err != nil {
		return err
	}
	if notice.Generation == nil {
		return fault.BadRequest("generation is missing; expected a number greater than the present one")
	}
	if err := s.Instance.Advance(*notice.Generation); err != nil {
		return err
	}
	s.Claimed(true)
	return s.health(response, request)
}

func (s *Server) busy(response http.ResponseWriter, request *http.Request) error {
	limit, err := wait(request, "timeoutMs")
	if err != nil {
		return err
	}
	switch until := request.URL.Query().Get("until"); until {
	case "":
	case "idle":
		if limit == 0 {
			limit = waitMax
		}
		ctx, cancel := context.WithTimeout(request.Context(), limit)
		defer cancel()
		s.Processes.AwaitIdle(ctx)
	default:
		return fault.BadRequest("until is %q; expected idle", until)
	}
	keepAlive, running := s.Processes.Busy()
	return answer(response, map[string]any{"keepAlive": keepAlive, "processes": running})
}
