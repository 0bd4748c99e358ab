package ports

import (
	"bytes"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Listener is one listening TCP socket. Pid is 0 when its owner could not be found.
type Listener struct {
	Port    int    `json:"port"`
	Address string `json:"address"`
	Pid     int    `json:"pid"`
	inode   string
}

// Listening lists what listens for TCP, sorted by port and address.
func Listening() ([]Listener, error) {
	listeners := []Listener{}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := os.ReadFile(name)
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		listeners = append(listeners, parse(content)...)
	}
	findOwners(listeners)
	sort.Slice(listeners, func(a, b int) bool {
		if listeners[a].Port != listeners[b].Port {
			return listeners[a].Port < listeners[b].Port
		}
		return listeners[a].Address < listeners[b].Address
	})
	return listeners, nil
}

// IsListening is the cheap question about one port.
func IsListening(port int) bool {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, _ := os.ReadFile(name) // an unreadable table lists nothing
		for _, listener := range parse(content) {
			if listener.Port == port {
				return true
			}
		}
	}
	return false
}

const stateListen = "0A"

// parse reads the table format of /proc/net/tcp and tcp6.
func parse(table []byte) []Listener {
	found := []Listener{}
	for line := range bytes.Lines(table) {
		words := strings.Fields(string(line))
		if len(words) < 10 || words[3] != stateListen {
			continue
		}
		host, port, ok := strings.Cut(words[1], ":")
		number, err := strconv.ParseUint(port, 16, 16)
		address := addressOf(host)
		if !ok || err != nil || address == nil {
			continue
		}
		found = append(found, Listener{Port: int(number), Address: address.String(), inode: words[9]})
	}
	return found
}

// addressOf undoes the kernel's notation: 32-bit words in the machine's (little-endian) byte order.
func addressOf(text string) net.IP {
	raw, err := hex.DecodeString(text)
	if err != nil || (len(raw) != net.IPv4len && len(raw) != net.IPv6len) {
		return nil
	}
	for word := 0; word < len(raw); word += 4 {
		raw[word], raw[word+1], raw[word+2], raw[word+3] = raw[word+3], raw[word+2], raw[word+1], raw[word]
	}
	return net.IP(raw)
}

// findOwners looks through the descriptors of every process for the sockets.
func findOwners(listeners []Listener) {
	wanted := map[string][]*Listener{}
	for index := range listeners {
		link := "socket:[" + listeners[index].inode + "]"
		wanted[link] = append(wanted[link], &listeners[index])
	}
	if len(wanted) == 0 {
		return
	}
	processes, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, process := range processes {
		pid, _ := strconv.Atoi(filepath.Base(process))
		descriptors, err := os.ReadDir(process + "/fd")
		if err != nil {
			continue // it ended meanwhile
		}
		for _, descriptor := range descriptors {
			link, err := os.Readlink(process + "/fd/" + descriptor.Name())
			if err != nil {
				continue
			}
			for _, listener := range wanted[link] {
				listener.Pid = pid
			}
		}
	}
}

// SessionOf is the session of a process: the pid of the started process that it descends from.
func SessionOf(pid int) int {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name stands in parentheses and may contain anything, so count from the last one: state, parent, group, session.
	words := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(words) < 4 {
		return 0
	}
	session, _ := strconv.Atoi(words[3]) // the kernel writes digits
	return session
}
