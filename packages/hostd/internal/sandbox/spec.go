package sandbox

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"torpor.dev/hostd/internal/names"
)

// Ask is what a sandbox is made from.
type Ask struct {
	ID       names.ID
	Slot     names.Slot
	Lower    []string // Read-only directories, top first.
	Hostname string
	Limits   Limits
	Argv     []string
	Env      []string
	// VolumeDir mounts the instance's vol/ at /torpor/vol.
	VolumeDir bool
}

// Limits of one sandbox; none may be left out. Cpus may be a fraction.
type Limits struct {
	MemoryMib int64   `json:"memoryMib"`
	Cpus      float64 `json:"cpus"`
	Pids      int64   `json:"pids"`
	Nofile    uint64  `json:"nofile"`
}

// capabilities of PID 1, in a user namespace of the sandbox's own. SYS_ADMIN is for its bind mounts; the guest takes
// it from its children. There is no NET_RAW: packets with made-up headers are nobody's need.
var capabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_NICE", "CAP_SYS_PTRACE",
}

// places are the host's directories a spec refers to.
type places struct{ rootfs, netns, cgroup, volumes string }

// spec is the OCI runtime's description of an ask.
func spec(ask Ask, at places) *specs.Spec {
	return &specs.Spec{
		Version: "1.1.0",
		Process: &specs.Process{
			Args: ask.Argv,
			Env:  ask.Env,
			Cwd:  "/",
			Capabilities: &specs.LinuxCapabilities{
				Bounding: capabilities, Effective: capabilities, Permitted: capabilities,
			},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: ask.Limits.Nofile, Soft: ask.Limits.Nofile}},
			// sudo and su must work inside; what they may do ends at the sandbox.
			NoNewPrivileges: false,
		},
		Root:     &specs.Root{Path: at.rootfs},
		Hostname: ask.Hostname,
		Mounts:   mounts(ask, at),
		Linux: &specs.Linux{
			CgroupsPath: at.cgroup,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace, Path: at.netns},
			},
		},
	}
}

func mounts(ask Ask, at places) []specs.Mount {
	// tmpfs lives in the sandbox's memory: half of it at most for shared memory, a small part for /run.
	tmpfs := func(where string, sizeMib int64, mode string) specs.Mount {
		return specs.Mount{Destination: where, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", fmt.Sprintf("size=%dm", sizeMib), "mode=" + mode}}
	}
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		tmpfs("/dev/shm", max(ask.Limits.MemoryMib/2, 16), "1777"),
		tmpfs("/run", max(ask.Limits.MemoryMib/8, 16), "755"),
	}
	if ask.VolumeDir {
		out = append(out, specs.Mount{Destination: "/torpor/vol", Type: "bind", Source: at.volumes, Options: []string{"bind", "rw"}})
	}
	return out
}
