package spawn

import (
	"runtime"
	"syscall"
)

// Spec is everything a new process gets. It inherits nothing of PID 1 besides the root directory and resource limits.
type Spec struct {
	Path       string
	Argv       []string
	Env        []string
	Dir        string
	Stdin      int
	Stdout     int
	Stderr     int
	Credential *syscall.Credential // nil: stay as PID 1's user
	Terminal   bool                // Stdin is a terminal that becomes the controlling one
	Control    int                 // becomes descriptor 3; 0: none
}

type order struct {
	spec  Spec
	reply chan birth
}

type birth struct {
	pid int
	err error
}

func (c *Children) deliver(spec Spec) (int, error) {
	reply := make(chan birth, 1)
	c.nurseries <- order{spec: spec, reply: reply}
	born := <-reply
	return born.pid, born.err
}

// nursery is an operating system thread that has given up the capabilities which only PID 1 needs.
// Capabilities and the bounding set belong to a thread, so whatever is forked here can never regain them, while
// sudo and set-uid programs still work within the set that is left.
func nursery(orders <-chan order) {
	runtime.LockOSThread()
	giveUpCapabilities()
	for order := range orders {
		pid, err := fork(order.spec)
		order.reply <- birth{pid: pid, err: err}
	}
}

// fork starts the process as leader of its own session and process group.
func fork(spec Spec) (int, error) {
	files := []uintptr{uintptr(spec.Stdin), uintptr(spec.Stdout), uintptr(spec.Stderr)}
	if spec.Control != 0 {
		files = append(files, uintptr(spec.Control))
	}
	return syscall.ForkExec(spec.Path, spec.Argv, &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   spec.Env,
		Files: files,
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Setctty:    spec.Terminal,
			Credential: spec.Credential,
		},
	})
}
