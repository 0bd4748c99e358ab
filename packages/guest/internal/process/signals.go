package process

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/fault"
)

// SignalName is "TERM" for SIGTERM; a signal without a name is its number.
func SignalName(signal syscall.Signal) string {
	if name := unix.SignalName(signal); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(signal))
}

// ParseSignal understands "TERM", "SIGTERM" and "15".
func ParseSignal(text string) (syscall.Signal, error) {
	if number, err := strconv.Atoi(text); err == nil && number > 0 && number <= 64 {
		return syscall.Signal(number), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if signal := unix.SignalNum(name); signal != 0 {
		return signal, nil
	}
	return 0, fault.BadRequest("there is no signal %q; expected a name such as TERM or KILL, or a number from 1 to 64", text)
}
