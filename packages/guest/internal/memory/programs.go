package memory

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Program is a process below PID 1.
type Program struct {
	Pid           int
	Session       int // the pid of the started process that it descends from
	Name          string
	ResidentBytes int64
	parent        int
	zombie        bool
}

// programs are the living descendants of this process, without those that idle: the shell that waits (see process.Ready).
func programs(idle func(pid int) bool) []Program {
	all := readAll()
	below := []Program{}
	for _, program := range all {
		if !program.zombie && !idle(program.Pid) && descends(program, all) {
			below = append(below, program)
		}
	}
	return below
}

func readAll() map[int]Program {
	all := map[int]Program{}
	directory, err := os.Open("/proc")
	if err != nil {
		return all
	}
	names, _ := directory.Readdirnames(-1) // what could be read is what there is
	directory.Close()
	own := os.Getpid()
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == own {
			continue
		}
		content, err := os.ReadFile(procPath(pid, "stat"))
		if err != nil {
			continue // it ended meanwhile
		}
		if program, ok := parseStat(pid, content); ok {
			all[pid] = program
		}
	}
	return all
}

func descends(program Program, all map[int]Program) bool {
	own := os.Getpid()
	for range len(all) + 1 {
		if program.parent == own {
			return true
		}
		parent, known := all[program.parent]
		if !known {
			return false
		}
		program = parent
	}
	return false
}

func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// parseStat reads /proc/<pid>/stat. The name stands in parentheses and may contain anything, so fields count from the last one.
func parseStat(pid int, content []byte) (Program, bool) {
	open, shut := bytes.IndexByte(content, '('), bytes.LastIndexByte(content, ')')
	if open < 0 || shut < open {
		return Program{}, false
	}
	fields := strings.Fields(string(content[shut+1:]))
	const state, parent, session, resident = 0, 1, 3, 21
	if len(fields) <= resident {
		return Program{}, false
	}
	number := func(index int) int64 {
		value, _ := strconv.ParseInt(fields[index], 10, 64) // the kernel writes numbers
		return value
	}
	return Program{
		Pid: pid, Session: int(number(session)), Name: string(content[open+1 : shut]),
		ResidentBytes: number(resident) * int64(os.Getpagesize()), parent: int(number(parent)), zombie: fields[state] == "Z",
	}, true
}
