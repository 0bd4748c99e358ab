package scribe

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/image"
)

// Only what the image itself shows may be held against it: a disk that cannot be read today may be tomorrow.
func TestAFailureIsHeldAgainstTheImageOnlyWhenItIsTheImages(t *testing.T) {
	atDisk := func(errno unix.Errno) error { return &os.PathError{Op: "read", Path: "pages.img", Err: errno} }
	for _, c := range []struct {
		err  error
		want Why
	}{
		{image.ErrRefused, Refused},
		{atDisk(unix.EIO), Unreadable},
		{atDisk(unix.ENOSPC), NoSpace},
		{atDisk(unix.EDQUOT), NoSpace},
		{errors.New("the sentry hung up"), Failed},
	} {
		if got := outcomeOf(fmt.Errorf("pages.img: %w", c.err)); got.Why != c.want || got.Err == "" {
			t.Errorf("%v is told as %+v, want %s", c.err, got, c.want)
		}
	}
}
