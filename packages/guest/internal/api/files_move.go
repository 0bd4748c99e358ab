package api

import (
	"net/http"

	"torpor/guest/internal/fault"
)

func (s *Server) moveFile(response http.ResponseWriter, request *http.Request) error {
	var ask struct {
		From      string `json:"from"`
		To        string `json:"to"`
		Overwrite bool   `json:"overwrite"`
	}
	if err := readJSON(response, request, &ask); err != nil {
		return err
	}
	from, err := s.locate(ask.From, "from")
	if err != nil {
		return err
	}
	to, err := s.locate(ask.To, "to")
	if err != nil {
		return err
	}
	metadata, err := s.Files.Move(from, to, ask.Overwrite)
	if err != nil {
		return err
	}
	return answer(response, metadata)
}

const partsMax = 10_000

func (s *Server) assembleFile(response http.ResponseWriter, request *http.Request) error {
	var ask struct {
		Path    string   `json:"path"`
		Mode    string   `json:"mode"`
		Parts   []string `json:"parts"`
		Remove  bool     `json:"remove"`
		Parents bool     `json:"parents"`
		Owner   string   `json:"owner"`
	}
	if err := readJSON(response, request, &ask); err != nil {
		return err
	}
	if len(ask.Parts) > partsMax {
		return fault.BadRequest("%d parts; expected at most %d", len(ask.Parts), partsMax)
	}
	path, err := s.locate(ask.Path, "path")
	if err != nil {
		return err
	}
	parts := make([]string, len(ask.Parts))
	for index, part := range ask.Parts {
		if parts[index], err = s.locate(part, "parts"); err != nil {
			return err
		}
		if parts[index] == path {
			return fault.BadRequest("%s is its own part", path)
		}
	}
	how, err := s.write(ask.Mode, ask.Owner, ask.Parents)
	if err != nil {
		return err
	}
	metadata, err := s.Files.Assemble(path, parts, ask.Remove, how)
	if err != nil {
		return err
	}
	return answer(response, metadata)
}
