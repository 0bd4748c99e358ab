package files

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"torpor/guest/internal/fault"
)

func TestAFullDiskIsToldOnceAndOfTheFileThatWasAskedFor(t *testing.T) {
	aside := func(number syscall.Errno) error {
		return &fs.PathError{Op: "write", Path: "/data/.torpor-5f2a.tmp", Err: number}
	}
	for _, one := range []struct {
		err  error
		told string
		code string
	}{
		{aside(syscall.EDQUOT), "write /data/big: the sandbox's disk is full", "no_space"},
		{aside(syscall.ENOSPC), "write /data/big: no space left on device", "no_space"},
		{errors.New("unexpected EOF"), "write /data/big: unexpected EOF", "internal"},
	} {
		told := fault.Of(unwritten("/data/big", one.err))
		if told.Error() != one.told || told.Code != one.code {
			t.Errorf("told %q (%s), want %q (%s)", told, told.Code, one.told, one.code)
		}
	}
}
