package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"torpor/guest/internal/fault"
	"torpor/guest/internal/ports"
)

const (
	upgradeName  = "torpor-tunnel"
	dialLimit    = 5 * time.Second
	tunnelBuffer = 64 << 10
)

// tunnel joins a caller and a port of the instance, bytes both ways.
func (s *Server) tunnel(response http.ResponseWriter, request *http.Request) error {
	upgrade := strings.EqualFold(request.Header.Get("Upgrade"), upgradeName)
	if request.Method != http.MethodPost && !(upgrade && request.Method == http.MethodGet) {
		return fault.BadRequest("%s /v1/tunnel; expected POST, or GET with Upgrade: %s", request.Method, upgradeName)
	}
	if request.ProtoMajor < 2 && !upgrade {
		return fault.BadRequest("a tunnel over HTTP/1.1 needs Upgrade: %s", upgradeName)
	}
	port, err := number(request, "port", 0, 1, 65535)
	if err != nil {
		return err
	}
	if port == 0 {
		return fault.BadRequest("port is missing; expected 1 to 65535")
	}
	target, err := ports.Dial(request.Context(), request.URL.Query().Get("host"), int(port), dialLimit)
	if err != nil {
		return err
	}
	defer target.Close()
	if upgrade && request.ProtoMajor < 2 {
		return joinByUpgrade(response, target)
	}
	return joinByStream(response, request, target)
}

// joinByStream uses the two directions of one HTTP/2 stream. The end of the request body is passed on as a half-close.
// The end of the target's bytes ends the stream: HTTP/2 in net/http cannot end its answer and go on reading.
func joinByStream(response http.ResponseWriter, request *http.Request, target *net.TCPConn) error {
	response.Header().Set("Content-Type", "application/octet-stream")
	response.WriteHeader(http.StatusOK)
	control := http.NewResponseController(response)
	if err := control.Flush(); err != nil {
		return err
	}
	go func() {
		buffer := make([]byte, tunnelBuffer)
		if _, err := io.CopyBuffer(onlyWriter{target}, request.Body, buffer); err != nil {
			target.Close() // the caller broke off: so does the other direction
			return
		}
		_ = target.CloseWrite() // fails only when the target is gone, which the other direction sees
	}()
	buffer := make([]byte, tunnelBuffer)
	for {
		count, err := target.Read(buffer)
		if count > 0 {
			if _, err := response.Write(buffer[:count]); err != nil {
				return err
			}
			if err := control.Flush(); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read from the port: %w", err)
		}
	}
}

func joinByUpgrade(response http.ResponseWriter, target *net.TCPConn) error {
	caller, buffered, err := http.NewResponseController(response).Hijack()
	if err != nil {
		return fmt.Errorf("take over the connection: %w", err)
	}
	defer caller.Close()
	if _, err := fmt.Fprintf(caller, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", upgradeName); err != nil {
		return nil // nobody is left to tell
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(target, unread(buffered, caller))
		target.CloseWrite()
	}()
	io.Copy(caller, target)
	if tcp, ok := caller.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
	<-done
	return nil
}

// unread gives first what the HTTP server had read beyond the request.
func unread(buffered *bufio.ReadWriter, caller net.Conn) io.Reader {
	if waiting := buffered.Reader.Buffered(); waiting > 0 {
		return io.MultiReader(io.LimitReader(buffered.Reader, int64(waiting)), caller)
	}
	return caller
}

// onlyWriter hides ReadFrom, which would wait for a full buffer.
type onlyWriter struct{ io.Writer }

func portOf(text string) (int, error) {
	port, err := strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return 0, fault.BadRequest("port is %q; expected 1 to 65535", text)
	}
	return port, nil
}
