// Package names derives every name hostd uses on the host from three things: the scope (which node of which
// installation), an instance's id and its slot. Nothing is looked up or remembered, so a successor, a purge and a
// person with a shell all arrive at the same names.
package names

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// MaxSlot is the last slot: 16384 networks of four addresses fill the node's /16.
const MaxSlot = 16383

var (
	scopePattern  = regexp.MustCompile(`^[0-9a-f]{6}$`)
	idPattern     = regexp.MustCompile(`^[a-z0-9]{8,24}$`)
	volumePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
)

// Scope is six lower-case hex digits that keep two nodes on one host apart.
type Scope string

// ID names one instance.
type ID string

// Slot is an instance's small number, from which its addresses and its device derive.
type Slot int

// ParseScope refuses anything but six lower-case hex digits.
func ParseScope(text string) (Scope, error) {
	if !scopePattern.MatchString(text) {
		return "", fmt.Errorf("scope %q must be 6 lower-case hex digits", text)
	}
	return Scope(text), nil
}

// ParseID refuses anything but 8 to 24 lower-case letters and digits.
func ParseID(text string) (ID, error) {
	if !idPattern.MatchString(text) {
		return "", fmt.Errorf("instance id %q must be 8 to 24 characters of a-z and 0-9", text)
	}
	return ID(text), nil
}

// ParseSlot refuses numbers outside 0 … MaxSlot.
func ParseSlot(number int) (Slot, error) {
	if number < 0 || number > MaxSlot {
		return 0, fmt.Errorf("slot %d must be between 0 and %d", number, MaxSlot)
	}
	return Slot(number), nil
}

// ParseVolume refuses a volume's id or mount name that could leave its directory.
func ParseVolume(text string) (string, error) {
	if !volumePattern.MatchString(text) {
		return "", fmt.Errorf("volume name %q must be 1 to 63 characters of a-z, 0-9, _ and -, not beginning with _ or -", text)
	}
	return text, nil
}

// Netns is the file name under /run/netns.
func (s Scope) Netns(slot Slot) string { return fmt.Sprintf("tp%s-%d", s, slot) }

// Veth is the host's end; at most 14 characters, one less than the kernel allows.
func (s Scope) Veth(slot Slot) string { return fmt.Sprintf("tp%sn%d", s, slot) }

// VethPrefix is what all host ends of this scope begin with.
func (s Scope) VethPrefix() string { return "tp" + string(s) + "n" }

// Table is the nftables table of family inet.
func (s Scope) Table() string { return "torpor_" + string(s) }

// CgroupParent is below each hierarchy's root; an instance's cgroup is CgroupParent/id.
func (s Scope) CgroupParent() string { return "torpor-" + string(s) }

// SlotOfNetns reads a slot back from a file name under /run/netns.
func (s Scope) SlotOfNetns(name string) (Slot, bool) { return slotAfter(name, "tp"+string(s)+"-") }

// SlotOfVeth reads a slot back from a device name.
func (s Scope) SlotOfVeth(name string) (Slot, bool) { return slotAfter(name, s.VethPrefix()) }

func slotAfter(name, prefix string) (Slot, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	number, err := strconv.Atoi(rest)
	if err != nil || strconv.Itoa(number) != rest {
		return 0, false
	}
	slot, err := ParseSlot(number)
	return slot, err == nil
}

// Addresses are one slot's pair inside the node's subnet.
type Addresses struct{ Host, Instance netip.Addr }

// ParseSubnet wants an IPv4 /16 at its own start.
func ParseSubnet(text string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("subnet %q is not a prefix: %w", text, err)
	}
	if !subnet.Addr().Is4() || subnet.Bits() != 16 || subnet.Masked() != subnet {
		return netip.Prefix{}, fmt.Errorf("subnet %q must be an IPv4 /16 such as 10.86.0.0/16", text)
	}
	return subnet, nil
}

// AddressesOf gives slot n the /30 at offset 4·n.
func AddressesOf(subnet netip.Prefix, slot Slot) Addresses {
	base := subnet.Addr().As4()
	offset := 4 * int(slot)
	at := func(last int) netip.Addr {
		return netip.AddrFrom4([4]byte{base[0], base[1], byte((offset + last) >> 8), byte((offset + last) & 0xff)})
	}
	return Addresses{Host: at(1), Instance: at(2)}
}

// Paths are the places of one scope in the file system.
type Paths struct{ RunDir, PoolDir, PoolFile string }

func (p Paths) Socket() string          { return filepath.Join(p.RunDir, "hostd.sock") }
func (p Paths) RunscRoot() string       { return filepath.Join(p.RunDir, "runsc") }
func (p Paths) Bundles() string         { return filepath.Join(p.RunDir, "bundles") }
func (p Paths) Bundle(id ID) string     { return filepath.Join(p.Bundles(), string(id)) }
func (p Paths) Rootfs(id ID) string     { return filepath.Join(p.Bundle(id), "rootfs") }
func (p Paths) Locks() string           { return filepath.Join(p.RunDir, "locks") }
func (p Paths) Lock(name string) string { return filepath.Join(p.Locks(), name) }
func (p Paths) NodeFile() string        { return filepath.Join(p.RunDir, "node.json") }
func (p Paths) Disks() string           { return filepath.Join(p.PoolDir, "i") }
func (p Paths) Disk(id ID) string       { return filepath.Join(p.Disks(), string(id)) }
func (p Paths) Volumes() string         { return filepath.Join(p.PoolDir, "v") }
func (p Paths) Volume(v string) string  { return filepath.Join(p.Volumes(), v) }
