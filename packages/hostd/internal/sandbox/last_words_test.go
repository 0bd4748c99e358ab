package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLastWordsAreShortAndReadable(t *testing.T) {
	bundle := t.TempDir()
	if said := lastWords(bundle); said != "" {
		t.Errorf("without a log: %q", said)
	}
	text := "panic: \x1b[31mno\tthread\nmore \xff" + strings.Repeat("é", 2*lastWordsMax)
	if err := os.WriteFile(filepath.Join(bundle, "panic.log"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := lastWords(bundle); !strings.HasPrefix(said, "panic: [31mno thread more ?é") || len(said) > lastWordsMax || len(said) < lastWordsMax-1 || strings.ContainsRune(said, '\uFFFD') {
		t.Errorf("got %d bytes: %q", len(said), said)
	}
	if err := os.WriteFile(filepath.Join(bundle, "panic.log"), []byte("panic: no thread\n\ngoroutine 1 [running]:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := lastWords(bundle); said != "panic: no thread" {
		t.Errorf("with stacks: %q", said)
	}
}
