package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolvConfNamesTheForwarder(t *testing.T) {
	dir := t.TempDir()
	if err := nameResolver(dir, "10.1.2.1"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "resolv.conf"))
	if err != nil || !strings.HasPrefix(string(text), "nameserver 10.1.2.1\n") {
		t.Fatalf("resolv.conf is %q, %v", text, err)
	}
	if err := nameResolver(dir, "not an address\nnameserver 1.1.1.1"); err == nil {
		t.Fatal("what is no address was written")
	}
	if err := nameResolver(dir, ""); err != nil {
		t.Fatal(err)
	}
}
