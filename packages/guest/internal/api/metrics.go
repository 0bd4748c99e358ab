package api

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"torpor/guest/internal/memory"
)

func (s *Server) metrics(response http.ResponseWriter, _ *http.Request) error {
	use, err := memory.Read()
	if err != nil {
		return err
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs("/", &disk); err != nil {
		return err
	}
	processes, openFiles := count()
	size := uint64(disk.Bsize)
	return answer(response, map[string]any{
		"memory":    map[string]int64{"totalBytes": use.Total, "usedBytes": max(use.Total-use.Available, 0)},
		"cpu":       map[string]int64{"usageMs": cpuMs()},
		"processes": processes,
		"openFiles": openFiles,
		"disk":      map[string]uint64{"usedBytes": (disk.Blocks - disk.Bfree) * size, "totalBytes": disk.Blocks * size},
	})
}

// ticksPerSecond is USER_HZ, which Linux and gVisor fix at 100.
const ticksPerSecond = 100

// cpuMs is the time that the instance's processors worked: every column of /proc/stat but idle and iowait.
func cpuMs() int64 {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	total := int64(0)
	for column, word := range bytes.Fields(line) {
		if column == 0 || column == 4 || column == 5 || column > 8 {
			continue
		}
		ticks, err := strconv.ParseInt(string(word), 10, 64)
		if err == nil {
			total += ticks
		}
	}
	return total * 1000 / ticksPerSecond
}

func count() (processes, openFiles int) {
	found, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, process := range found {
		if descriptors, err := os.ReadDir(process + "/fd"); err == nil { // else it ended meanwhile
			processes++
			openFiles += len(descriptors)
		}
	}
	return processes, openFiles
}
