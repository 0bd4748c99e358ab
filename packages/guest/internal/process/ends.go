package process

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ends are the descriptors that a new process gets. They are ours to close once it runs.
type ends struct {
	stdin, stdout, stderr int
	terminal              bool
}

func (e ends) close() {
	syscall.Close(e.stdin)
	if e.stdout != e.stdin {
		syscall.Close(e.stdout)
	}
	if e.stderr != e.stdout && e.stderr != e.stdin {
		syscall.Close(e.stderr)
	}
}

// kept are the other ends, PID 1's. Input is nil when not asked for; stderr is -1 for a terminal.
type kept struct {
	stdout, stderr int
	input          *os.File
}

func (k kept) close() {
	for _, fd := range []int{k.stdout, k.stderr} {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
	if k.input != nil {
		k.input.Close()
	}
}

func openEnds(ask Ask, uid uint32) (ends, kept, error) {
	if ask.Pty != nil {
		return openTerminal(*ask.Pty, uid)
	}
	return openPipes(ask.Stdin)
}

func openPipes(withStdin bool) (theirs ends, mine kept, err error) {
	opened := []int{}
	defer func() {
		if err != nil {
			for _, fd := range opened {
				syscall.Close(fd)
			}
		}
	}()
	pipe := func() (read, write int) {
		if err != nil {
			return -1, -1
		}
		var pair [2]int
		if err = syscall.Pipe2(pair[:], syscall.O_CLOEXEC); err == nil {
			opened = append(opened, pair[0], pair[1])
		}
		return pair[0], pair[1]
	}
	stdoutRead, stdoutWrite := pipe()
	stderrRead, stderrWrite := pipe()
	stdinRead, stdinWrite := -1, -1
	if withStdin {
		stdinRead, stdinWrite = pipe()
	} else if err == nil {
		stdinRead, err = syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		opened = append(opened, stdinRead)
	}
	if err != nil {
		return ends{}, kept{}, fmt.Errorf("open pipes for a process: %w", err)
	}
	mine = kept{stdout: stdoutRead, stderr: stderrRead}
	if withStdin {
		mine.input = pollable(stdinWrite, "stdin")
	}
	return ends{stdin: stdinRead, stdout: stdoutWrite, stderr: stderrWrite}, mine, nil
}

// pollable hands a descriptor to the runtime's poller, so that waiting on it holds no thread.
func pollable(fd int, name string) *os.File {
	_ = syscall.SetNonblock(fd, true) // a pipe end of our own: cannot fail
	return os.NewFile(uintptr(fd), name)
}

func openTerminal(size Size, uid uint32) (ends, kept, error) {
	master, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	if err != nil {
		return ends{}, kept{}, fmt.Errorf("open a terminal: %w", err)
	}
	slave, err := openSlave(master, uid)
	if err != nil {
		unix.Close(master)
		return ends{}, kept{}, fmt.Errorf("open a terminal: %w", err)
	}
	if err := resize(master, size); err != nil {
		unix.Close(master)
		unix.Close(slave)
		return ends{}, kept{}, fmt.Errorf("size a terminal: %w", err)
	}
	reading, err := unix.FcntlInt(uintptr(master), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		unix.Close(master)
		unix.Close(slave)
		return ends{}, kept{}, fmt.Errorf("open a terminal: %w", err)
	}
	mine := kept{stdout: reading, stderr: -1, input: pollable(master, "terminal")}
	return ends{stdin: slave, stdout: slave, stderr: slave, terminal: true}, mine, nil
}

func openSlave(master int, uid uint32) (int, error) {
	number, err := unix.IoctlGetInt(master, unix.TIOCGPTN)
	if err != nil {
		return -1, err
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return -1, err
	}
	path := fmt.Sprintf("/dev/pts/%d", number)
	if uid != 0 {
		if err := unix.Chown(path, int(uid), -1); err != nil {
			return -1, err
		}
	}
	return unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
}

func resize(master int, size Size) error {
	return unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &unix.Winsize{Col: size.Cols, Row: size.Rows})
}
