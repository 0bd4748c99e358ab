//go:build host

package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests run a real hostd, as root, against this machine's kernel: `go test -tags host ./e2e`.
// RUNSC names the pinned runsc binary. Each test has scopes of its own and purges them, also when it fails.

var built struct {
	dir, hostd, template string
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Geteuid() != 0 || os.Getenv("RUNSC") == "" {
		fmt.Fprintln(os.Stderr, "host tests need root and RUNSC=<path of runsc>")
		return 1
	}
	// One run at a time on this machine: the scopes, subnets and routes of two would be the same.
	alone, err := os.OpenFile("/run/hostd-e2e.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(alone.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		panic(err)
	}
	defer alone.Close()
	dir, err := os.MkdirTemp("", "hostd-e2e-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	built.dir, built.hostd, built.template = dir, filepath.Join(dir, "hostd"), filepath.Join(dir, "template")
	for out, what := range map[string]string{built.hostd: "../cmd/hostd", filepath.Join(built.template, "init"): "./testguest"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, what)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v: %s\n", what, err, text)
			return 1
		}
	}
	program, err := os.ReadFile(filepath.Join(built.template, "init"))
	suid := filepath.Join(built.template, "suid")
	if err = errors.Join(err, os.WriteFile(suid, program, 0o755), os.Chmod(suid, 0o755|os.ModeSetuid)); err != nil {
		fmt.Fprintln(os.Stderr, "making the template:", err)
		return 1
	}
	return m.Run()
}

// node is one hostd and what it is told to prepare.
type node struct {
	t       *testing.T
	scope   string
	dir     string
	subnet  string
	process *exec.Cmd
	exited  chan struct{}
	client  *client
	prepare map[string]any
	// hostd and runsc are the programs that it is made of.
	hostd, runsc string
}

var scopes struct {
	sync.Mutex
	used int
}

// scopeOf lets two runs on one host leave each other alone: HOSTD_E2E_SCOPE gives the scopes' first two hex digits.
func scopeOf(number int) string {
	return fmt.Sprintf("%s%04x", cmp.Or(os.Getenv("HOSTD_E2E_SCOPE"), "e2"), number)
}

// newNode starts a hostd of a scope of its own on a prepared node.
func newNode(t *testing.T, change ...func(prepare map[string]any)) *node {
	t.Helper()
	scopes.Lock()
	number := scopes.used
	scopes.used = (scopes.used + 1) % 50 // As many as there are subnets below; no test has so many at once.
	scopes.Unlock()
	n := &node{t: t, scope: scopeOf(number), subnet: freeSubnet(t, number), hostd: built.hostd, runsc: os.Getenv("RUNSC")}
	n.dir = filepath.Join(built.dir, n.scope)
	n.purge() // What an earlier, killed run of the tests left.
	t.Cleanup(n.end)
	n.prepare = map[string]any{
		"pool":      map[string]any{"sizeMib": 1024, "reserveMib": 128},
		"subnet":    n.subnet + ".0.0/16",
		"hostPorts": map[string]any{"guestToHost": []int{7001}},
		"dns":       map[string]any{"listenPort": 7053},
		"egress":    map[string]any{"allow": []any{}},
		"limits":    map[string]any{"bandwidthMbit": 0, "connections": 0},
	}
	for _, apply := range change {
		apply(n.prepare)
	}
	n.start()
	n.must("node.prepare", n.prepare)
	return n
}

// freeSubnet is the beginning of a /16 that neither this machine's other nodes use nor another number gets.
func freeSubnet(t *testing.T, number int) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, first := range []int{206, 156, 106, 56, 6} {
		_, subnet, err := net.ParseCIDR(fmt.Sprintf("10.%d.0.0/16", first+number))
		if err != nil {
			t.Fatal(err)
		}
		taken := slices.ContainsFunc(addresses, func(address net.Addr) bool {
			at, _, err := net.ParseCIDR(address.String())
			return err == nil && subnet.Contains(at)
		})
		if !taken {
			return fmt.Sprintf("10.%d", first+number)
		}
	}
	t.Fatal("this machine uses up all of 10.0.0.0/8")
	return ""
}

func (n *node) flags(more ...string) []string {
	return append([]string{
		"--scope", n.scope, "--run-dir", filepath.Join(n.dir, "run"), "--pool-dir", filepath.Join(n.dir, "pool"),
		"--pool-file", filepath.Join(n.dir, "pool.btrfs"), "--runsc", n.runsc,
		"--layers", built.template,
	}, more...)
}

func (n *node) start(env ...string) {
	n.t.Helper()
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	n.process = exec.Command(n.hostd, n.flags()...)
	n.process.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	log, err := os.OpenFile(filepath.Join(n.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.t.Fatal(err)
	}
	defer log.Close()
	n.process.Stderr = log
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	exited := make(chan struct{})
	process := n.process
	go func() { process.Wait(); close(exited) }()
	n.exited = exited
	n.eventually("hostd answers", 10*time.Second, func() error {
		select {
		case <-exited:
			n.t.Fatalf("hostd ended: %s", n.log())
		default:
		}
		client, err := dialHostd(filepath.Join(n.dir, "run", "hostd.sock"))
		if err != nil {
			return err
		}
		if _, err := client.ask("hello", map[string]any{"protocol": 1}); err != nil {
			client.connection.Close()
			return err
		}
		n.client = client
		return nil
	})
}

func (n *node) log() string {
	text, _ := os.ReadFile(filepath.Join(n.dir, "log"))
	return string(text)
}

// kill is kill -9, and returns when the process is gone.
func (n *node) kill() {
	n.t.Helper()
	n.process.Process.Kill()
	<-n.exited
	n.client.connection.Close()
}

func (n *node) end() {
	if n.t.Failed() {
		n.t.Logf("log of hostd %s:\n%s", n.scope, n.log())
	}
	if n.process != nil {
		n.process.Process.Kill()
		<-n.exited
	}
	n.purge()
	if left := leftovers(n.scope); left != "" {
		n.t.Errorf("after the purge of %s the host still has: %s", n.scope, left)
	}
	os.RemoveAll(n.dir)
}

func (n *node) purge() {
	out, err := exec.Command(built.hostd, n.flags("--purge")...).CombinedOutput()
	if err != nil {
		n.t.Errorf("purging %s: %v: %s", n.scope, err, out)
	}
}

// leftovers looks for a scope's traces without asking hostd.
func leftovers(scope string) string {
	var found []string
	for _, pattern := range []string{"/run/netns/tp" + scope + "*", "/sys/class/net/tp" + scope + "*", "/sys/fs/cgroup/*/torpor-" + scope, "/sys/fs/cgroup/torpor-" + scope} {
		paths, _ := filepath.Glob(pattern)
		found = append(found, paths...)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, "/"+scope+"/") {
			found = append(found, line)
		}
	}
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, path := range backing {
		if text, _ := os.ReadFile(path); strings.Contains(string(text), "/"+scope+"/") {
			found = append(found, path)
		}
	}
	tables, _ := exec.Command("nft", "list", "tables").Output()
	if strings.Contains(string(tables), "torpor_"+scope) {
		found = append(found, "nftables table")
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range processes {
		if text, _ := os.ReadFile(path); strings.Contains(string(text), "/"+scope+"/run") {
			found = append(found, path+" "+string(text))
		}
	}
	return strings.Join(found, "; ")
}

func (n *node) eventually(what string, within time.Duration, try func() error) {
	n.t.Helper()
	until := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			n.t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 2_000_000}, nil)
	}
}

// client speaks the protocol, one request at a time.
type client struct {
	connection net.Conn
	lines      *bufio.Scanner
	last       int
}

type refusal struct {
	Code, Message string
	Retryable     bool
}

func (r *refusal) Error() string { return r.Code + ": " + r.Message }

func dialHostd(path string) (*client, error) {
	connection, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(connection)
	lines.Buffer(nil, 1<<20)
	return &client{connection: connection, lines: lines}, nil
}

func (c *client) ask(verb string, args any) (map[string]any, error) {
	return c.askWithin(30_000, verb, args)
}

func (c *client) askWithin(deadlineMs int, verb string, args any) (map[string]any, error) {
	c.last++
	line, err := json.Marshal(map[string]any{"id": c.last, "verb": verb, "args": args, "deadlineMs": deadlineMs})
	if err != nil {
		return nil, err
	}
	c.connection.SetDeadline(time.Now().Add(40 * time.Second))
	if _, err := c.connection.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	if !c.lines.Scan() {
		return nil, fmt.Errorf("the connection ended: %v", c.lines.Err())
	}
	var answer struct {
		ID     int
		OK     bool
		Result map[string]any
		Error  *refusal
	}
	if err := json.Unmarshal(c.lines.Bytes(), &answer); err != nil {
		return nil, err
	}
	if !answer.OK {
		return nil, answer.Error
	}
	return answer.Result, nil
}

func (n *node) must(verb string, args any) map[string]any {
	n.t.Helper()
	result, err := n.client.ask(verb, args)
	if err != nil {
		n.t.Fatalf("%s %v: %v", verb, args, err)
	}
	return result
}

func (n *node) refused(code, verb string, args any) {
	n.t.Helper()
	_, err := n.client.ask(verb, args)
	if refused, ok := err.(*refusal); !ok || refused.Code != code {
		n.t.Fatalf("%s %v: got %v, want the refusal %s", verb, args, err, code)
	}
}

type args = map[string]any

// instance is one sandbox of a node.
type instance struct {
	n         *node
	id        string
	slot      int
	memoryMib int
}

func (n *node) instance(slot int) instance {
	return instance{n: n, id: fmt.Sprintf("inst%04d", slot), slot: slot, memoryMib: 256}
}

func (i instance) ref() args { return args{"id": i.id} }

func (i instance) slotArgs() args { return args{"id": i.id, "slot": i.slot} }

func (i instance) diskArgs() args { return args{"id": i.id, "diskMib": 200} }

func (i instance) sandboxArgs() args {
	return args{
		"id": i.id, "slot": i.slot, "lower": []string{built.template}, "hostname": i.id, "argv": []string{"/init"}, "env": []string{"A=1"}, "volumeDir": true,
		"limits": args{"memoryMib": i.memoryMib, "cpus": 1, "pids": 512, "nofile": 1024},
	}
}

// up makes the whole of an instance and waits for its first answer.
func (n *node) up(slot int, change ...func(sandbox args)) instance {
	n.t.Helper()
	i := n.instance(slot)
	sandbox := i.sandboxArgs()
	for _, apply := range change {
		apply(sandbox)
	}
	n.must("disk.create", i.diskArgs())
	n.must("net.create", i.slotArgs())
	n.must("sandbox.create", sandbox)
	n.must("sandbox.start", i.ref())
	i.answers()
	return i
}

func (i instance) ip() string { return address(i.n.subnet, 4*i.slot+2) }

func (i instance) hostIP() string { return address(i.n.subnet, 4*i.slot+1) }

func address(subnet string, offset int) string {
	return fmt.Sprintf("%s.%d.%d", subnet, offset>>8, offset&255)
}

func (i instance) answers() {
	i.n.t.Helper()
	i.n.eventually(i.id+" answers", 10*time.Second, func() error {
		text, err := i.get("/", nil)
		if err == nil && text != i.id {
			return fmt.Errorf("it says %q", text)
		}
		return err
	})
}

var impatient = http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: time.Second}).DialContext}}

func (i instance) get(path string, query map[string]string) (string, error) {
	values := url.Values{}
	for key, value := range query {
		values.Set(key, value)
	}
	response, err := impatient.Get("http://" + i.ip() + ":8080" + path + "?" + values.Encode())
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", text)
	}
	return string(text), err
}

func (i instance) mustGet(path string, query map[string]string) string {
	i.n.t.Helper()
	text, err := i.get(path, query)
	if err != nil {
		i.n.t.Fatalf("%s asked for %s %v: %v", i.id, path, query, err)
	}
	return text
}

func (i instance) state() map[string]any {
	i.n.t.Helper()
	return i.n.must("sandbox.state", i.ref())
}

func (i instance) down() {
	i.n.t.Helper()
	i.n.must("sandbox.delete", i.ref())
	i.n.must("net.delete", i.slotArgs())
	i.n.must("disk.delete", i.ref())
}

func (n *node) inventoryIsEmpty() {
	n.t.Helper()
	for kind, list := range n.must("inventory", args{}) {
		if found, ok := list.([]any); !ok || len(found) != 0 {
			n.t.Errorf("inventory still lists %s: %v", kind, list)
		}
	}
}
