// hostd is the one process of a node that runs as root; PROTOCOL.md is what it speaks.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/failpoint"
	"torpor.dev/hostd/internal/host"
	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/sandbox"
	"torpor.dev/hostd/internal/scribe"
	"torpor.dev/hostd/internal/survey"
	"torpor.dev/hostd/internal/swap"
	"torpor.dev/hostd/internal/wire"
)

// The main goroutine keeps the main thread to itself. /proc/self means that thread, and libraries here restore a network
// namespace from /proc/self/ns/net: were a goroutine that changes its thread's namespace ever to run on it, all later
// restores would lead into one tenant's namespace.
func init() { runtime.LockOSThread() }

func main() {
	ended := make(chan error)
	go func() { ended <- run() }()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, "hostd:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 5 && os.Args[1] == "spawn" { // Started by hostd itself, never by a person.
		return sandbox.RunSpawner(sandbox.Runsc{Binary: os.Args[2], Root: os.Args[3], Bundles: os.Args[4]})
	}
	if len(os.Args) == 3 && os.Args[1] == "scribe" { // The same.
		return scribe.Run(os.Args[2])
	}
	if len(os.Args) == 3 && os.Args[1] == "survey" { // The same.
		return survey.Run(os.Args[2])
	}
	if len(os.Args) == 2 && os.Args[1] == "swaps" { // For whoever examines a host on which no hostd runs.
		areas, err := swap.Shared.Areas()
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(areas)
	}
	given, err := parseFlags()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("must run as root")
	}
	if given.purge {
		return purge(given)
	}
	return serve(given)
}

type flags struct {
	scope    names.Scope
	paths    names.Paths
	socket   string
	runsc    string
	layers   []string
	allowUID int
	gid      int
	purge    bool
	verbose  bool
}

func parseFlags() (flags, error) {
	var out flags
	scope := flag.String("scope", "", "6 lower-case hex digits from which all names on the host derive")
	flag.StringVar(&out.paths.RunDir, "run-dir", "", "directory on a tmpfs for sockets, locks and bundles (default /run/torpor/<scope>)")
	flag.StringVar(&out.paths.PoolDir, "pool-dir", "", "where the disk pool is mounted (default /var/lib/torpor/<scope>/pool)")
	flag.StringVar(&out.paths.PoolFile, "pool-file", "", "the file the pool is in (default /var/lib/torpor/<scope>/pool.btrfs)")
	flag.StringVar(&out.runsc, "runsc", "", "path of the pinned runsc binary")
	flag.Func("layers", "a directory that sandboxes' read-only layers may lie in; may be given several times", func(path string) error {
		absolute, err := filepath.Abs(path)
		out.layers = append(out.layers, absolute)
		return err
	})
	flag.StringVar(&out.socket, "socket", "", "unix socket to serve on (default <run-dir>/hostd.sock); file descriptor 3 is used instead when LISTEN_FDS=1")
	flag.IntVar(&out.allowUID, "allow-uid", 0, "the uid that may connect, besides root")
	flag.IntVar(&out.gid, "gid", 0, "the group that owns the socket")
	flag.BoolVar(&out.purge, "purge", false, "remove everything of this scope from the host, then end")
	flag.BoolVar(&out.verbose, "verbose", false, "log every verb, also the quiet ones that succeed in time")
	flag.Parse()
	var err error
	if out.scope, err = names.ParseScope(*scope); err != nil {
		return out, err
	}
	orDefault(&out.paths.RunDir, "/run/torpor/"+string(out.scope))
	orDefault(&out.paths.PoolDir, filepath.Join("/var/lib/torpor", string(out.scope), "pool"))
	orDefault(&out.paths.PoolFile, filepath.Join("/var/lib/torpor", string(out.scope), "pool.btrfs"))
	orDefault(&out.socket, out.paths.Socket())
	for _, path := range []*string{&out.paths.RunDir, &out.paths.PoolDir, &out.paths.PoolFile, &out.socket, &out.runsc} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return out, err
		}
	}
	if out.runsc == "" && !out.purge {
		return out, errors.New("--runsc must give the path of the runsc binary")
	}
	if len(out.layers) == 0 && !out.purge {
		return out, errors.New("--layers must name where sandboxes' read-only layers lie")
	}
	return out, nil
}

func orDefault(value *string, otherwise string) {
	if *value == "" {
		*value = otherwise
	}
}

const purgeDeadline = 2 * time.Minute

func purge(given flags) error {
	ctx, cancel := context.WithTimeout(context.Background(), purgeDeadline)
	defer cancel()
	if err := os.MkdirAll(given.paths.RunDir, 0o711); err != nil {
		return fmt.Errorf("making the run directory: %w", err)
	}
	alone, err := beAlone(filepath.Join(given.paths.RunDir, "hostd.lock"))
	if err != nil {
		return err
	}
	defer alone.Close()
	purged, err := host.Purge(ctx, given.scope, given.paths)
	if err != nil {
		return fmt.Errorf("purging scope %s: %w", given.scope, err)
	}
	return json.NewEncoder(os.Stdout).Encode(purged)
}

func serve(given flags) error {
	level := slog.LevelInfo
	if given.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: asEvent})).With("room", "hostd", "scope", given.scope)
	points, err := failpoint.Parse(os.Getenv("TORPOR_FAILPOINTS"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(given.paths.RunDir, 0o711); err != nil {
		return fmt.Errorf("making the run directory: %w", err)
	}
	alone, err := beAlone(filepath.Join(given.paths.RunDir, "hostd.lock"))
	if err != nil {
		return err
	}
	defer alone.Close()
	opened, err := host.Open(host.Options{
		Scope: given.scope, Paths: given.paths, Runsc: given.runsc, Layers: given.layers, RunscVersion: runscVersion(), Owner: given.allowUID, Points: points, Log: log,
	})
	if err != nil {
		return err
	}
	listener, err := listen(given)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	go func() { <-stop; listener.Close() }()
	log.Info("serving", "socket", given.socket, "pid", os.Getpid())
	return wire.Serve(listener, given.allowUID, opened.Handle, log)
}

// asEvent calls what a line tells of by the name that all rooms' lines have for it.
func asEvent(groups []string, attribute slog.Attr) slog.Attr {
	if attribute.Key == slog.MessageKey && len(groups) == 0 {
		attribute.Key = "event"
	}
	return attribute
}

const predecessorDeadline = 10 * time.Second

// beAlone waits for a predecessor to be gone: two hostds of one scope would each think they know what the other does.
func beAlone(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	until := time.Now().Add(predecessorDeadline)
	for unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		if time.Now().After(until) {
			return nil, fmt.Errorf("another hostd of this scope has held %s for %s; end it first", path, predecessorDeadline)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return file, nil
}

// listen takes the socket it was given, else makes one. Its name stays in place when hostd ends, so that a client's retry finds the next one.
func listen(given flags) (*net.UnixListener, error) {
	if os.Getenv("LISTEN_FDS") == "1" {
		given := os.NewFile(3, "hostd.sock")
		generic, err := net.FileListener(given)
		if err != nil {
			return nil, fmt.Errorf("using the listening socket on file descriptor 3: %w", err)
		}
		given.Close()
		listener, ok := generic.(*net.UnixListener)
		if !ok {
			return nil, errors.New("file descriptor 3 is not a unix socket")
		}
		return listener, nil
	}
	// Made under another name, then renamed: no client finds it before its owner and mode are right.
	fresh := given.socket + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing %s: %w", fresh, err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", fresh, err)
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chown(fresh, 0, given.gid), os.Chmod(fresh, 0o660), os.Rename(fresh, given.socket)); err != nil {
		return nil, fmt.Errorf("giving the socket %s its place: %w", given.socket, err)
	}
	return listener, nil
}

// runscVersion is the version of the gVisor module this program is built with; runsc must be built from the same.
func runscVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, module := range info.Deps {
		if module.Path == "gvisor.dev/gvisor" {
			return module.Version
		}
	}
	return "unknown"
}
