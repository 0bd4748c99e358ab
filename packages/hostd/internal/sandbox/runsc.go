package sandbox

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/specutils"
)

// Runsc is the pinned gVisor binary and where its records of this scope's sandboxes lie.
type Runsc struct{ Binary, Root, Bundles string }

// configure readies this process to act as runsc does. It is done once; gVisor keeps the path of its binary in a global.
func (r Runsc) configure() (*config.Config, error) {
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	log.SetLevel(log.Warning)
	if _, err := os.Stat(r.Binary); err != nil {
		return nil, fmt.Errorf("looking for runsc: %w; give its path with --runsc", err)
	}
	specutils.ExePath = r.Binary
	flags := flag.NewFlagSet("runsc", flag.ContinueOnError)
	config.RegisterFlags(flags)
	for _, pair := range [][2]string{
		{"root", r.Root},
		{"platform", "systrap"},
		{"network", "sandbox"},
		// Connections to the outside are cut by a store, rather than forbidding it.
		{"net-disconnect-ok", "true"},
		// The disk keeps what is written; gVisor's own overlay would keep it in memory.
		{"overlay2", "none"},
		// Volumes come and go beneath a running sandbox, so it must look again.
		{"file-access-mounts", "shared"},
		// gVisor leaves set-user-id off by default; sudo needs it.
		{"allow-suid", "true"},
		// Advice about the host's settings is the operator's to take once, not each start's to compute.
		{"host-settings", "ignore"},
		{"panic-log", filepath.Join(r.Bundles, "%ID%", "panic.log")},
	} {
		if err := flags.Set(pair[0], pair[1]); err != nil {
			return nil, fmt.Errorf("setting runsc's %s to %s: %w", pair[0], pair[1], err)
		}
	}
	return config.NewFromFlags(flags)
}
