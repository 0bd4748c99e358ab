// Package api is PROTOCOL.md: routes, authentication, and the translation between HTTP and the packages that do the work.
package api

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"torpor/guest/internal/account"
	"torpor/guest/internal/fault"
	"torpor/guest/internal/files"
	"torpor/guest/internal/identity"
	"torpor/guest/internal/process"
)

const (
	// jsonBytes bounds a JSON body: a claim with files, or a process with a large environment.
	jsonBytes = 16 << 20
	// streamsPerConnection leaves room for many followers, watchers and tunnels on one connection.
	streamsPerConnection = 4096
	headerTimeout        = 30 * time.Second
)

// Server is the guest's whole API.
type Server struct {
	Version   string
	StartedAt time.Time
	Instance  *identity.Instance
	Processes *process.Table
	Files     *files.Store
	Book      *account.Book
	Port      int // our own, left out of the listed ports
	// Claimed is called after each claim and each new generation; again is false at the first claim.
	Claimed func(again bool)

	mounts mounts
}

type handler func(http.ResponseWriter, *http.Request) error

// Serve answers on the listener until it closes: HTTP/2 with prior knowledge, and HTTP/1.1.
func (s *Server) Serve(listener net.Listener) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:           s.routes(),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          streamsPerConnection,
			MaxReceiveBufferPerConnection: 4 << 20,
			MaxReceiveBufferPerStream:     1 << 20,
		},
	}
	return server.Serve(listener)
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]handler{
		"GET /v1/health":      s.health,
		"POST /v1/identity":   s.claim,
		"POST /v1/generation": s.generation,
		"GET /v1/busy":        s.busy,
		"GET /v1/census":      s.census,

		"POST /v1/processes":              s.startProcess,
		"GET /v1/processes":               s.listProcesses,
		"GET /v1/processes/{id}":          s.getProcess,
		"GET /v1/processes/{id}/output":   s.processOutput,
		"POST /v1/processes/{id}/signal":  s.signalProcess,
		"POST /v1/processes/{id}/stdin":   s.writeStdin,
		"DELETE /v1/processes/{id}/stdin": s.closeStdin,
		"POST /v1/processes/{id}/resize":  s.resizeProcess,

		"GET /v1/files/stat":      s.statFile,
		"GET /v1/files/list":      s.listFiles,
		"GET /v1/files/content":   s.readFile,
		"PUT /v1/files/content":   s.writeFile,
		"POST /v1/files/assemble": s.assembleFile,
		"POST /v1/files/apply":    s.applyFiles,
		"POST /v1/files/mkdir":    s.makeDirectory,
		"POST /v1/files/move":     s.moveFile,
		"DELETE /v1/files":        s.removeFile,

		"GET /v1/metrics":           s.metrics,
		"GET /v1/files/find":        s.findFiles,
		"GET /v1/files/grep":        s.grepFiles,
		"GET /v1/files/watch":       s.watchFiles,
		"GET /v1/ports":             s.listPorts,
		"GET /v1/ports/{port}/wait": s.waitForPort,
		"GET /v1/mounts":            s.listMounts,
		"POST /v1/mounts":           s.mount,
		"DELETE /v1/mounts":         s.unmount,
		"/v1/tunnel":                s.tunnel,
	} {
		mux.Handle(pattern, s.guarded(handle))
	}
	mux.Handle("/", s.guarded(func(_ http.ResponseWriter, request *http.Request) error {
		return fault.NotFound("there is no %s %s in this API", request.Method, request.URL.Path)
	}))
	return mux
}

// guarded checks the token, answers failures, and keeps a bug in one request from ending PID 1.
func (s *Server) guarded(handle handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		answer := &tracked{ResponseWriter: response}
		defer func() {
			if bug := recover(); bug != nil && bug != http.ErrAbortHandler {
				log.Printf("bug in %s %s: %v\n%s", request.Method, request.URL.Path, bug, debug.Stack())
				answer.fail(fault.Internal("a bug in the guest stopped this request: %v", bug))
			}
		}()
		token, isBearer := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
		if !isBearer || !s.Instance.Opens(token) {
			answer.fail(fault.Unauthorized("the token is missing or not the one in force; expected authorization: Bearer <token>"))
			return
		}
		if err := handle(answer, request); err != nil && request.Context().Err() == nil {
			answer.fail(fault.Of(err))
		}
	})
}

// tracked knows whether an answer has begun, after which a failure can only cut the stream.
type tracked struct {
	http.ResponseWriter
	begun bool
}

func (t *tracked) WriteHeader(status int) {
	t.begun = t.begun || status >= 200
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(data []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(data)
}

func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// ReadFrom keeps the sendfile path of HTTP/1.1.
func (t *tracked) ReadFrom(source io.Reader) (int64, error) {
	t.begun = true
	return io.Copy(t.ResponseWriter, source)
}

func (t *tracked) fail(what *fault.Fault) {
	if t.begun {
		panic(http.ErrAbortHandler) // the only way to tell a reader that the bytes are not all
	}
	header := t.Header()
	for _, name := range []string{"Content-Length", "Content-Range", "Accept-Ranges", "Etag", "Last-Modified"} {
		header.Del(name)
	}
	writeJSON(t, what.Status, map[string]any{"error": map[string]string{"code": what.Code, "message": what.Message}})
}

func writeJSON(response http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // our own shapes always encode
	}
	header := response.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(encoded)+1))
	response.WriteHeader(status)
	response.Write(append(encoded, '\n'))
}

func answer(response http.ResponseWriter, body any) error {
	writeJSON(response, http.StatusOK, body)
	return nil
}

// readJSON reads the body into a shape. Unknown fields are fine, so that callers may be newer than the guest.
func readJSON(response http.ResponseWriter, request *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, jsonBytes))
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return fault.BadRequest("the body is empty; expected JSON")
	}
	if err := json.Unmarshal(body, into); err != nil {
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) {
			return fault.BadRequest("the field %q is a %s; expected %s", wrongType.Field, wrongType.Value, wrongType.Type)
		}
		return fault.BadRequest("the body is not JSON: %v", err)
	}
	return nil
}
