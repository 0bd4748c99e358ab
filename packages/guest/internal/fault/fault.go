// Package fault is the guest's vocabulary of expected failures: what a caller may meet, with the code and HTTP status of PROTOCOL.md.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"
)

// Fault is a failure that a caller may meet. Its message says what happened and what was expected.
type Fault struct {
	Status  int
	Code    string
	Message string
}

func (f *Fault) Error() string { return f.Message }

func make(status int, code, format string, args []any) *Fault {
	return &Fault{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func BadRequest(format string, args ...any) *Fault {
	return make(http.StatusBadRequest, "bad_request", format, args)
}

func Unauthorized(format string, args ...any) *Fault {
	return make(http.StatusUnauthorized, "unauthorized", format, args)
}

func NotFound(format string, args ...any) *Fault {
	return make(http.StatusNotFound, "not_found", format, args)
}

func Exists(format string, args ...any) *Fault {
	return make(http.StatusConflict, "exists", format, args)
}

func Conflict(format string, args ...any) *Fault {
	return make(http.StatusConflict, "conflict", format, args)
}

func TooLarge(format string, args ...any) *Fault {
	return make(http.StatusRequestEntityTooLarge, "too_large", format, args)
}

func NotEmpty(format string, args ...any) *Fault {
	return make(http.StatusUnprocessableEntity, "not_empty", format, args)
}

func Failed(format string, args ...any) *Fault {
	return make(http.StatusUnprocessableEntity, "failed", format, args)
}

// Unreachable is `failed` with status 502: nothing answers where a tunnel should lead.
func Unreachable(format string, args ...any) *Fault {
	return make(http.StatusBadGateway, "failed", format, args)
}

func NoSpace(format string, args ...any) *Fault {
	return make(http.StatusInsufficientStorage, "no_space", format, args)
}

func Internal(format string, args ...any) *Fault {
	return make(http.StatusInternalServerError, "internal", format, args)
}

// Of turns any error into a Fault. System errors get the code that their number means; what is left is internal.
func Of(err error) *Fault {
	var known *Fault
	if errors.As(err, &known) {
		return known
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return TooLarge("the body is larger than the %d bytes allowed", tooLarge.Limit)
	case errors.Is(err, fs.ErrNotExist):
		return NotFound("%v", err)
	case errors.Is(err, syscall.ENOTEMPTY):
		return NotEmpty("%v", err)
	case errors.Is(err, fs.ErrExist):
		return Exists("%v", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace("%v", err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.ETXTBSY):
		return Conflict("%v", err)
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EINVAL):
		return BadRequest("%v", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EXDEV), errors.Is(err, syscall.EFBIG):
		return Failed("%v", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Failed("the time limit passed: %v", err)
	}
	return Internal("%v", err)
}
