package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRequestsAreReadAndRefused(t *testing.T) {
	for line, want := range map[string]string{
		`{"id":7,"verb":"x","args":{"a":1},"deadlineMs":50}`: "",
		`{"id":7,"verb":"x"}`:                                "",
		`{"id":7,"verb":"x","traceparent":"anything"}`:       "",
		`{"id":7}`:                            "no verb",
		`{"id":7,"verb":"x","deadlineMs":-1}`: "negative",
		`{"id":"7","verb":"x"}`:               "not a request",
		`not json`:                            "not a request",
	} {
		_, refusal := ParseRequest([]byte(line))
		if got := fmt.Sprint(refusal); (want == "") != (refusal == nil) || !strings.Contains(got, want) && want != "" {
			t.Errorf("%s: got %v, want %q", line, refusal, want)
		}
	}
}

func TestArgsWithAMisspeltFieldAreRefused(t *testing.T) {
	var args struct {
		DiskMib int `json:"diskMib"`
	}
	for raw, ok := range map[string]bool{`{"diskMib":3}`: true, ``: true, `null`: true, `{"disMib":3}`: false, `{"diskMib":"3"}`: false, `{} {}`: false, `[]`: false} {
		if err := ParseArgs(json.RawMessage(raw), &args); (err == nil) != ok {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestATraceIsReadAndAMisshapenOnePassedOver(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for traceparent, want := range map[string]string{
		"00-" + trace + "-" + span + "-01": trace, "": "", "00-" + trace: "", "00-" + trace + "-" + span + "-1": "",
		"00-" + strings.Repeat("0", 32) + "-" + span + "-01": "", "00-" + strings.ToUpper(trace) + "-" + span + "-01": "",
		"00-" + trace + "-" + span + "-01-more": "",
	} {
		if got := (Request{Traceparent: traceparent}).TraceID(); got != want {
			t.Errorf("%q: got %q, want %q", traceparent, got, want)
		}
	}
}

func TestAnErrorKeepsItsCodeAndWhatWasBeingDone(t *testing.T) {
	coded := AsError(fmt.Errorf("creating sandbox a: %w", Errorf(NoSpace, "the pool is full")))
	if coded.Code != NoSpace || !coded.Retryable || coded.Message != "creating sandbox a: the pool is full" {
		t.Errorf("got %+v", coded)
	}
	full := AsError(fmt.Errorf("naming: %w", &os.LinkError{Op: "rename", Old: "a", New: "b", Err: unix.ENOSPC}))
	if full.Code != NoSpace || !full.Retryable || full.Message != "naming: rename a b: no space left on device" {
		t.Errorf("got %+v", full)
	}
	plain := AsError(fmt.Errorf("mounting: %w", os.ErrPermission))
	if plain.Code != HostError || plain.Retryable || plain.Message != "mounting: permission denied" {
		t.Errorf("got %+v", plain)
	}
}

func served(t *testing.T, handle Handler) net.Conn {
	t.Helper()
	return servedBy(t, handle, func(listener *net.UnixListener) Listener { return listener })
}

// servedBy serves on what wrap makes of a real listener.
func servedBy(t *testing.T, handle Handler, wrap func(*net.UnixListener) Listener) net.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		ended <- Serve(wrap(listener), os.Getuid(), handle, slog.New(slog.NewTextHandler(io.Discard, nil)))
	}()
	connection, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		connection.Close()
		listener.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return connection
}

func TestAnswersComeAsTheyAreReadyAndABugAnswersItsOwnRequest(t *testing.T) {
	release := make(chan struct{})
	connection := served(t, func(ctx context.Context, request Request) (any, error) {
		switch request.Verb {
		case "slow":
			<-release
		case "late":
			<-ctx.Done()
			return nil, Errorf(Deadline, "%w", ctx.Err())
		case "bug":
			panic(errors.New("oops"))
		}
		return map[string]string{"verb": request.Verb}, nil
	})
	fmt.Fprint(connection, `{"id":1,"verb":"slow"}`+"\n"+`{"id":2,"verb":"quick"}`+"\n")
	lines := bufio.NewScanner(connection)
	lines.Buffer(nil, MaxLine)
	next := func() string { lines.Scan(); return lines.Text() }
	if got := next(); got != `{"id":2,"ok":true,"result":{"verb":"quick"}}` {
		t.Errorf("first came %s", got)
	}
	close(release)
	if got := next(); !strings.HasPrefix(got, `{"id":1,"ok":true`) {
		t.Errorf("then came %s", got)
	}
	for ask, want := range map[string]string{
		`{"id":3,"verb":"bug"}`:                 `{"id":3,"ok":false,"error":{"code":"host_error"`,
		`{"id":4,"verb":"late","deadlineMs":1}`: `{"id":4,"ok":false,"error":{"code":"deadline"`,
		`{"id":5}`:                              `{"id":5,"ok":false,"error":{"code":"bad_request"`,
	} {
		fmt.Fprintln(connection, ask)
		if got := next(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s", ask, got)
		}
	}
}

func TestALineWithoutEndIsRefusedAndEndsTheConnection(t *testing.T) {
	connection := served(t, func(context.Context, Request) (any, error) { return nil, nil })
	go fmt.Fprintln(connection, strings.Repeat("x", MaxLine+100))
	text, err := io.ReadAll(connection)
	if !strings.Contains(string(text), "bad_request") && err == nil {
		t.Errorf("got %q, %v", text, err)
	}
}

// short fails its first accepts, as a host does that is out of file descriptors.
type short struct {
	*net.UnixListener
	failures []error
}

func (s *short) AcceptUnix() (*net.UnixConn, error) {
	if len(s.failures) == 0 {
		return s.UnixListener.AcceptUnix()
	}
	err := s.failures[0]
	s.failures = s.failures[1:]
	return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", err)}
}

func TestAnAcceptThatFailsForTheMomentDoesNotEndTheServing(t *testing.T) {
	connection := servedBy(t, func(context.Context, Request) (any, error) { return "here", nil }, func(listener *net.UnixListener) Listener {
		return &short{listener, []error{unix.EMFILE, unix.ECONNABORTED, unix.EINTR, unix.ENFILE}}
	})
	fmt.Fprintln(connection, `{"id":1,"verb":"x"}`)
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil || line != `{"id":1,"ok":true,"result":"here"}`+"\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestAnAcceptThatCannotSucceedAgainEndsTheServing(t *testing.T) {
	broken := &short{failures: []error{unix.EBADF}}
	if err := Serve(broken, 0, nil, slog.New(slog.DiscardHandler)); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v", err)
	}
}
