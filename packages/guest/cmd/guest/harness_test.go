package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every test speaks to a real guest: a child process that keeps its state in a temporary directory and is a subreaper instead of PID 1.

var binary string

func TestMain(m *testing.M) {
	// Where there is no Go, as inside a sandbox, the guest to test is given: GUEST_BINARY=/torpor/guest ./guest.test
	if binary = os.Getenv("GUEST_BINARY"); binary != "" {
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "guest-test-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "guest")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build the guest: %v\n%s", err, out))
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const bootToken = "boot-secret"

type guest struct {
	t     *testing.T
	url   string
	token string
	dir   string
	http  *http.Client
	cmd   *exec.Cmd
	log   *bytes.Buffer
}

// startGuest starts a guest and ends it with the test. Extra flags may follow.
func startGuest(t *testing.T, flags ...string) *guest {
	t.Helper()
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc")
	must(t, os.MkdirAll(etc, 0o755))
	must(t, os.Chmod(dir, 0o755)) // other users must get in, too
	must(t, os.Chmod(filepath.Dir(dir), 0o755))
	must(t, os.WriteFile(filepath.Join(etc, "passwd"), []byte("root:x:0:0:root:/root:/bin/bash\nagent:x:4242:4243::"+dir+":/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(etc, "group"), []byte("root:x:0:\nagent:x:4243:\nextra:x:4300:other,agent\n"), 0o644))
	port := freePort(t)
	g := &guest{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", port), token: bootToken, dir: dir, log: &bytes.Buffer{}}
	g.cmd = exec.Command(binary, append([]string{
		"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--state-dir", filepath.Join(dir, "run"), "--etc-dir", etc, "--exit-on-sigterm",
	}, flags...)...)
	g.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TORPOR_BOOT_TOKEN=" + bootToken}
	g.cmd.Stderr = g.log
	must(t, g.cmd.Start())
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	g.http = &http.Client{Transport: &http.Transport{Protocols: protocols}, Timeout: 60 * time.Second}
	t.Cleanup(func() {
		killBelow(g.cmd.Process.Pid)
		g.cmd.Process.Kill()
		g.cmd.Wait()
		if t.Failed() || strings.Contains(g.log.String(), "DATA RACE") {
			t.Errorf("the guest's log:\n%s", g.log)
		}
	})
	eventually(t, "the guest listens", func() bool {
		connection, err := net.Dial("tcp", g.url[len("http://"):])
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
	return g
}

// killBelow ends every descendant, so that no test leaves programs behind.
func killBelow(pid int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, text := range strings.Fields(string(children)) {
			if child, err := strconv.Atoi(text); err == nil {
				killBelow(child)
				syscall.Kill(child, syscall.SIGKILL)
			}
		}
	}
}

func freePort(t *testing.T) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func (g *guest) send(method, path string, body io.Reader) *http.Response {
	g.t.Helper()
	request, err := http.NewRequest(method, g.url+path, body)
	must(g.t, err)
	request.Header.Set("Authorization", "Bearer "+g.token)
	response, err := g.http.Do(request)
	must(g.t, err)
	return response
}

// call sends JSON (or raw bytes) and decodes the answer into a map.
func (g *guest) call(method, path string, body any) (int, map[string]any) {
	g.t.Helper()
	status, raw := g.raw(method, path, body)
	decoded := map[string]any{}
	if err := json.Unmarshal(raw, &decoded); err != nil {
		g.t.Fatalf("%s %s: the answer is not JSON: %s", method, path, raw)
	}
	return status, decoded
}

func (g *guest) raw(method, path string, body any) (int, []byte) {
	g.t.Helper()
	var reader io.Reader
	switch given := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(given)
	case []byte:
		reader = bytes.NewReader(given)
	default:
		encoded, err := json.Marshal(given)
		must(g.t, err)
		reader = bytes.NewReader(encoded)
	}
	response := g.send(method, path, reader)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	must(g.t, err)
	return response.StatusCode, raw
}

// ok is a call that must succeed.
func (g *guest) ok(method, path string, body any) map[string]any {
	g.t.Helper()
	status, decoded := g.call(method, path, body)
	if status != 200 {
		g.t.Fatalf("%s %s: %d %v", method, path, status, decoded)
	}
	return decoded
}

// refused is a call that must fail with this status and code.
func (g *guest) refused(status int, code, method, path string, body any) {
	g.t.Helper()
	got, decoded := g.call(method, path, body)
	problem, _ := decoded["error"].(map[string]any)
	if got != status || problem["code"] != code {
		g.t.Fatalf("%s %s: %d %v; expected %d %s", method, path, got, decoded, status, code)
	}
	if message, _ := problem["message"].(string); len(message) < 10 {
		g.t.Fatalf("%s %s: the message %q says too little", method, path, message)
	}
}

type m = map[string]any

// run runs a shell command to its end.
func (g *guest) run(command string, with ...m) m {
	g.t.Helper()
	ask := m{"shell": command, "waitMs": 20000}
	for _, extra := range with {
		for name, value := range extra {
			ask[name] = value
		}
	}
	return g.ok("POST", "/v1/processes", ask)
}

func at(path string) string { return "path=" + url.QueryEscape(path) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func requireRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}
