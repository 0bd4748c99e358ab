package main

import (
	"fmt"
	"sync"
	"syscall"
)

// faults says which operations fail, and how. Orders: "fail <operation> <errno> <nth>", where the nth from now on fails and
// all that follow it; "heal".
type faults struct {
	mu        sync.Mutex
	operation string
	errno     syscall.Errno
	// nth is how many more operations pass, counting the one that fails.
	nth int
}

var operations = map[string]bool{"mkdir": true, "create": true, "write": true, "read": true, "fsync": true, "rename": true}

func (f *faults) order(line string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if line == "heal" {
		f.operation = ""
		return nil
	}
	var operation string
	var errno, nth int
	if _, err := fmt.Sscanf(line, "fail %s %d %d", &operation, &errno, &nth); err != nil || !operations[operation] || errno <= 0 || nth <= 0 {
		return fmt.Errorf("%q is neither \"heal\" nor \"fail <operation> <errno> <nth>\"", line)
	}
	f.operation, f.errno, f.nth = operation, syscall.Errno(errno), nth
	return nil
}

// of answers how an operation fails; 0 when it does not.
func (f *faults) of(operation string) syscall.Errno {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.operation != operation {
		return 0
	}
	if f.nth > 1 {
		f.nth--
		return 0
	}
	return f.errno
}
