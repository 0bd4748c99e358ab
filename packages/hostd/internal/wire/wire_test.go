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
)

func TestRequestsAreReadAndRefused(t *testing.T) {
	for line, want := range map[string]string{
		`{"id":7,"verb":"x","args":{"a":1},"deadlineMs":50}`: "",
		`{"id":7,"verb":"x"}`:                                "",
		`{"id":7}`:                                           "no verb",
		`{"id":7,"verb":"x","deadlineMs":-1}`:                "negative",
		`{"id":"7","verb":"x"}`:                              "not a request",
		`not json`:                                           "not a request",
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

func TestAnErrorKeepsItsCodeAndWhatWasBeingDone(t *testing.T) {
	coded := AsError(fmt.Errorf("creating sandbox a: %w", Errorf(NoSpace, "the pool is full")))
	if coded.Code != NoSpace || !coded.Retryable || coded.Message != "creating sandbox a: the pool is full" {
		t.Errorf("got %+v", coded)
	}
	plain := AsError(fmt.Errorf("mounting: %w", os.ErrPermission))
	if plain.Code != HostError || plain.Retryable || plain.Message != "mounting: permission denied" {
		t.Errorf("got %+v", plain)
	}
}

func served(t *testing.T, handle Handler) net.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- Serve(listener, os.Getuid(), handle, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
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
