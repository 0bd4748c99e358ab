// Package failpoint lets tests kill or fail hostd at the edges of a verb.
package failpoint

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/wire"
)

// Points maps "verb:before" and "verb:after" to "exit" or "error".
type Points map[string]string

// Parse reads TORPOR_FAILPOINTS, a list such as "net.create:after=exit,sandbox.pause:before=error".
func Parse(text string) (Points, error) {
	points := Points{}
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		at, what, ok := strings.Cut(part, "=")
		verb, moment, cut := strings.Cut(at, ":")
		if !ok || !cut || verb == "" || (moment != "before" && moment != "after") || (what != "exit" && what != "error") {
			return nil, fmt.Errorf("failpoint %q is not verb:before|after=exit|error", part)
		}
		points[at] = what
	}
	return points, nil
}

// Reach does what was asked for at this moment of this verb: nothing, mostly.
func (p Points) Reach(verb, moment string) error {
	switch p[verb+":"+moment] {
	case "exit":
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "error":
		return wire.Errorf(wire.HostError, "failpoint %s:%s", verb, moment)
	}
	return nil
}
