package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
)

// volumesDir is where the host makes attached volumes appear.
const volumesDir = "/torpor/vol/"

// mounted is one volume in its place.
type mounted struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
}

// mounts are those that were made here, by target. They are the sandbox's memory, as the mounts themselves are: a restore brings back both.
type mounts struct {
	mu  sync.Mutex
	all map[string]mounted
}

func (s *Server) listMounts(response http.ResponseWriter, _ *http.Request) error {
	s.mounts.mu.Lock()
	defer s.mounts.mu.Unlock()
	found := make([]mounted, 0, len(s.mounts.all))
	for _, one := range s.mounts.all {
		found = append(found, one)
	}
	sort.Slice(found, func(a, b int) bool { return found[a].Target < found[b].Target })
	return answer(response, map[string]any{"mounts": found})
}

// mount shows an attached volume where the tenant wants it. Only PID 1 may: children lack CAP_SYS_ADMIN. Mounting it there again is success.
func (s *Server) mount(response http.ResponseWriter, request *http.Request) error {
	var ask mounted
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
	s.mounts.mu.Lock()
	defer s.mounts.mu.Unlock()
	wanted := mounted{source, target, ask.ReadOnly}
	if there, is := s.mounts.all[target]; is && there != wanted {
		return fault.Conflict("%s is mounted at %s already", there.Source, target)
	} else if is {
		return answer(response, wanted)
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
	if err := giveIfNew(source, owner); err != nil {
		return fault.Failed("could not give the volume to its user: %v", err)
	}
	if err := bind(source, target, ask.ReadOnly); err != nil {
		return fault.Failed("could not mount %s at %s: %v", source, target, err)
	}
	if s.mounts.all == nil {
		s.mounts.all = map[string]mounted{}
	}
	s.mounts.all[target] = wanted
	return answer(response, wanted)
}

// giveIfNew makes the instance's user the owner of a volume in which nothing was ever written; whoever has written to one has settled whose it is.
func giveIfNew(source string, owner account.Account) error {
	directory, err := os.Open(source)
	if err != nil {
		return err
	}
	defer directory.Close()
	if _, err := directory.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err
	}
	return directory.Chown(int(owner.UID), int(owner.GID))
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
	s.mounts.mu.Lock()
	defer s.mounts.mu.Unlock()
	switch err := unix.Unmount(target, flags); {
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOENT):
		delete(s.mounts.all, target)
		return fault.NotFound("nothing is mounted at %s", target)
	case errors.Is(err, syscall.EBUSY):
		return fault.Conflict("%s is in use; stop the programs that use it, or expect force=1", target)
	case err != nil:
		return fault.Failed("could not unmount %s: %v", target, err)
	}
	delete(s.mounts.all, target)
	return answer(response, map[string]any{"target": target})
}
