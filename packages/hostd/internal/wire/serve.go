package wire

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Handler carries one request out. Its error becomes the answer's.
type Handler func(ctx context.Context, request Request) (any, error)

// inFlightMax bounds one connection's requests; the reader stops reading until one is answered.
const inFlightMax = 256

// Listener is what Serve needs of a *net.UnixListener.
type Listener interface {
	AcceptUnix() (*net.UnixConn, error)
}

// Serve accepts until the listener is closed, then waits for the verbs in flight. A peer must be root or allowUID.
func Serve(listener Listener, allowUID int, handle Handler, log *slog.Logger) error {
	var inFlight sync.WaitGroup
	counted := func(ctx context.Context, request Request) (any, error) {
		inFlight.Add(1)
		defer inFlight.Done()
		return handle(ctx, request)
	}
	var rest time.Duration
	for {
		connection, err := listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			inFlight.Wait()
			return nil
		}
		if passes(err) {
			rest = min(max(2*rest, restMin), restMax)
			log.Warn("accepting failed and is tried again", "err", err, "restMs", rest.Milliseconds())
			time.Sleep(rest)
			continue
		}
		if err != nil {
			return fmt.Errorf("accepting on the hostd socket: %w", err)
		}
		rest = 0
		uid, err := peerUID(connection)
		if err != nil || (uid != 0 && uid != allowUID) {
			log.Warn("peer refused", "uid", uid, "allowUid", allowUID, "err", err)
			connection.Close()
			continue
		}
		go serveConnection(connection, counted, log)
	}
}

// Between one failed accept and the next try. A descriptor or some memory may be free by then.
const (
	restMin = 5 * time.Millisecond
	restMax = time.Second
)

// passes tells failures of an accept that say nothing about the next one: a peer that has gone already, or a host that is short of something.
func passes(err error) bool {
	for _, passing := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EINTR, unix.EAGAIN} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

func peerUID(connection *net.UnixConn) (int, error) {
	raw, err := connection.SyscallConn()
	if err != nil {
		return -1, err
	}
	var credentials *unix.Ucred
	var credentialsErr error
	if err := raw.Control(func(fd uintptr) {
		credentials, credentialsErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return -1, err
	}
	if credentialsErr != nil {
		return -1, credentialsErr
	}
	return int(credentials.Uid), nil
}

// serveConnection reads lines until the peer closes. Verbs in flight then run on to their end: half a verb is worse than an unheard answer.
func serveConnection(connection *net.UnixConn, handle Handler, log *slog.Logger) {
	var pending sync.WaitGroup
	writer := &lineWriter{connection: connection}
	slots := make(chan struct{}, inFlightMax)
	lines := bufio.NewScanner(connection)
	lines.Buffer(make([]byte, 16<<10), MaxLine)
	for lines.Scan() {
		request, refusal := ParseRequest(lines.Bytes())
		if refusal != nil {
			writer.write(Answer{ID: request.ID, Error: refusal})
			continue
		}
		slots <- struct{}{}
		pending.Add(1)
		go func() {
			defer func() { <-slots; pending.Done() }()
			writer.write(answer(request, handle, log))
		}()
	}
	if err := lines.Err(); err != nil {
		writer.write(Answer{Error: Errorf(BadRequest, "reading a line of at most %d bytes: %w; the connection is closed", MaxLine, err)})
	}
	pending.Wait()
	connection.Close()
}

const defaultDeadline = 30 * time.Second

func answer(request Request, handle Handler, log *slog.Logger) (out Answer) {
	deadline := defaultDeadline
	if request.DeadlineMs > 0 {
		deadline = time.Duration(request.DeadlineMs) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	// A bug in one verb answers that verb; the other instances of the node go on being served.
	defer func() {
		if bug := recover(); bug != nil {
			log.Error("bug in verb", "verb", request.Verb, "traceId", request.TraceID(), "bug", fmt.Sprint(bug), "stack", string(debug.Stack()))
			out = Answer{ID: request.ID, Error: Errorf(HostError, "%s met a bug: %v; see hostd's log", request.Verb, bug)}
		}
	}()
	result, err := handle(ctx, request)
	if err != nil {
		return Answer{ID: request.ID, Error: AsError(err)}
	}
	return Answer{ID: request.ID, OK: true, Result: result}
}

type lineWriter struct {
	mutex      sync.Mutex
	connection net.Conn
}

// write drops what cannot be delivered: a peer that is gone reads the kernel's state when it comes back.
func (w *lineWriter) write(answer Answer) {
	line, err := json.Marshal(answer)
	if err != nil {
		line, _ = json.Marshal(Answer{ID: answer.ID, Error: Errorf(HostError, "the result cannot be written as JSON: %w", err)})
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.connection.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := w.connection.Write(append(line, '\n')); err != nil {
		w.connection.Close()
	}
}
