package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"torpor.dev/hostd/internal/names"
)

const lastWordsMax = 600

// lastWords are how gVisor's own report of its crash begins, before the stacks.
func lastWords(bundle string) string {
	report, err := os.ReadFile(filepath.Join(bundle, "panic.log"))
	if err != nil {
		return ""
	}
	said, _, _ := bytes.Cut(report[:min(len(report), 4*lastWordsMax)], []byte("\n\n"))
	readable := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(said), "?"))
	readable = strings.Join(strings.Fields(readable), " ")
	return strings.ToValidUTF8(readable[:min(len(readable), lastWordsMax)], "")
}

// withLastWords adds to a failure what the sentry said when it died.
func (s *Sandboxes) withLastWords(id names.ID, err error) error {
	if said := lastWords(s.paths.Bundle(id)); said != "" {
		return fmt.Errorf("%w; gVisor's last words: %s", err, said)
	}
	return err
}
