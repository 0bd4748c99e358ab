package spawn

import (
	"golang.org/x/sys/unix"
)

// childCapabilities is what a container runtime gives an ordinary root by default: enough for package managers and sudo,
// without mounting, tracing others, or changing the network.
const childCapabilities = uint64(1)<<unix.CAP_CHOWN |
	1<<unix.CAP_DAC_OVERRIDE |
	1<<unix.CAP_FSETID |
	1<<unix.CAP_FOWNER |
	1<<unix.CAP_MKNOD |
	1<<unix.CAP_NET_RAW |
	1<<unix.CAP_SETGID |
	1<<unix.CAP_SETUID |
	1<<unix.CAP_SETFCAP |
	1<<unix.CAP_SETPCAP |
	1<<unix.CAP_NET_BIND_SERVICE |
	1<<unix.CAP_SYS_CHROOT |
	1<<unix.CAP_KILL |
	1<<unix.CAP_AUDIT_WRITE

// giveUpCapabilities narrows the calling thread. Without CAP_SETPCAP the bounding set cannot be narrowed;
// then PID 1 itself was started with few capabilities and there is nothing to guard.
func giveUpCapabilities() {
	for capability := 0; capability <= unix.CAP_LAST_CAP; capability++ {
		if childCapabilities&(1<<capability) == 0 {
			_ = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		}
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)

	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&header, &sets[0]) != nil {
		return
	}
	for half := range sets {
		allowed := uint32(childCapabilities >> (32 * half))
		sets[half].Permitted &= allowed
		sets[half].Effective &= allowed
		sets[half].Inheritable = 0
	}
	_ = unix.Capset(&header, &sets[0])
}
