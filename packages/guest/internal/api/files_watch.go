package api

import (
	"net/http"
	"sync"
	"time"

	"torpor/guest/internal/files"
)

const watchKeepalive = 30 * time.Second

// watchFiles tells changes as they happen, until the caller goes away.
func (s *Server) watchFiles(response http.ResponseWriter, request *http.Request) error {
	path, err := s.path(request, "path")
	if err != nil {
		return err
	}
	recursive, err := flag(request, "recursive", false)
	if err != nil {
		return err
	}
	watch, err := s.Files.NewWatch(path, recursive, list(request, "ignore"))
	if err != nil {
		return err
	}
	defer watch.Close()
	lines := newFrames(response)
	var writing sync.Mutex
	send := func(shapes ...any) error {
		writing.Lock()
		defer writing.Unlock()
		for _, shape := range shapes {
			if err := lines.send(shape); err != nil {
				return err
			}
		}
		return lines.control.Flush()
	}
	if err := send(map[string]bool{"ready": true}); err != nil {
		return nil
	}
	stopBeating := beat(watchKeepalive, func() error { return send(map[string]bool{"keepalive": true}) })
	defer stopBeating()
	_ = watch.Follow(request.Context(), func(changes []files.Change) error {
		shapes := make([]any, len(changes))
		for index, change := range changes {
			shapes[index] = change
		}
		return send(shapes...)
	}) // it ends only when the caller goes away
	return nil
}

// beat calls a function again and again until stopped; stopping waits for the last call.
func beat(every time.Duration, do func() error) (stop func()) {
	ticker := time.NewTicker(every)
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		for {
			select {
			case <-ticker.C:
				if do() != nil {
					return
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-over
	}
}
