package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"

	"torpor/guest/internal/account"
	"torpor/guest/internal/files"
)

func (s *Server) statFile(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	metadata, err := s.Files.Stat(path)
	if err != nil {
		return err
	}
	return answer(response, metadata)
}

func (s *Server) listFiles(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	depth, err := number(request, "depth", 1, 1, 100)
	if err != nil {
		return err
	}
	limit, err := number(request, "limit", files.EntriesMax, 1, files.EntriesMax)
	if err != nil {
		return err
	}
	entries, truncated, err := s.Files.List(path, int(depth), int(limit))
	if err != nil {
		return err
	}
	return answer(response, map[string]any{"entries": entries, "truncated": truncated})
}

func (s *Server) readFile(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	file, metadata, err := s.Files.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	encoded, err := json.Marshal(metadata)
	if err != nil {
		return err
	}
	header := response.Header()
	header.Set("X-Torpor-File", asciiJSON(encoded))
	header.Set("Content-Type", "application/octet-stream")
	if metadata.Size == 0 {
		// Files of /proc and /sys say 0 and have content: read until their end.
		response.WriteHeader(http.StatusOK)
		_, err := io.Copy(response, file)
		return err
	}
	http.ServeContent(response, request, "", time.Time{}, file)
	return nil
}

// asciiJSON escapes what may not stand in a header.
func asciiJSON(encoded []byte) string {
	var escaped strings.Builder
	for _, letter := range string(encoded) {
		switch {
		case letter < 0x7f:
			escaped.WriteRune(letter)
		case letter > 0xffff:
			high, low := utf16.EncodeRune(letter)
			fmt.Fprintf(&escaped, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&escaped, `\u%04x`, letter)
		}
	}
	return escaped.String()
}

func (s *Server) writeFile(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	how, err := s.writeOf(request)
	if err != nil {
		return err
	}
	appends, err := flag(request, "append", false)
	if err != nil {
		return err
	}
	write := s.Files.Put
	if appends {
		write = s.Files.Append
	}
	metadata, err := write(path, request.Body, how)
	if err != nil {
		return err
	}
	return answer(response, metadata)
}

func (s *Server) writeOf(request *http.Request) (files.Write, error) {
	query := request.URL.Query()
	parents, err := flag(request, "parents", false)
	if err != nil {
		return files.Write{}, err
	}
	return s.write(query.Get("mode"), query.Get("owner"), parents)
}

func (s *Server) write(mode, owner string, parents bool) (files.Write, error) {
	instanceOwner, err := s.Instance.Owner()
	if err != nil {
		return files.Write{}, err
	}
	how := files.Write{Default: instanceOwner, Parents: parents}
	if how.Mode, err = optionalMode(mode); err != nil {
		return files.Write{}, err
	}
	if owner != "" {
		resolved, err := s.Book.Resolve(owner)
		if err != nil {
			return files.Write{}, err
		}
		how.Owner = &resolved
	}
	return how, nil
}

func optionalMode(text string) (*uint32, error) {
	if text == "" {
		return nil, nil
	}
	mode, err := files.ParseMode(text)
	return &mode, err
}

func (s *Server) makeDirectory(response http.ResponseWriter, request *http.Request) error {
	var ask struct {
		Path    string `json:"path"`
		Mode    string `json:"mode"`
		Parents bool   `json:"parents"`
		Owner   string `json:"owner"`
	}
	if err := readJSON(response, request, &ask); err != nil {
		return err
	}
	path, err := s.locate(ask.Path, "path")
	if err != nil {
		return err
	}
	mode := uint32(0o755)
	if ask.Mode != "" {
		if mode, err = files.ParseMode(ask.Mode); err != nil {
			return err
		}
	}
	owner, err := s.ownerOr(ask.Owner)
	if err != nil {
		return err
	}
	metadata, err := s.Files.MakeDirectory(path, mode, ask.Parents, owner)
	if err != nil {
		return err
	}
	return answer(response, metadata)
}

func (s *Server) ownerOr(owner string) (account.Account, error) {
	if owner == "" {
		return s.Instance.Owner()
	}
	return s.Book.Resolve(owner)
}

func (s *Server) removeFile(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	recursive, err := flag(request, "recursive", false)
	if err != nil {
		return err
	}
	if err := s.Files.Remove(path, recursive); err != nil {
		return err
	}
	return answer(response, map[string]any{"path": path})
}
