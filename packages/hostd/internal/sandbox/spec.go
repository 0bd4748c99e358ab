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
	// Build is hostd's own unless another is asked for.
	Build Build `json:",omitzero"`
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

// hostTasks is what the host allows a sandbox of so many pids. It must never be met before the limit inside: gVisor tells
// a guest program that may not fork so and goes on, but ends when it is itself refused a thread. A process inside takes
// some 2.2 of the host's.
func hostTasks(pids int64) int64 { return 3*pids + 512 }

// places are what a spec refers to: the host's directories, and whether the template's own /tmp is to stay in sight.
type places struct {
	rootfs, netns, cgroup, volumes string
	keepTmp                        bool
}

// spec is the OCI runtime's description of an ask. An image is restored only into a shell of the very description that it was saved in, so that what
// stands here may not change for what an earlier hostd has made.
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
			Rlimits: []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Hard: ask.Limits.Nofile, Soft: ask.Limits.Nofile},
				// gVisor keeps it by itself, whatever has neither SYS_ADMIN nor SYS_RESOURCE: PID 1's children have not.
				{Type: "RLIMIT_NPROC", Hard: uint64(ask.Limits.Pids), Soft: uint64(ask.Limits.Pids)},
			},
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
	// What lies in a tmpfs is the sandbox's memory, and no program can be ended for it. So all of them together stay below the
	// limit: whoever fills them is told that there is no space. gVisor's own default is half of the host's memory.
	tmpfs := func(where string, share int64, mode string) specs.Mount {
		size := fmt.Sprintf("size=%dm", max(ask.Limits.MemoryMib/share, 4))
		return specs.Mount{Destination: where, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", size, "mode=" + mode}}
	}
	out := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		tmpfs("/dev/shm", 4, "1777"),
		tmpfs("/run", 8, "755"),
	}
	if !at.keepTmp {
		out = append(out, tmpfs("/tmp", 2, "1777"))
	}
	if ask.VolumeDir {
		out = append(out, specs.Mount{Destination: "/torpor/vol", Type: "bind", Source: at.volumes, Options: []string{"bind", "rw"}})
	}
	return out
}
