package api

import (
	"net/http"
	"time"

	"torpor/guest/internal/ports"
)

// counted is one running process of a census.
type counted struct {
	ID   string `json:"id"`
	Pid  int    `json:"pid"`
	Name string `json:"name"`
}

// census is what a wake is compared by: taken before a sleep and again after it.
func (s *Server) census(response http.ResponseWriter, _ *http.Request) error {
	listening, err := ports.Listening()
	if err != nil {
		return err
	}
	running := []counted{}
	for _, process := range s.Processes.Running() {
		running = append(running, counted{process.ID, process.Pid, process.Name})
	}
	_, generation := s.Instance.State()
	published, known := s.Instance.Published()
	body := map[string]any{
		"atMs": time.Now().UnixMilli(), "generation": generation, "published": nil, "processes": running, "ports": s.shown(listening),
	}
	if known {
		body["published"] = published
	}
	return answer(response, body)
}
