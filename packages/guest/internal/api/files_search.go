package api

import (
	"net/http"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/files"
)

const matchesMax = 10_000

func scopeOf(request *http.Request, limitDefault int64) (files.Scope, error) {
	limit, err := number(request, "limit", limitDefault, 0, matchesMax)
	if err != nil {
		return files.Scope{}, err
	}
	if limit == 0 {
		limit = matchesMax
	}
	hidden, err := flag(request, "excludeHidden", false)
	if err != nil {
		return files.Scope{}, err
	}
	return files.Scope{
		Patterns: list(request, "patterns"), ExcludeDirs: list(request, "excludeDirs"),
		ExcludeHidden: hidden, Limit: int(limit),
	}, nil
}

func (s *Server) findFiles(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	scope, err := scopeOf(request, 1000)
	if err != nil {
		return err
	}
	kind := request.URL.Query().Get("type")
	switch kind {
	case "":
		kind = "any"
	case "file", "directory", "any":
	default:
		return fault.BadRequest("type is %q; expected file, directory or any", kind)
	}
	found, err := s.Files.Find(request.Context(), path, kind, scope)
	if err != nil {
		return err
	}
	return answer(response, found)
}

func (s *Server) grepFiles(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	scope, err := scopeOf(request, 100)
	if err != nil {
		return err
	}
	contextLines, err := number(request, "context", 0, 0, 100)
	if err != nil {
		return err
	}
	caseSensitive, err := flag(request, "caseSensitive", false)
	if err != nil {
		return err
	}
	isExpression, err := flag(request, "regex", false)
	if err != nil {
		return err
	}
	text := request.URL.Query().Get("query")
	if text == "" {
		return fault.BadRequest("query is missing; expected the text to look for")
	}
	query, err := files.Query(text, isExpression, caseSensitive)
	if err != nil {
		return err
	}
	found, err := s.Files.Grep(request.Context(), path, query, int(contextLines), scope)
	if err != nil {
		return err
	}
	return answer(response, found)
}
