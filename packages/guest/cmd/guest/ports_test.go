package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// echoServer answers each connection with what it sends, after a greeting, and says goodbye at its half-close.
func echoServer(t *testing.T, address string) int {
	listener, err := net.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				fmt.Fprint(connection, "hello ")
				io.Copy(connection, connection)
				fmt.Fprint(connection, " goodbye")
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestATunnelCarriesBothWaysAndHalfCloses(t *testing.T) {
	g := startGuest(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		port := echoServer(t, address)
		reader, writer := io.Pipe()
		response := g.send("POST", fmt.Sprintf("/v1/tunnel?port=%d", port), reader)
		defer response.Body.Close()
		equal(t, "status", response.StatusCode, 200)
		received := bufio.NewReader(response.Body)
		greeting := make([]byte, 6)
		_, err := io.ReadFull(received, greeting)
		must(t, err)
		for index := range 3 { // a real conversation: each answer comes before the next question
			fmt.Fprintf(writer, "line %d\n", index)
			text, err := received.ReadString('\n')
			must(t, err)
			equal(t, "echo", text, fmt.Sprintf("line %d\n", index))
		}
		writer.Close()
		rest, err := io.ReadAll(received)
		must(t, err)
		equal(t, "after the half-close", string(rest), " goodbye")
	}
}

func TestATunnelCarriesMuch(t *testing.T) {
	g := startGuest(t)
	port := echoServer(t, "127.0.0.1:0")
	const size = 30 << 20
	response := g.send("POST", fmt.Sprintf("/v1/tunnel?port=%d", port), io.LimitReader(zeros{}, size))
	defer response.Body.Close()
	count, err := io.Copy(io.Discard, response.Body)
	must(t, err)
	equal(t, "bytes", count, size+len("hello  goodbye"))
}

type zeros struct{}

func (zeros) Read(buffer []byte) (int, error) { return len(buffer), nil }

func TestATunnelByUpgrade(t *testing.T) {
	g := startGuest(t)
	port := echoServer(t, "127.0.0.1:0")
	connection, err := net.Dial("tcp", g.url[len("http://"):])
	must(t, err)
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(connection, "POST /v1/tunnel?port=%d HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: torpor-tunnel\r\n\r\nearly", port, g.token)
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	must(t, err)
	equal(t, "status", response.StatusCode, 101)
	connection.(*net.TCPConn).CloseWrite()
	rest, err := io.ReadAll(reader)
	must(t, err)
	equal(t, "conversation", string(rest), "hello early goodbye")
}

func TestATunnelToNothingIsRefused(t *testing.T) {
	g := startGuest(t)
	g.refused(502, "failed", "POST", fmt.Sprintf("/v1/tunnel?port=%d", freePort(t)), nil)
	for _, query := range []string{"", "?port=0", "?port=70000", "?port=x"} {
		g.refused(400, "bad_request", "POST", "/v1/tunnel"+query, nil)
	}
}

func TestListenersAreListedWithTheirProcess(t *testing.T) {
	g := startGuest(t)
	port := freePort(t)
	g.refused(422, "failed", "GET", fmt.Sprintf("/v1/ports/%d/wait?waitMs=30", port), nil)
	waited := make(chan int)
	go func() {
		status, _ := g.raw("GET", fmt.Sprintf("/v1/ports/%d/wait?waitMs=15000", port), nil)
		waited <- status
	}()
	started := g.ok("POST", "/v1/processes", m{"shell": fmt.Sprintf(
		"sleep 0.1; python3 -c 'import socket,time; s=socket.socket(); s.bind((\"127.0.0.1\",%d)); s.listen(); time.sleep(100)'; true", port)})
	equal(t, "wait", <-waited, 200)
	for _, item := range g.ok("GET", "/v1/ports", nil)["ports"].([]any) {
		listed := item.(m)
		if fmt.Sprint(listed["port"]) == fmt.Sprint(port) {
			equal(t, "address", listed["address"], "127.0.0.1")
			equal(t, "process", listed["processId"], started["id"])
			return
		}
		if strings.HasSuffix(g.url, fmt.Sprint(":", listed["port"])) {
			t.Fatal("the guest's own port is listed")
		}
	}
	t.Fatalf("port %d is not listed", port)
}

func TestACensusHasWhatRunsAndListens(t *testing.T) {
	g := startGuest(t)
	echoPort := echoServer(t, "127.0.0.1:0")
	g.ok("POST", "/v1/identity", m{"token": g.token, "generation": 7})
	before := time.Now().UnixMilli()
	g.ok("POST", "/v1/processes", m{"shell": "true", "waitMs": 5000})
	started := g.ok("POST", "/v1/processes", m{"shell": "sleep 100", "name": "sleeper"})
	census := g.ok("GET", "/v1/census", nil)
	if at := int64(census["atMs"].(float64)); at < before || at > time.Now().UnixMilli() {
		t.Fatalf("the clock says %d", at)
	}
	processes := census["processes"].([]any)
	equal(t, "running processes", len(processes), 1)
	equal(t, "process", processes[0].(m)["id"], started["id"])
	equal(t, "name", processes[0].(m)["name"], "sleeper")
	listed := false
	for _, item := range census["ports"].([]any) {
		listed = listed || fmt.Sprint(item.(m)["port"]) == fmt.Sprint(echoPort)
	}
	equal(t, "listener listed", listed, true)
	equal(t, "published", census["published"], census["generation"])
}
