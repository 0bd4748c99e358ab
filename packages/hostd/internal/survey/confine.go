package survey

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/seccomp"
)

// nobodys is an account that owns nothing and runs nothing else, not even a scribe.
const nobodys = 0x7fff0002

// openFilesMax is for the deepest tree: merged and upper directory of three trees at each depth.
const openFilesMax = 6*depthMax + 256

// mountTrees makes a root of nothing but the trees, in mounts of this process's own, and opens them.
func mountTrees(root string, trees []Tree) ([]*dir, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil { // First, or the host would see what follows.
		return nil, fmt.Errorf("keeping mounts to itself: %w", err)
	}
	const plain = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC
	if err := unix.Mount("tmpfs", root, "tmpfs", plain, "size=64k,mode=0755"); err != nil {
		return nil, fmt.Errorf("making an empty root: %w", err)
	}
	for i, tree := range trees {
		if err := mountTree(root, i, tree, plain); err != nil {
			return nil, err
		}
	}
	if err := unix.Chdir(root); err != nil {
		return nil, err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // The old root now lies over the new one.
		return nil, fmt.Errorf("changing roots: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return nil, fmt.Errorf("letting go of the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return nil, err
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY|plain, ""); err != nil {
		return nil, fmt.Errorf("making the root read-only: %w", err)
	}
	return openTrees(len(trees))
}

func mountTree(root string, number int, tree Tree, flags uintptr) error {
	merged, upper := filepath.Join(root, mergedName(number)), filepath.Join(root, upperName(number))
	for _, made := range []string{merged, upper} {
		if err := os.Mkdir(made, 0o755); err != nil {
			return fmt.Errorf("making a place for a tree: %w", err)
		}
	}
	options := "lowerdir=" + strings.Join(append([]string{tree.Upper}, tree.Lower...), ":") + ",redirect_dir=follow,index=off,metacopy=off"
	if err := unix.Mount("overlay", merged, "overlay", flags|unix.MS_RDONLY|unix.MS_NOATIME, options); err != nil {
		return fmt.Errorf("mounting the tree %s: %w", tree.Upper, err)
	}
	if err := unix.Mount(tree.Upper, upper, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting the layer %s: %w", tree.Upper, err)
	}
	if err := unix.Mount("", upper, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOATIME|flags, ""); err != nil {
		return fmt.Errorf("mounting the layer %s read-only: %w", tree.Upper, err)
	}
	return nil
}

func mergedName(number int) string { return fmt.Sprintf("merged%d", number) }
func upperName(number int) string  { return fmt.Sprintf("upper%d", number) }

func openTrees(count int) ([]*dir, error) {
	var out []*dir
	for i := range count {
		merged, err := os.Open("/" + mergedName(i))
		if err != nil {
			return nil, err
		}
		upper, err := os.Open("/" + upperName(i))
		if err != nil {
			return nil, err
		}
		out = append(out, &dir{merged: merged, upper: upper})
	}
	return out, nil
}

// kept are the two privileges that reading needs: files of whatever mode, and overlayfs's own attributes. The first would
// also open anything by number, and the second does much more; what they are for is all that the filter lets through.
const kept = 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_SYS_ADMIN

// confine gives up everything else, for good. It was started as root in namespaces of its own.
func confine() error {
	for _, limit := range []struct {
		what int
		most uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_NOFILE, openFilesMax}} {
		if err := unix.Setrlimit(limit.what, &unix.Rlimit{Cur: limit.most, Max: limit.most}); err != nil {
			return fmt.Errorf("limiting the surveyor: %w", err)
		}
	}
	if err := everyThread(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
		return fmt.Errorf("keeping two privileges: %w", err)
	}
	// These three reach every thread, unlike the bare system calls.
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leaving root's groups: %w", err)
	}
	if err := syscall.Setgid(nobodys); err != nil {
		return fmt.Errorf("leaving root's group: %w", err)
	}
	if err := syscall.Setuid(nobodys); err != nil {
		return fmt.Errorf("leaving root's account: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: kept, Permitted: kept}}
	if err := everyThread(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0); err != nil {
		return fmt.Errorf("giving up privileges: %w", err)
	}
	if err := everyThread(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("renouncing new privileges: %w", err)
	}
	return onlyReading()
}

func everyThread(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// onlyReading has the kernel refuse every call but those that read the trees and those that Go's runtime needs.
func onlyReading() error {
	rules := map[uintptr]seccomp.SyscallRule{
		unix.SYS_IOCTL: seccomp.PerArg{seccomp.AnyValue{}, seccomp.EqualTo(ioctlFiemap)},
	}
	for _, call := range []uintptr{
		unix.SYS_OPENAT, unix.SYS_CLOSE, unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_LSEEK, unix.SYS_FCNTL,
		unix.SYS_NEWFSTATAT, unix.SYS_FSTAT, unix.SYS_GETDENTS64, unix.SYS_READLINKAT, unix.SYS_FGETXATTR, unix.SYS_FLISTXATTR,

		unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MPROTECT, unix.SYS_BRK, unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_GETTIME,
		unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
		unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ, unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_TGKILL,
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT, unix.SYS_EVENTFD2, unix.SYS_GETRANDOM, unix.SYS_RESTART_SYSCALL,
		unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
	} {
		rules[call] = seccomp.MatchAll{}
	}
	program := seccomp.Program{
		RuleSets: []seccomp.RuleSet{{Rules: seccomp.MakeSyscallRules(rules), Action: seccomp.Allow}},
		Options: seccomp.ProgramOptions{
			DefaultAction: seccomp.ReturnError.Code(uint16(unix.EPERM)),
			BadArchAction: seccomp.KillProcess,
		},
	}
	filter, _, err := program.Build() // Install takes other arguments in each gVisor.
	if err == nil {
		err = seccomp.SetFilter(filter)
	}
	if err != nil {
		return fmt.Errorf("narrowing its system calls: %w", err)
	}
	return nil
}
