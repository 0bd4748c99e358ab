package files

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"torpor/guest/internal/fault"
)

const (
	// searchLimit bounds the time of one search, so that a huge tree costs no more than this.
	searchLimit = 15 * time.Second
	// grepFileBytes: larger files are data, not text that somebody looks for words in.
	grepFileBytes = 32 << 20
	grepLineBytes = 1 << 20
	// grepTextBytes is how much of a line is shown.
	grepTextBytes = 1000
	binaryProbe   = 8 << 10
)

// Scope is where a search looks.
type Scope struct {
	Patterns      []string // of the name, or of the path below the root when they contain a slash; empty: all
	ExcludeDirs   []string
	ExcludeHidden bool
	Limit         int
}

// Found is what a search gives. Total counts also what the limit left out; Truncated says that the search was not finished.
type Found[T any] struct {
	Matches   []T  `json:"matches"`
	Total     int  `json:"total"`
	Truncated bool `json:"truncated"`
}

type Match struct {
	Path string `json:"path"`
	Type string `json:"type"`
}

// Find lists entries below the root by name. Kind is file, directory or any.
func (s *Store) Find(ctx context.Context, root, kind string, scope Scope) (Found[Match], error) {
	found := Found[Match]{Matches: []Match{}}
	err := walk(ctx, root, scope, &found.Truncated, func(path string, entry fs.DirEntry) bool {
		name := typeOf(entry.Type())
		if kind != "any" && kind != name {
			return true
		}
		found.Total++
		if len(found.Matches) < scope.Limit {
			found.Matches = append(found.Matches, Match{Path: path, Type: name})
		}
		return true
	})
	return found, err
}

type GrepMatch struct {
	Path    string `json:"path"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Text    string `json:"text"`
	Context string `json:"context,omitempty"`
}

// Grep finds lines. It stops at the limit, skips what looks binary, and gives one match per line.
func (s *Store) Grep(ctx context.Context, root string, query *regexp.Regexp, contextLines int, scope Scope) (Found[GrepMatch], error) {
	found := Found[GrepMatch]{Matches: []GrepMatch{}}
	err := walk(ctx, root, scope, &found.Truncated, func(path string, entry fs.DirEntry) bool {
		if entry.Type().IsRegular() {
			grepFile(path, query, contextLines, func(match GrepMatch) bool {
				found.Total++
				found.Matches = append(found.Matches, match)
				return len(found.Matches) < scope.Limit
			})
		}
		if len(found.Matches) >= scope.Limit {
			found.Truncated = true
			return false
		}
		return true
	})
	return found, err
}

// Query makes the expression of a search: the text itself, unless it is meant as an expression.
func Query(text string, isExpression, caseSensitive bool) (*regexp.Regexp, error) {
	if !isExpression {
		text = regexp.QuoteMeta(text)
	}
	if !caseSensitive {
		text = "(?i)" + text
	}
	query, err := regexp.Compile(text)
	if err != nil {
		return nil, fault.BadRequest("query is not a regular expression: %v", err)
	}
	return query, nil
}

// walk visits what is in scope below the root, until the visitor says false or the time is over.
func walk(ctx context.Context, root string, scope Scope, truncated *bool, visit func(string, fs.DirEntry) bool) error {
	if _, err := os.Stat(root); err != nil {
		return explain(root, err)
	}
	for _, pattern := range scope.Patterns {
		if _, err := filepath.Match(pattern, ""); err != nil {
			return fault.BadRequest("%q is not a pattern such as *.go", pattern)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, searchLimit)
	defer cancel()
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		return explain(root, err)
	}
	return filepath.WalkDir(resolved, func(path string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			*truncated = true
			return filepath.SkipAll
		}
		if err != nil {
			return nil // a directory that went away or may not be read hides only itself
		}
		relative, _ := filepath.Rel(resolved, path) // both are absolute
		if relative != "." && scope.excludes(entry) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if (relative == "." && entry.IsDir()) || !scope.includes(relative, entry.Name()) {
			return nil
		}
		if !visit(filepath.Join(root, relative), entry) {
			return filepath.SkipAll
		}
		return nil
	})
}

func (s Scope) excludes(entry fs.DirEntry) bool {
	if s.ExcludeHidden && strings.HasPrefix(entry.Name(), ".") {
		return true
	}
	if !entry.IsDir() {
		return false
	}
	for _, name := range s.ExcludeDirs {
		if name == entry.Name() {
			return true
		}
	}
	return false
}

func (s Scope) includes(relative, name string) bool {
	if len(s.Patterns) == 0 {
		return true
	}
	for _, pattern := range s.Patterns {
		against := name
		if strings.Contains(pattern, "/") {
			against = relative
		}
		if matches, _ := filepath.Match(pattern, against); matches { // walk has checked the pattern
			return true
		}
	}
	return false
}

// grepFile gives the matches of one file; a file that cannot be read or is binary has none.
func grepFile(path string, query *regexp.Regexp, contextLines int, give func(GrepMatch) bool) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > grepFileBytes {
		return
	}
	reader := bufio.NewReaderSize(file, 64<<10)
	if head, _ := reader.Peek(binaryProbe); bytes.IndexByte(head, 0) >= 0 {
		return
	}
	if contextLines == 0 {
		grepStream(path, reader, query, give)
		return
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		return
	}
	grepWithContext(path, strings.Split(strings.TrimSuffix(string(content), "\n"), "\n"), query, contextLines, give)
}

func grepStream(path string, reader io.Reader, query *regexp.Regexp, give func(GrepMatch) bool) {
	lines := bufio.NewScanner(reader)
	lines.Buffer(make([]byte, 0, 64<<10), grepLineBytes)
	for number := 1; lines.Scan(); number++ {
		place := query.FindIndex(lines.Bytes())
		if place != nil && !give(GrepMatch{Path: path, Line: number, Column: place[0] + 1, Text: shown(lines.Text())}) {
			return
		}
	}
}

func grepWithContext(path string, lines []string, query *regexp.Regexp, contextLines int, give func(GrepMatch) bool) {
	for index, line := range lines {
		place := query.FindStringIndex(line)
		if place == nil {
			continue
		}
		around := lines[max(index-contextLines, 0):min(index+contextLines+1, len(lines))]
		cut := make([]string, len(around))
		for at, text := range around {
			cut[at] = shown(text)
		}
		match := GrepMatch{Path: path, Line: index + 1, Column: place[0] + 1, Text: shown(line), Context: strings.Join(cut, "\n")}
		if !give(match) {
			return
		}
	}
}

func shown(line string) string {
	line = strings.TrimSuffix(line, "\r")
	if len(line) <= grepTextBytes {
		return line
	}
	cut := grepTextBytes
	for cut > 0 && !utf8.RuneStart(line[cut]) {
		cut--
	}
	return line[:cut]
}
