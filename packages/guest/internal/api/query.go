package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/process"
)

// waitMax bounds every wait a caller may ask for.
const waitMax = 24 * time.Hour

// number reads a whole number in a range, or the fallback when the parameter is missing.
func number(request *http.Request, name string, fallback, least, most int64) (int64, error) {
	text := request.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	value, err := strconv.ParseInt(text, 10, 64)
	if err != nil || value < least || value > most {
		return 0, fault.BadRequest("%s is %q; expected a whole number from %d to %d", name, text, least, most)
	}
	return value, nil
}

func flag(request *http.Request, name string, fallback bool) (bool, error) {
	switch text := request.URL.Query().Get(name); text {
	case "":
		return fallback, nil
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	default:
		return false, fault.BadRequest("%s is %q; expected 1 or 0", name, text)
	}
}

func wait(request *http.Request, name string) (time.Duration, error) {
	ms, err := number(request, name, 0, 0, waitMax.Milliseconds())
	return time.Duration(ms) * time.Millisecond, err
}

// list splits a comma-separated parameter.
func list(request *http.Request, name string) []string {
	items := []string{}
	for item := range strings.SplitSeq(request.URL.Query().Get(name), ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// path reads a path parameter and makes it absolute.
func (s *Server) path(request *http.Request, name string) (string, error) {
	return s.locate(request.URL.Query().Get(name), name)
}

func (s *Server) locate(text, name string) (string, error) {
	if text == "" {
		return "", fault.BadRequest("%s is missing; expected a path", name)
	}
	if strings.Contains(text, "\x00") {
		return "", fault.BadRequest("%s contains a NUL byte", name)
	}
	owner, err := s.Instance.Owner()
	if err != nil {
		return "", err
	}
	workdir := s.Instance.Surroundings().Workdir
	if workdir == "" {
		workdir = "/"
	}
	return process.Locate(text, workdir, owner.Home), nil
}
