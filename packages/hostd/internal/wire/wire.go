// Package wire is the protocol's envelope: lines of JSON over a stream socket, many requests in flight, answers in any
// order, and errors that carry a code. What the verbs mean is not known here.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// Version is the protocol spoken, answered by the verb hello.
const Version = 1

// MaxLine is the longest request or answer, in bytes.
const MaxLine = 1 << 20

// Code says which kind of failure an answer reports.
type Code string

const (
	BadRequest    Code = "bad_request"
	NotFound      Code = "not_found"
	AlreadyExists Code = "already_exists"
	Busy          Code = "busy"
	NoSpace       Code = "no_space"
	Deadline      Code = "deadline"
	Unsupported   Code = "unsupported"
	HostError     Code = "host_error"
	// Gone says that the sandbox has died, of this verb or before; sandbox.state tells how.
	Gone Code = "gone"
	// Refused says that an image is damaged, or its key another one. An earlier image may be whole.
	Refused Code = "refused"
	// TooLarge says that more was to be looked at than one of the verb's limits allows; the message names it.
	TooLarge Code = "too_large"
)

// Error is a failure the client may meet. Retryable means that asking the same again can help.
type Error struct {
	Code      Code   `json:"code"`
	Message   string `json:"message"`
	Retryable bool   `json:"retryable"`
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf makes an Error; busy, no_space and deadline are retryable, the others are not.
func Errorf(code Code, format string, args ...any) *Error {
	retryable := code == Busy || code == Deadline || code == NoSpace
	return &Error{Code: code, Message: fmt.Errorf(format, args...).Error(), Retryable: retryable}
}

// NotReady is the host's trouble, and none of what was asked for: the same may be asked again when the host is as it should be.
func NotReady(format string, args ...any) *Error {
	failure := Errorf(HostError, format, args...)
	failure.Retryable = true
	return failure
}

// AsError finds the coded error in a chain; one without a code is the host's, or the want of space on one of its disks, which may show at any
// change of a file system: a rename wants room, too. What outer layers said they were doing is kept in the message.
func AsError(err error) *Error {
	var coded *Error
	if errors.As(err, &coded) {
		return &Error{Code: coded.Code, Message: withoutCode(err, coded), Retryable: coded.Retryable}
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return Errorf(NoSpace, "%w", err)
	}
	return Errorf(HostError, "%w", err)
}

func withoutCode(err error, coded *Error) string {
	return string(bytes.Replace([]byte(err.Error()), []byte(coded.Error()), []byte(coded.Message), 1))
}

// Request is one line from the client. DeadlineMs 0 means the verb's own default; Traceparent may be absent.
type Request struct {
	ID          int64           `json:"id"`
	Verb        string          `json:"verb"`
	Args        json.RawMessage `json:"args"`
	DeadlineMs  int64           `json:"deadlineMs"`
	Traceparent string          `json:"traceparent"`
}

// Answer is one line to the client: either a result or an error.
type Answer struct {
	ID     int64  `json:"id"`
	OK     bool   `json:"ok"`
	Result any    `json:"result,omitempty"`
	Error  *Error `json:"error,omitempty"`
}

// ParseRequest reads one line. The request's id is returned even when the rest is refused, so that the refusal can be addressed.
func ParseRequest(line []byte) (Request, *Error) {
	var request Request
	if err := json.Unmarshal(line, &request); err != nil {
		return request, Errorf(BadRequest, "the line is not a request: %w; send {\"id\", \"verb\", \"args\"}", err)
	}
	if request.Verb == "" {
		return request, Errorf(BadRequest, "the request names no verb")
	}
	if request.DeadlineMs < 0 {
		return request, Errorf(BadRequest, "deadlineMs %d is negative", request.DeadlineMs)
	}
	return request, nil
}

// ParseArgs reads a verb's arguments into target and refuses fields it does not know, so that a misspelt limit is not silently no limit.
func ParseArgs(raw json.RawMessage, target any) error {
	if len(raw) == 0 || string(raw) == "null" {
		raw = json.RawMessage("{}")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return Errorf(BadRequest, "args do not fit the verb: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Errorf(BadRequest, "args hold more than one value")
	}
	return nil
}
