// Guest is PID 1 of every instance. See ../../PROTOCOL.md for what it says and ../../README.md for how it is built.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"torpor/guest/internal/account"
	"torpor/guest/internal/api"
	"torpor/guest/internal/files"
	"torpor/guest/internal/identity"
	"torpor/guest/internal/memory"
	"torpor/guest/internal/process"
	"torpor/guest/internal/spawn"
)

// version is set by the build: -ldflags "-X main.version=…".
var version = "dev"

type options struct {
	listen         string
	bootTokenEnv   string
	stateDir       string
	etcDir         string
	setHostname    bool
	notifySignal   string
	memoryLimitMib int64
	exitOnSigterm  bool
	readyShell     bool
	memoryGuard    bool
	nameserverEnv  string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("guest: ")
	if err := run(parse(os.Args[1:])); err != nil {
		log.Fatal(err)
	}
}

func parse(args []string) options {
	var o options
	flags := flag.NewFlagSet("guest", flag.ExitOnError)
	flags.StringVar(&o.listen, "listen", "0.0.0.0:7000", "address to serve on")
	flags.StringVar(&o.bootTokenEnv, "boot-token-env", "TORPOR_BOOT_TOKEN", "environment variable that holds the boot token")
	flags.StringVar(&o.stateDir, "state-dir", "/run/torpor", "where the generation and the output of processes are kept; should be a tmpfs")
	flags.StringVar(&o.etcDir, "etc-dir", "/etc", "where passwd, group, hosts and hostname are")
	flags.BoolVar(&o.setHostname, "set-hostname", os.Getpid() == 1, "whether a claim sets the kernel's hostname")
	flags.StringVar(&o.notifySignal, "notify-signal", "", "signal sent to every process started by the API when the generation changes; none when empty")
	flags.Int64Var(&o.memoryLimitMib, "memory-limit-mib", 0, "memory of the instance; 0 takes MemTotal of /proc/meminfo")
	flags.BoolVar(&o.exitOnSigterm, "exit-on-sigterm", false, "end at SIGTERM instead of ignoring it")
	flags.BoolVar(&o.readyShell, "ready-shell", true, "keep a bash waiting for the next simple command line")
	flags.BoolVar(&o.memoryGuard, "memory-guard", os.Getpid() == 1, "end the largest program before the instance's memory is used up")
	flags.StringVar(&o.nameserverEnv, "nameserver-env", "TORPOR_NAMESERVER", "environment variable with the address that resolv.conf names; it stays as it is when empty")
	flags.Parse(args) // ends the program by itself on a mistake
	return o
}

func run(o options) error {
	// A fixed number also stops the runtime from looking at the cgroup again and again: an idle guest must be silent.
	runtime.GOMAXPROCS(max(2, min(runtime.NumCPU(), 4)))
	bootToken := takeSecret(o.bootTokenEnv)
	if bootToken == "" {
		log.Fatalf("the environment variable %s is empty; expected the boot token", o.bootTokenEnv)
	}
	if err := spawn.BecomeReaper(); err != nil {
		return err
	}
	outliveSignals(o.exitOnSigterm)
	// Not a flag: an image is restored only under the command line that it was made with, and a fork has another address.
	nameserver := os.Getenv(o.nameserverEnv)
	os.Unsetenv(o.nameserverEnv)
	if err := nameResolver(o.etcDir, nameserver); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	book := account.NewBook(o.etcDir)
	children := spawn.New(nurseryThreads)
	limit := memory.Limit(o.memoryLimitMib)
	template := process.OwnEnvironment(o.bootTokenEnv)
	ready := process.NewReady(children, template, book, o.readyShell)
	table := process.NewTable(children, ready, book, template, filepath.Join(o.stateDir, "processes"), max(limit/10, outputBytesLeast))
	if o.memoryGuard && limit > 0 {
		table.Started = guard(table, ready, limit).Started
	}
	notify, err := notifier(table, o.notifySignal)
	if err != nil {
		return err
	}
	server := &api.Server{
		Version: version, StartedAt: time.Now(),
		Instance:  identity.New(identity.Places{StateDir: o.stateDir, EtcDir: o.etcDir, SetHostname: o.setHostname}, book, bootToken),
		Processes: table,
		Files:     &files.Store{Book: book},
		Book:      book,
		Port:      listener.Addr().(*net.TCPAddr).Port,
		Claimed: func(forked bool) {
			ready.Claimed(forked)
			notify()
		},
	}
	log.Printf("listening on %s", listener.Addr())
	return server.Serve(listener)
}

const (
	// nurseryThreads is how many processes may be in the middle of fork and exec at once.
	nurseryThreads = 3
	// outputBytesLeast is what outputs may take together even on the smallest instance.
	outputBytesLeast = 16 << 20
)

// takeSecret reads a variable and removes it from the environment. /proc/1/environ keeps showing it, but only to PID 1:
// the kernel gives it to nobody with fewer capabilities, and children have fewer. The claim makes it worthless besides.
func takeSecret(name string) string {
	secret := os.Getenv(name)
	os.Unsetenv(name)
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // a second lock on the same door
	return secret
}

// survivable is every signal whose default would end or stop a program, but KILL and STOP. Linux keeps those two from PID 1 as well;
// gVisor does not, so a tenant's root can end their own sandbox.
var survivable = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE,
	syscall.SIGUSR1, syscall.SIGSEGV, syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTERM, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
}

// unused are the signals that PID 1 has no use for. For each signal that the Go runtime handles it makes one system call in
// every fork, so their handlers are taken away: that is a sixth of the time of a short command inside gVisor.
func unused() []syscall.Signal {
	rest := []syscall.Signal{
		syscall.SIGSTKFLT, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGVTALRM, syscall.SIGPROF, syscall.SIGIO, syscall.SIGPWR, syscall.SIGSYS,
		syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGCHLD,
	}
	for realtime := 34; realtime <= 64; realtime++ {
		rest = append(rest, syscall.Signal(realtime))
	}
	return rest
}

// dropHandlers sets signals to their default without the runtime's handler. Ignoring is the runtime's only way to let go of a
// handler, and children would inherit it, so the default is set afterwards behind its back.
func dropHandlers(signals []syscall.Signal) {
	var byDefault [4]uint64 // struct sigaction of the kernel: SIG_DFL, no flags, an empty mask
	for _, one := range signals {
		signal.Ignore(one)
		syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(one), uintptr(unsafe.Pointer(&byDefault)), 0, 8, 0, 0)
	}
}

// outliveSignals takes the signals that would end PID 1. They are handled, not ignored, since children would inherit that.
func outliveSignals(exitOnSigterm bool) {
	received := make(chan os.Signal, 8)
	signal.Notify(received, survivable...)
	dropHandlers(unused())
	go func() {
		for what := range received {
			if what == syscall.SIGTERM && exitOnSigterm {
				os.Exit(0)
			}
			log.Printf("took %v and goes on", what)
		}
	}()
}

func guard(table *process.Table, ready *process.Ready, limit int64) *memory.Guard {
	return memory.NewGuard(limit, ready.IsWaiting, func(victim memory.Program) {
		what := fmt.Sprintf("killed %s (pid %d, %d MiB): the %d MiB of this instance are nearly used up", victim.Name, victim.Pid, victim.ResidentBytes>>20, limit>>20)
		log.Print(what)
		table.MemoryRanOut(victim.Session, what)
	})
}

// notifier tells running programs of a new generation by a signal, when one is configured.
func notifier(table *process.Table, name string) (func(), error) {
	if name == "" {
		return func() {}, nil
	}
	chosen, err := process.ParseSignal(name)
	if err != nil {
		return nil, err
	}
	return func() {
		for _, running := range table.All() {
			_ = running.Signal(chosen, true) // one that has just ended needs no notice
		}
	}, nil
}
