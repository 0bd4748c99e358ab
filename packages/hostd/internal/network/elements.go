package network

import (
	"errors"
	"fmt"
	"sort"

	"github.com/google/nftables"

	"torpor.dev/hostd/internal/names"
)

// An instance is admitted to the table by two elements, each a device name joined to an address: the one it may send
// from, and the host's end it may speak to. They go over netlink: starting nft costs more than the rest of a create.

const (
	sourcesSet  = "sources"
	gatewaysSet = "gateways"
)

func (n *Net) sets() (sources, gateways *nftables.Set) {
	table := &nftables.Table{Name: n.scope.Table(), Family: nftables.TableFamilyINet}
	key := nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)
	return &nftables.Set{Table: table, Name: sourcesSet, KeyType: key, Concatenation: true},
		&nftables.Set{Table: table, Name: gatewaysSet, KeyType: key, Concatenation: true}
}

func element(device string, address [4]byte) []nftables.SetElement {
	key := make([]byte, 20) // An interface name fills 16 bytes, the address the last 4.
	copy(key, device)
	copy(key[16:], address[:])
	return []nftables.SetElement{{Key: key}}
}

func (n *Net) admit(slot names.Slot) error {
	return n.change(slot, func(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
		return c.SetAddElements(set, elements)
	})
}

// dismiss adds before it deletes: adding what is there is no error to the kernel, deleting what is not is.
func (n *Net) dismiss(slot names.Slot) error {
	return n.change(slot, func(c *nftables.Conn, set *nftables.Set, elements []nftables.SetElement) error {
		return errors.Join(c.SetAddElements(set, elements), c.SetDeleteElements(set, elements))
	})
}

// change does one thing to both of a slot's elements in one transaction.
func (n *Net) change(slot names.Slot, apply func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	connection, err := nftables.New()
	if err != nil {
		return fmt.Errorf("speaking to nftables: %w", err)
	}
	device, addresses := n.scope.Veth(slot), names.AddressesOf(n.rules.Subnet, slot)
	sources, gateways := n.sets()
	if err := errors.Join(
		apply(connection, sources, element(device, addresses.Instance.As4())),
		apply(connection, gateways, element(device, addresses.Host.As4())),
		connection.Flush(),
	); err != nil {
		return fmt.Errorf("changing the elements of %s in table %s: %w; ask node.prepare if the table is gone", device, n.scope.Table(), err)
	}
	return nil
}

// Elements lists the slots that have an element in either set; no table, no elements.
func Elements(scope names.Scope) ([]names.Slot, error) {
	connection, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("speaking to nftables: %w", err)
	}
	if there, err := hasTable(connection, scope.Table()); err != nil || !there {
		return []names.Slot{}, err
	}
	n := &Net{scope: scope}
	sources, gateways := n.sets()
	seen := map[names.Slot]bool{}
	for _, set := range []*nftables.Set{sources, gateways} {
		elements, err := connection.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("listing set %s of table %s: %w", set.Name, scope.Table(), err)
		}
		for _, element := range elements {
			if slot, ok := scope.SlotOfVeth(deviceIn(element.Key)); ok {
				seen[slot] = true
			}
		}
	}
	out := []names.Slot{}
	for slot := range seen {
		out = append(out, slot)
	}
	sort.Slice(out, func(a, b int) bool { return out[a] < out[b] })
	return out, nil
}

func hasTable(connection *nftables.Conn, name string) (bool, error) {
	tables, err := connection.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("listing the nftables tables: %w", err)
	}
	for _, table := range tables {
		if table.Name == name {
			return true, nil
		}
	}
	return false, nil
}

func deviceIn(key []byte) string {
	for at, b := range key {
		if b == 0 || at == 16 {
			return string(key[:at])
		}
	}
	return string(key)
}
