package sandbox

import (
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// births are the sandboxes that this process made, by the pid of their sentry: when it collects one, it writes down how that ended.
type births struct {
	mutex   sync.Mutex
	bundles map[int]string
}

func (b *births) remember(pid int, bundle string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.bundles == nil {
		b.bundles = map[int]string{}
	}
	b.bundles[pid] = bundle
}

func (b *births) forget(bundle string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for pid, at := range b.bundles {
		if at == bundle {
			delete(b.bundles, pid)
		}
	}
}

// bury collects an ended child of this process.
func (b *births) bury(pid int) {
	b.mutex.Lock()
	bundle := b.bundles[pid]
	delete(b.bundles, pid)
	b.mutex.Unlock()
	// Of one that we killed we know how it ended, and its bundle is about to go.
	if end := endOfZombie(pid); bundle != "" && end != nil && !isKilled(bundle) {
		// Where it cannot be written, the death will be told as one that nobody saw.
		_ = os.WriteFile(endFile(bundle, pid), []byte(strconv.FormatUint(uint64(*end), 10)), 0o600)
	}
	unix.Wait4(pid, nil, unix.WNOHANG, nil)
}
