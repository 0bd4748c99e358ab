package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func itoa(number int) string { return strconv.Itoa(number) }

func voluntarySwitches(t *testing.T, pid int) int {
	total := 0
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, task := range tasks {
		content, err := os.ReadFile(task)
		must(t, err)
		for line := range strings.Lines(string(content)) {
			if rest, found := strings.CutPrefix(line, "voluntary_ctxt_switches:"); found {
				count, err := strconv.Atoi(strings.TrimSpace(rest))
				must(t, err)
				total += count
			}
		}
	}
	return total
}

func TestACommandRunsAndItsOutputComesInline(t *testing.T) {
	g := startGuest(t)
	done := g.run("echo out; echo err >&2; exit 3")
	equal(t, "exitCode", done["exitCode"], 3)
	equal(t, "status", done["status"], "exited")
	equal(t, "stdout", done["stdout"], "out\n")
	equal(t, "stderr", done["stderr"], "err\n")
	equal(t, "signal", done["signal"], nil)
	equal(t, "truncated", done["truncated"], false)
	equal(t, "by argv", g.ok("POST", "/v1/processes", m{"argv": []string{"printf", "%s|", "a b", "$HOME"}, "waitMs": 9000})["stdout"], "a b|$HOME|")
}

func TestBothStreamsKeepTheOrderInWhichTheyCame(t *testing.T) {
	g := startGuest(t)
	want := ""
	script := ""
	// Two pipes tell nothing of their order but when each was read: the gaps are longer than a busy machine keeps a reader waiting.
	for index := range 5 {
		script += fmt.Sprintf("echo o%d; sleep 0.3; echo e%d >&2; sleep 0.3;", index, index)
		want += fmt.Sprintf("o%d\ne%d\n", index, index)
	}
	equal(t, "logs", g.run(script)["logs"], want)
}

func TestSignalsAndExitCodes(t *testing.T) {
	g := startGuest(t)
	done := g.run("kill -SEGV $$")
	equal(t, "exitCode", done["exitCode"], 139)
	equal(t, "signal", done["signal"], "SEGV")
	g.ok("POST", "/v1/processes", m{"name": "long", "shell": "sleep 1000 & sleep 1000"})
	g.refused(409, "exists", "POST", "/v1/processes", m{"name": "long", "shell": "true"})
	g.refused(400, "bad_request", "POST", "/v1/processes/long/signal", m{"signal": "NOPE"})
	g.ok("POST", "/v1/processes/long/signal", m{"signal": "TERM"})
	done = g.ok("GET", "/v1/processes/long?waitMs=10000", nil)
	equal(t, "exitCode", done["exitCode"], 143)
	equal(t, "endReason", done["endReason"], "signal")
	g.refused(409, "conflict", "POST", "/v1/processes/long/signal", m{"signal": "TERM"})
	g.refused(404, "not_found", "GET", "/v1/processes/nobody", nil)
	// The name is free again, and means the newest.
	again := g.run("echo second", m{"name": "long"})
	equal(t, "newest", g.ok("GET", "/v1/processes/long", nil)["id"], again["id"])
	equal(t, "by pid", g.ok("GET", "/v1/processes/"+fmt.Sprint(again["pid"]), nil)["id"], again["id"])
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	g := startGuest(t)
	script := filepath.Join(g.dir, "plain")
	must(t, os.WriteFile(script, []byte("no program"), 0o644))
	g.refused(422, "failed", "POST", "/v1/processes", m{"argv": []string{"no-such-program"}})
	g.refused(422, "failed", "POST", "/v1/processes", m{"argv": []string{"/no/such"}})
	g.refused(422, "failed", "POST", "/v1/processes", m{"argv": []string{script}})
	g.refused(422, "failed", "POST", "/v1/processes", m{"shell": "true", "cwd": "/no/such"})
	g.refused(400, "bad_request", "POST", "/v1/processes", m{"shell": "true", "user": "no-such-user"})
	for _, ask := range []m{{}, {"argv": []string{}}, {"argv": []string{"a"}, "shell": "b"}, {"argv": "a"}, {"shell": "a\x00b"},
		{"shell": "x", "timeoutMs": -1}, {"shell": "x", "waitMs": -1}, {"shell": "x", "env": m{"": "a"}}, {"shell": "x", "pty": m{"cols": 0, "rows": 3}},
		{"shell": "x", "restart": m{"maxRestarts": -2}}, {"shell": "x", "outputLimit": -1}} {
		g.refused(400, "bad_request", "POST", "/v1/processes", ask)
	}
	equal(t, "running", g.ok("GET", "/v1/busy", nil)["processes"], 0)
	g.refused(422, "failed", "POST", "/v1/processes", m{"name": "n", "argv": []string{"/no/such"}})
	g.run("true", m{"name": "n"}) // a failed start does not hold the name
}

func TestATimeLimitKillsTheWholeGroup(t *testing.T) {
	g := startGuest(t)
	done := g.run("sleep 321 & echo $!; sleep 321", m{"timeoutMs": 200})
	equal(t, "exitCode", done["exitCode"], 137)
	equal(t, "endReason", done["endReason"], "timeout")
	child := strings.TrimSpace(done["stdout"].(string))
	eventually(t, "the grandchild is gone", func() bool { return !exists("/proc/" + child) })
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestAGrandchildHoldingTheOutputDoesNotHoldTheAnswer(t *testing.T) {
	g := startGuest(t)
	begun := time.Now()
	done := g.run("echo first; (sleep 1; echo late; sleep 0.2) &")
	if took := time.Since(begun); took > 900*time.Millisecond {
		t.Fatalf("the answer took %v", took)
	}
	equal(t, "stdout", done["stdout"], "first\n")
	eventually(t, "later output is still kept", func() bool {
		_, out := g.raw("GET", "/v1/processes/"+done["id"].(string)+"/output?stream=stdout", nil)
		return string(out) == "first\nlate\n"
	})
}

func TestOrphansAreReapedAndNoExitIsLost(t *testing.T) {
	g := startGuest(t)
	var all sync.WaitGroup
	for index := range 40 {
		all.Go(func() {
			done := g.run(fmt.Sprintf("(sleep 0.05; exit 9) & (true &) ; exit %d", index))
			if fmt.Sprint(done["exitCode"]) != itoa(index) {
				t.Errorf("exit code of %d: %v", index, done["exitCode"])
			}
		})
	}
	all.Wait()
	eventually(t, "no children are left", func() bool {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", g.cmd.Process.Pid, g.cmd.Process.Pid))
		zombies := 0
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, stat := range stats {
			content, _ := os.ReadFile(stat)
			if strings.Contains(string(content), fmt.Sprintf(") Z %d ", g.cmd.Process.Pid)) {
				zombies++
			}
		}
		return len(children) == 0 && zombies == 0
	})
	equal(t, "running", g.ok("GET", "/v1/busy", nil)["processes"], 0)
}

func TestRestartsCountAndStop(t *testing.T) {
	g := startGuest(t)
	done := g.run("echo try; exit 4", m{"restart": m{"maxRestarts": 2, "delayMs": 20}, "name": "r"})
	equal(t, "restarts", done["restarts"], 2)
	equal(t, "exitCode", done["exitCode"], 4)
	equal(t, "stdout", done["stdout"], "try\ntry\ntry\n")
	if !strings.Contains(done["stderr"].(string), "restart 1 of 2") {
		t.Fatalf("the log does not tell of the restart: %v", done["stderr"])
	}
	// A good exit is not restarted.
	equal(t, "restarts after success", g.run("true", m{"restart": m{"maxRestarts": -1, "delayMs": 20}})["restarts"], 0)
	// A caller who ends it ends it, even between two tries.
	g.ok("POST", "/v1/processes", m{"name": "forever", "shell": "exit 1", "restart": m{"maxRestarts": -1, "delayMs": 60000}})
	eventually(t, "it waits to be restarted", func() bool { return fmt.Sprint(g.ok("GET", "/v1/processes/forever", nil)["restarts"]) == "1" })
	g.ok("POST", "/v1/processes/forever/signal", m{"signal": "TERM"})
	equal(t, "status", g.ok("GET", "/v1/processes/forever?waitMs=5000", nil)["status"], "exited")
}

func TestChildrenStartWithDefaultSignals(t *testing.T) {
	g := startGuest(t)
	equal(t, "ignored and blocked", g.run("grep -E 'SigIgn|SigBlk' /proc/self/status")["stdout"], "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n")
}

func TestStandardInput(t *testing.T) {
	g := startGuest(t)
	g.ok("POST", "/v1/processes", m{"name": "cat", "argv": []string{"cat"}, "stdin": true})
	g.ok("POST", "/v1/processes/cat/stdin", "one ")
	g.ok("POST", "/v1/processes/cat/stdin", "two")
	g.ok("DELETE", "/v1/processes/cat/stdin", nil)
	g.ok("DELETE", "/v1/processes/cat/stdin", nil)
	equal(t, "status", g.ok("GET", "/v1/processes/cat?waitMs=9000", nil)["status"], "exited")
	_, out := g.raw("GET", "/v1/processes/cat/output?stream=stdout", nil)
	equal(t, "output", string(out), "one two")
	g.refused(409, "conflict", "POST", "/v1/processes/cat/stdin", "late")
	g.ok("POST", "/v1/processes", m{"name": "none", "shell": "cat; sleep 100"})
	g.refused(409, "conflict", "POST", "/v1/processes/none/stdin", "x")
	// A writer that waits for a full pipe is released when the program ends.
	g.ok("POST", "/v1/processes", m{"name": "deaf", "shell": "sleep 0.3", "stdin": true})
	g.refused(409, "conflict", "POST", "/v1/processes/deaf/stdin", strings.Repeat("x", 1<<20))
}

func TestATerminal(t *testing.T) {
	g := startGuest(t)
	done := g.run("tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all", m{"pty": m{"cols": 91, "rows": 17}})
	lines := strings.Split(done["stdout"].(string), "\r\n")
	if !strings.HasPrefix(lines[0], "/dev/pts/") || lines[1] != "17 91" || lines[2] != "all" {
		t.Fatalf("terminal: %q", done["stdout"])
	}
	g.ok("POST", "/v1/processes", m{"name": "sh", "argv": []string{"/bin/sh"}, "pty": m{"cols": 80, "rows": 24}})
	g.ok("POST", "/v1/processes/sh/resize", m{"cols": 120, "rows": 40})
	g.ok("POST", "/v1/processes/sh/stdin", "stty size; echo $((6*7))\n")
	eventually(t, "the shell answers", func() bool {
		_, out := g.raw("GET", "/v1/processes/sh/output?stream=stdout", nil)
		return strings.Contains(string(out), "40 120") && strings.Contains(string(out), "42")
	})
	g.ok("POST", "/v1/processes/sh/stdin", "exit 5\n")
	equal(t, "exitCode", g.ok("GET", "/v1/processes/sh?waitMs=9000", nil)["exitCode"], 5)
	g.ok("POST", "/v1/processes", m{"name": "nopty", "argv": []string{"sleep", "100"}})
	g.refused(409, "conflict", "POST", "/v1/processes/nopty/resize", m{"cols": 1, "rows": 1})
}

func TestUsers(t *testing.T) {
	requireRoot(t)
	g := startGuest(t)
	equal(t, "by name", g.run("id -u; id -g; id -G; echo $HOME $USER $SHELL", m{"user": "agent"})["stdout"], "4242\n4243\n4243 4300\n"+g.dir+" agent /bin/sh\n")
	equal(t, "by numbers", g.run("id -u; id -g", m{"user": "1234:5678"})["stdout"], "1234\n5678\n")
	equal(t, "no powers", g.run("grep -c 'CapEff:.*0000000000000000' /proc/self/status", m{"user": "agent"})["stdout"], "1\n")
	g.ok("POST", "/v1/identity", m{"token": "t", "generation": 1, "user": "agent", "env": m{"HOME": "/custom"}})
	g.token = "t"
	equal(t, "default user", g.run("id -u; echo $HOME")["stdout"], "4242\n/custom\n")
	equal(t, "another user's home", g.run("echo $HOME", m{"user": "root"})["stdout"], "/root\n")
	written := g.ok("PUT", "/v1/files/content?parents=1&"+at("sub/mine"), "x")
	equal(t, "owner", written["owner"], "agent")
	equal(t, "path", written["path"], filepath.Join(g.dir, "sub/mine"))
}

type line struct {
	Stream  string
	Offset  int64
	Data    string
	Exit    *struct{ Code int }
	Dropped *struct {
		Stream   string
		From, To int64
	}
}

// follow reads frames until the exit.
func (g *guest) follow(path string) (streams map[string]string, dropped int64, code int) {
	g.t.Helper()
	response := g.send("GET", path, nil)
	defer response.Body.Close()
	streams = map[string]string{}
	expected := map[string]int64{}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var item line
		must(g.t, json.Unmarshal(lines.Bytes(), &item))
		switch {
		case item.Exit != nil:
			return streams, dropped, item.Exit.Code
		case item.Dropped != nil:
			equal(g.t, "the dropped range follows what was read", item.Dropped.From, expected[item.Dropped.Stream])
			dropped += item.Dropped.To - item.Dropped.From
			expected[item.Dropped.Stream] = item.Dropped.To
		case item.Stream != "":
			data, err := base64.StdEncoding.DecodeString(item.Data)
			must(g.t, err)
			equal(g.t, "offset of "+item.Stream, item.Offset, expected[item.Stream])
			expected[item.Stream] += int64(len(data))
			streams[item.Stream] += string(data)
		}
	}
	g.t.Fatalf("the stream ended without an exit: %v", lines.Err())
	return nil, 0, 0
}

func TestFollowersSeeEverythingFromTheBeginningToTheExit(t *testing.T) {
	g := startGuest(t)
	g.ok("POST", "/v1/processes", m{"name": "p", "shell": "echo a; sleep 0.1; echo b >&2; sleep 0.1; echo c; exit 2"})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			streams, _, code := g.follow("/v1/processes/p/output?format=frames&follow=1")
			equal(t, "streams", streams, m{"stdout": "a\nc\n", "stderr": "b\n"})
			equal(t, "exit", code, 2)
		})
	}
	all.Wait()
	_, raw := g.raw("GET", "/v1/processes/p/output?stream=stdout&from=2&follow=1", nil)
	equal(t, "from an offset", string(raw), "c\n")
	_, raw = g.raw("GET", "/v1/processes/p/output", nil)
	equal(t, "both, raw", string(raw), "a\nb\nc\n")
}

func TestLongOutputIsCappedWithTrueOffsets(t *testing.T) {
	g := startGuest(t, "--memory-limit-mib", "40") // a tenth is less than the least: 16 MiB, so 8 MiB a stream
	const total = 30 << 20
	g.ok("POST", "/v1/processes", m{"name": "big", "shell": fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo end >&2", total)})
	done := g.ok("GET", "/v1/processes/big?waitMs=30000", nil)
	equal(t, "stdoutBytes", int64(done["stdoutBytes"].(float64)), total)
	streams, dropped, _ := g.follow("/v1/processes/big/output?format=frames&follow=1")
	equal(t, "kept and dropped", int64(len(streams["stdout"]))+dropped, total)
	if kept := len(streams["stdout"]); kept < 4<<20 || kept > 8<<20 {
		t.Fatalf("%d bytes kept", kept)
	}
	equal(t, "stderr", streams["stderr"], "end\n")
	_, tail := g.raw("GET", fmt.Sprintf("/v1/processes/big/output?stream=stdout&from=%d", total-10), nil)
	equal(t, "tail", string(tail), "xxxxxxxxxx")
	entries, err := os.ReadDir(filepath.Join(g.dir, "run", "processes", done["id"].(string)))
	must(t, err)
	equal(t, "files", len(entries), 2)
}

func TestInlineOutputIsCutAndSaysSo(t *testing.T) {
	g := startGuest(t)
	done := g.run("printf 'ééé'", m{"outputLimit": 3})
	equal(t, "stdout", done["stdout"], "é")
	equal(t, "truncated", done["truncated"], true)
	still := g.run("echo now; sleep 100", m{"waitMs": 300})
	equal(t, "status", still["status"], "running")
	equal(t, "stdout so far", still["stdout"], "now\n")
}

func TestManyEndedProcessesAreForgottenInOrder(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a thousand processes")
	}
	g := startGuest(t)
	g.ok("POST", "/v1/processes", m{"name": "old", "argv": []string{"sleep", "1000"}})
	for range 1010 {
		g.ok("POST", "/v1/processes", m{"argv": []string{"true"}, "waitMs": 9000})
	}
	all := g.ok("GET", "/v1/processes", nil)["processes"].([]any)
	if len(all) > 1002 {
		t.Fatalf("%d processes are remembered", len(all))
	}
	equal(t, "the running one stays", all[0].(m)["name"], "old")
	g.refused(404, "not_found", "GET", "/v1/processes/prc-2", nil)
}
