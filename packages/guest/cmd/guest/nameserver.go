package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// nameResolver makes resolv.conf lead to the node's DNS forwarder, which is reached at another address in every instance.
func nameResolver(etcDir, address string) error {
	if address == "" {
		return nil
	}
	if _, err := netip.ParseAddr(address); err != nil {
		return fmt.Errorf("the nameserver is no IP address: %w", err)
	}
	path := filepath.Join(etcDir, "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver "+address+"\noptions timeout:3 attempts:2\n"), 0o644); err != nil {
		return fmt.Errorf("telling programs who resolves names: %w", err)
	}
	return nil
}
