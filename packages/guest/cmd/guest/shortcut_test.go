package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A line that avoids a fresh shell must answer as a fresh shell does: the same line is also run by an explicit bash -c.
func TestShortcutsCannotBeToldFromAFreshShell(t *testing.T) {
	requireRoot(t)
	g := startGuest(t)
	work := filepath.Join(g.dir, "it's a dir")
	must(t, os.Mkdir(work, 0o755))
	must(t, os.WriteFile(filepath.Join(work, "script"), []byte("echo script: $0 $1\n"), 0o755)) // no #!: only a shell can run it
	must(t, os.WriteFile(filepath.Join(work, "data"), []byte("data\n"), 0o644))
	g.ok("POST", "/v1/identity", m{"token": "t", "generation": 1, "workdir": work, "env": m{"FOO": "a  b * 'q' \"é\" $HOME\nline", "EMPTY": ""}})
	g.token = "t"
	for _, text := range []string{
		`echo "benchmark"`, "echo hi", "printf '%s|' a 'b c' \"d\"", "true", "false", "exit 7", ":", "pwd", "pwd -P",
		"echo $FOO", `echo "$FOO"`, "echo \"$EMPTY\" ${HOME} $USER $PATH $SHELL $LANG $PWD", "echo a && false || echo b", "echo a; exit 3; echo b",
		"printf nothing-known %q", "printf '%d\\n' x", "echo -e 'a\\tb'", "pwd -Z", "echo a\necho b\nprintf '%d' y", "exit many words", "exit x",
		"echo 'é☃'", "printf '%3s|' é", "echo " + strings.Repeat("x", 20_000), "echo " + strings.Repeat("x", 40_000),
		"env", "node --no-such-option-x", "no-such-program a b", "./script one", "./data", "/no/such", "ls data nothing", "cat data", "sh -c 'kill -9 $$'",
		"python3 -c 'import os,sys; print(os.getcwd(), os.getsid(0)==os.getpid(), sorted(os.listdir(\"/proc/self/fd\"))[:3], sys.argv)'",
		"grep -E 'Cap|Sig[PBIC]|Uid|Groups|NoNewPrivs|Seccomp:' /proc/self/status", "cat /proc/self/limits", "id", "/bin", "sleep 0",
	} {
		direct := g.run(text)
		fresh := g.ok("POST", "/v1/processes", m{"argv": []string{"/bin/bash", "-c", text}, "waitMs": 20000})
		for _, field := range []string{"exitCode", "signal", "stdout", "stderr", "cwd", "user", "status"} {
			if sorted(direct[field]) != sorted(fresh[field]) {
				t.Errorf("%.60q: %s is %.300q; a fresh shell gives %.300q", text, field, fmt.Sprint(direct[field]), fmt.Sprint(fresh[field]))
			}
		}
		with := m{"env": m{"BAR": "1", "FOO": "2"}, "cwd": "/"}
		equal(t, text+" with another environment", sorted(g.run(text, with)["stdout"]),
			sorted(g.ok("POST", "/v1/processes", m{"argv": []string{"/bin/bash", "-c", text}, "waitMs": 20000, "env": with["env"], "cwd": "/"})["stdout"]))
	}
}

// sorted ignores the order of lines, as the order of variables means nothing.
func sorted(text any) string {
	lines := strings.Split(fmt.Sprint(text), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (g *guest) readyShellPid() int {
	found := 0
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, command := range commands {
		content, _ := os.ReadFile(command)
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(command), "stat"))
		if strings.Contains(string(content), "read -r -N 32768") && strings.Contains(string(stat), fmt.Sprintf(" %d ", g.cmd.Process.Pid)) {
			fmt.Sscan(string(stat), &found)
		}
	}
	return found
}

func TestTheReadyShellAnswersAndIsReplaced(t *testing.T) {
	requireRoot(t)
	g := startGuest(t)
	last := 0
	for range 5 {
		pid := 0
		eventually(t, "a new shell is ready", func() bool { pid = g.readyShellPid(); return pid != 0 && pid != last })
		equal(t, "who answers", g.run("echo x")["pid"], pid)
		last = pid
	}
	// One that the tenant killed is only replaced.
	eventually(t, "a shell is ready", func() bool { return g.readyShellPid() != 0 })
	g.run(fmt.Sprintf("kill -9 %d; sleep 0.1", g.readyShellPid()))
	equal(t, "answer", g.run("echo still")["stdout"], "still\n")
	eventually(t, "a shell is ready again", func() bool { return g.readyShellPid() != 0 })
	// After a fork notice the shell from before is not used.
	before := g.readyShellPid()
	g.ok("POST", "/v1/generation", m{"generation": 5})
	equal(t, "the old shell answers", fmt.Sprint(g.run("echo x")["pid"]) == fmt.Sprint(before), false)
	equal(t, "it is not counted", g.ok("GET", "/v1/busy", nil)["processes"], 0)
}
