// Package network gives each instance a network of its own: a namespace, a pair of devices, a /30, and its place in
// the rules of the node's nftables table, which let it reach the public internet and nothing of the host, of its
// neighbours or of the operator's networks but what the operator opens.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"torpor.dev/hostd/internal/names"
	"torpor.dev/hostd/internal/thread"
	"torpor.dev/hostd/internal/wire"
)

// Net is a node's prepared network.
type Net struct {
	scope names.Scope
	rules Rules
}

// Prepare loads the table and switches forwarding on. It may be repeated on a node with running instances.
func Prepare(ctx context.Context, scope names.Scope, rules Rules) (*Net, error) {
	if err := checked(rules.Allow); err != nil {
		return nil, wire.Errorf(wire.BadRequest, "%w", err)
	}
	for _, port := range rules.GuestToHost {
		if err := checkPort(port); err != nil {
			return nil, wire.Errorf(wire.BadRequest, "%w", err)
		}
	}
	if err := load(ctx, rules.text(scope)); err != nil {
		return nil, err
	}
	if err := writeSysctl("net/ipv4/ip_forward", "1"); err != nil {
		return nil, err
	}
	return Open(scope, rules), nil
}

// Open takes up a network that an earlier hostd prepared.
func Open(scope names.Scope, rules Rules) *Net { return &Net{scope: scope, rules: rules} }

// SetAllowed replaces the operator's openings in one transaction. Connections to what is closed by it end.
func (n *Net) SetAllowed(ctx context.Context, allow []Opening) error {
	if err := checked(allow); err != nil {
		return wire.Errorf(wire.BadRequest, "%w", err)
	}
	table := n.scope.Table()
	return load(ctx, fmt.Sprintf("flush set inet %s allowed\n", table)+elements(table, allow))
}

// Place is where an instance's network is.
type Place struct {
	HostIP string `json:"hostIp"`
	IP     string `json:"ip"`
	Device string `json:"device"`
	Netns  string `json:"netns"`
}

func (n *Net) place(slot names.Slot) Place {
	addresses := names.AddressesOf(n.rules.Subnet, slot)
	return Place{
		HostIP: addresses.Host.String(), IP: addresses.Instance.String(),
		Device: n.scope.Veth(slot), Netns: n.NetnsPath(slot),
	}
}

// NetnsPath of a slot.
func (n *Net) NetnsPath(slot names.Slot) string { return filepath.Join(NetnsDir, n.scope.Netns(slot)) }

// OwnerOf a slot's network: the instance that it was made for last, or "" where there is none that bears a name. The kernel keeps it, as the alias
// of the host's end, so `ip link` shows it too.
func (n *Net) OwnerOf(slot names.Slot) names.ID {
	alias, err := os.ReadFile("/sys/class/net/" + n.scope.Veth(slot) + "/ifalias")
	if err != nil {
		return ""
	}
	owner, err := names.ParseID(strings.TrimSpace(string(alias)))
	if err != nil {
		return ""
	}
	return owner
}

// Create makes a slot's network for an instance, or completes one that was left half made. The address inside is put back, which runsc takes off
// the device when a sandbox is made; while one uses it (inUse), its end is left alone.
func (n *Net) Create(slot names.Slot, owner names.ID, inUse bool) (Place, error) {
	place := n.place(slot)
	// The rules come first, so that there is no moment in which the device lets anything through unjudged.
	if err := n.admit(slot); err != nil {
		return Place{}, err
	}
	if err := ensureNetns(place.Netns); err != nil {
		return Place{}, err
	}
	if err := n.connect(place, owner, inUse); err != nil {
		return Place{}, err
	}
	return place, nil
}

// ensureNetns makes a namespace and pins it under a name. A file without a namespace is what a kill left; it is taken away.
func ensureNetns(path string) error {
	if isNetns(path) {
		return nil
	}
	if err := removeNetns(path); err != nil {
		return err
	}
	return thread.Alone(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		// No device made here later speaks IPv6; the loopback keeps ::1.
		if err := writeSysctl("net/ipv6/conf/default/disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return inDirectory(func() error { return pin(path) })
	})
}

// pin gives the thread's network namespace a name.
func pin(path string) error {
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return fmt.Errorf("making the mount point of namespace %s: %w", path, err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pinning the namespace at %s: %w", path, err)
	}
	return nil
}

func isNetns(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Type == unix.NSFS_MAGIC
}

func removeNetns(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unpinning the namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return nil
}

const insideName = "eth0"

func (n *Net) connect(place Place, owner names.ID, inUse bool) error {
	inside, err := netns.GetFromPath(place.Netns)
	if err != nil {
		return fmt.Errorf("opening the namespace %s: %w", place.Netns, err)
	}
	defer inside.Close()
	handle, err := netlink.NewHandleAt(inside, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("speaking to the namespace %s: %w", place.Netns, err)
	}
	defer handle.Close()
	if err := ensureVeth(place.Device, inside, handle); err != nil {
		return err
	}
	if err := raiseOutside(place, owner); err != nil {
		return err
	}
	if inUse {
		return nil
	}
	return raiseInside(handle, place)
}

func ensureVeth(device string, inside netns.NsHandle, handle *netlink.Handle) error {
	if _, err := handle.LinkByName(insideName); err == nil {
		return nil
	}
	// A host end without its peer belongs to a namespace that is gone; the kernel removes it soon, we now.
	if stale, err := netlink.LinkByName(device); err == nil {
		if err := netlink.LinkDel(stale); err != nil && !isNoSuchDevice(err) {
			return fmt.Errorf("removing the stale device %s: %w", device, err)
		}
	}
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: insideName, PeerNamespace: netlink.NsFd(int(inside))}
	pair.Name = device
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("making the device pair %s: %w", device, err)
	}
	return nil
}

func raiseOutside(place Place, owner names.ID) error {
	// Before it goes up, else the kernel gives it a link-local address.
	if err := writeSysctl("net/ipv6/conf/"+place.Device+"/disable_ipv6", "1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	link, err := netlink.LinkByName(place.Device)
	if err != nil {
		return fmt.Errorf("finding the device %s: %w", place.Device, err)
	}
	if err := netlink.LinkSetAlias(link, string(owner)); err != nil {
		return fmt.Errorf("writing on %s that it is %s's: %w", place.Device, owner, err)
	}
	if err := netlink.AddrReplace(link, slash30(place.HostIP)); err != nil {
		return fmt.Errorf("giving %s to %s: %w", place.HostIP, place.Device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("raising %s: %w", place.Device, err)
	}
	return nil
}

func raiseInside(handle *netlink.Handle, place Place) error {
	if loopback, err := handle.LinkByName("lo"); err != nil {
		return fmt.Errorf("finding the loopback of %s: %w", place.Netns, err)
	} else if err := handle.LinkSetUp(loopback); err != nil {
		return fmt.Errorf("raising the loopback of %s: %w", place.Netns, err)
	}
	link, err := handle.LinkByName(insideName)
	if err != nil {
		return fmt.Errorf("finding %s of %s: %w", insideName, place.Netns, err)
	}
	if err := handle.AddrReplace(link, slash30(place.IP)); err != nil {
		return fmt.Errorf("giving %s to %s of %s: %w", place.IP, insideName, place.Netns, err)
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("raising %s of %s: %w", insideName, place.Netns, err)
	}
	gateway := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(place.HostIP)}
	if err := handle.RouteReplace(gateway); err != nil {
		return fmt.Errorf("routing %s over %s: %w", place.Netns, place.HostIP, err)
	}
	return nil
}

func slash30(ip string) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(ip).To4(), Mask: net.CIDRMask(30, 32)}}
}

func writeSysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("setting %s to %s: %w", name, value, err)
	}
	return nil
}

func isNoSuchDevice(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.As(err, &notFound) || errors.Is(err, unix.ENODEV)
}

// Delete takes a slot's network away. The device is deleted by name, not left to the namespace's end, which the kernel may put off.
func (n *Net) Delete(slot names.Slot) error {
	if err := deleteVeth(n.scope.Veth(slot)); err != nil {
		return err
	}
	if err := removeNetns(n.NetnsPath(slot)); err != nil {
		return err
	}
	return n.dismiss(slot)
}

func deleteVeth(device string) error {
	link, err := netlink.LinkByName(device)
	if isNoSuchDevice(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding the device %s: %w", device, err)
	}
	if err := netlink.LinkDel(link); err != nil && !isNoSuchDevice(err) {
		return fmt.Errorf("removing the device %s: %w", device, err)
	}
	return nil
}

// Namespaces lists the slots that have a name under /run/netns.
func Namespaces(scope names.Scope) ([]names.Slot, error) {
	entries, err := os.ReadDir(NetnsDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listing %s: %w", NetnsDir, err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return slotsAmong(found, scope.SlotOfNetns), nil
}

// Veths lists the slots that have a device on the host.
func Veths(scope names.Scope) ([]names.Slot, error) {
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return nil, fmt.Errorf("listing the network devices: %w", err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return slotsAmong(found, scope.SlotOfVeth), nil
}

func slotsAmong(found []string, slotOf func(string) (names.Slot, bool)) []names.Slot {
	out := []names.Slot{}
	for _, name := range found {
		if slot, ok := slotOf(name); ok {
			out = append(out, slot)
		}
	}
	sort.Slice(out, func(a, b int) bool { return out[a] < out[b] })
	return out
}

// Traffic of an instance since its device was made, as the instance sees it.
type Traffic struct{ RxBytes, TxBytes int64 }

// TrafficOf a slot; a device that is not there has carried nothing.
func (n *Net) TrafficOf(slot names.Slot) Traffic {
	read := func(counter string) int64 {
		var number int64
		text, err := os.ReadFile("/sys/class/net/" + n.scope.Veth(slot) + "/statistics/" + counter)
		if err == nil {
			fmt.Sscan(string(text), &number)
		}
		return number
	}
	// The host's end receives what the instance sends.
	return Traffic{RxBytes: read("tx_bytes"), TxBytes: read("rx_bytes")}
}

// Remove takes everything of a scope away: devices, namespaces, table.
func Remove(ctx context.Context, scope names.Scope) (namespaces, devices int, err error) {
	veths, err := Veths(scope)
	if err != nil {
		return 0, 0, err
	}
	for _, slot := range veths {
		if err := deleteVeth(scope.Veth(slot)); err != nil {
			return 0, 0, err
		}
	}
	spaces, err := Namespaces(scope)
	if err != nil {
		return 0, 0, err
	}
	for _, slot := range spaces {
		if err := removeNetns(filepath.Join(NetnsDir, scope.Netns(slot))); err != nil {
			return 0, 0, err
		}
	}
	if err := leaveDirectory(); err != nil {
		return 0, 0, err
	}
	return len(spaces), len(veths), removeTable(ctx, scope)
}

// removeTable adds before it deletes, since deleting what is not there is an error to nft.
func removeTable(ctx context.Context, scope names.Scope) error {
	return load(ctx, fmt.Sprintf("add table inet %[1]s\ndelete table inet %[1]s\n", scope.Table()))
}
