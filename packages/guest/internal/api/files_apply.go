package api

import "net/http"

func (s *Server) applyFiles(response http.ResponseWriter, request *http.Request) error {
	merged, err := s.Files.Apply(request.Body)
	if err != nil {
		return err
	}
	return answer(response, merged)
}
