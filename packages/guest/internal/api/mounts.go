package api

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/fault"
)

// volumesDir is where the host makes attached volumes appear.
const volumesDir = "/torpor/vol/"

// mount shows an attached volume where the tenant wants it. Only PID 1 may: children lack CAP_SYS_ADMIN.
func (s *Server) mount(response http.ResponseWriter, request *http.Request) error {
	var ask struct {
		Source   string `json:"source"`
		Target   string `json:"target"`
		ReadOnly bool   `json:"readOnly"`
	}
	if err := readJSON(response, request, &ask); err != nil {
		return err
	}
	source := filepath.Clean(ask.Source)
	if !strings.HasPrefix(source, volumesDir) {
		return fault.BadRequest("source is %q; expected a path below %s", ask.Source, volumesDir)
	}
	target, err := s.locate(ask.Target, "target")
	if err != nil {
		return err
	}
	if _, err := os.Stat(source); err != nil {
		return fault.NotFound("the volume %s is not attached", source)
	}
	owner, err := s.Instance.Owner()
	if err != nil {
		return err
	}
	if _, err := s.Files.MakeDirectory(target, 0o755, true, owner); err != nil {
		return err
	}
	if err := bind(source, target, ask.ReadOnly); err != nil {
		return fault.Failed("could not mount %s at %s: %v", source, target, err)
	}
	return answer(response, map[string]any{"source": source, "target": target, "readOnly": ask.ReadOnly})
}

func bind(source, target string, readOnly bool) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if !readOnly {
		return nil
	}
	// A bind mount takes its flags from the source; read-only needs a second step.
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(err, unix.Unmount(target, unix.MNT_DETACH))
	}
	return nil
}

// unmount takes a volume away from its target; with force even while programs use it.
func (s *Server) unmount(response http.ResponseWriter, request *http.Request) error {
	target, err := s.path(request, "target")
	if err != nil {
		return err
	}
	force, err := flag(request, "force", false)
	if err != nil {
		return err
	}
	flags := 0
	if force {
		flags = unix.MNT_DETACH
	}
	switch err := unix.Unmount(target, flags); {
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOENT):
		return fault.NotFound("nothing is mounted at %s", target)
	case errors.Is(err, syscall.EBUSY):
		return fault.Conflict("%s is in use; stop the programs that use it, or expect force=1", target)
	case err != nil:
		return fault.Failed("could not unmount %s: %v", target, err)
	}
	return answer(response, map[string]any{"target": target})
}
