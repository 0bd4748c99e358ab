// Package failpoint lets tests kill or fail hostd at the edges of a verb.
package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/wire"
)

// Points are the moments of verbs at which something happens.
type Points struct {
	// what maps "verb:before" and "verb:after" to "exit" or "error".
	what map[string]string
	// directory, when not empty, holds a file for each moment that is armed to exit, once.
	directory string
}

// Parse reads TORPOR_FAILPOINTS: a list such as "net.create:after=exit,sandbox.pause:before=error", or the absolute path of a directory. A file in it
// named "net.create:after" kills the hostd that comes by next and is removed first, so that a test arms points without restarting anybody.
func Parse(text string) (Points, error) {
	if filepath.IsAbs(text) {
		return Points{directory: text}, nil
	}
	points := Points{what: map[string]string{}}
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		at, what, ok := strings.Cut(part, "=")
		verb, moment, cut := strings.Cut(at, ":")
		if !ok || !cut || verb == "" || (moment != "before" && moment != "after") || (what != "exit" && what != "error") {
			return Points{}, fmt.Errorf("failpoint %q is not verb:before|after=exit|error", part)
		}
		points.what[at] = what
	}
	return points, nil
}

// Reach does what was asked for at this moment of this verb: nothing, mostly.
func (p Points) Reach(verb, moment string) error {
	at := verb + ":" + moment
	switch {
	case p.what[at] == "exit", p.directory != "" && os.Remove(filepath.Join(p.directory, at)) == nil:
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case p.what[at] == "error":
		return wire.Errorf(wire.HostError, "failpoint %s:%s", verb, moment)
	}
	return nil
}
