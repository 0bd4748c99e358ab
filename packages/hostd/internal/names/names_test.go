package names

import "testing"

func TestEachSlotHasItsOwnFourAddresses(t *testing.T) {
	subnet, err := ParseSubnet("10.86.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		slot           Slot
		host, instance string
	}{
		{0, "10.86.0.1", "10.86.0.2"}, {1, "10.86.0.5", "10.86.0.6"}, {63, "10.86.0.253", "10.86.0.254"},
		{64, "10.86.1.1", "10.86.1.2"}, {MaxSlot, "10.86.255.253", "10.86.255.254"},
	} {
		got := AddressesOf(subnet, c.slot)
		if got.Host.String() != c.host || got.Instance.String() != c.instance {
			t.Errorf("slot %d: got %v, want %s and %s", c.slot, got, c.host, c.instance)
		}
	}
}

func TestDeviceNamesFitTheKernel(t *testing.T) {
	if name := Scope("abcdef").Veth(MaxSlot); len(name) > 15 {
		t.Errorf("%s is longer than 15 characters", name)
	}
}

func TestNamesOfOtherScopesAndForeignersAreNotOurs(t *testing.T) {
	ours := Scope("abc123")
	for name, want := range map[string]bool{
		"tpabc123n7": true, "tpabc123n0": true, "tpabc124n7": false, "tpabc123n07": false, "tpabc123n": false,
		"tpabc123n16384": false, "tpabc123n-1": false, "eth0": false,
	} {
		if _, got := ours.SlotOfVeth(name); got != want {
			t.Errorf("SlotOfVeth(%q) = %v, want %v", name, got, want)
		}
	}
	if slot, ok := ours.SlotOfNetns("tpabc123-12"); !ok || slot != 12 {
		t.Errorf("SlotOfNetns: got %d %v", slot, ok)
	}
}

func TestWhatIsNotANameIsRefused(t *testing.T) {
	for _, bad := range []string{"", "short", "UPPERCASE1", "has/slash1", "dots..dots", "aaaaaaaaaaaaaaaaaaaaaaaaa"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("id %q was taken", bad)
		}
	}
	for _, bad := range []string{"", "..", "a/b", "-a", ".a"} {
		if _, err := ParseVolume(bad); err == nil {
			t.Errorf("volume %q was taken", bad)
		}
	}
	for _, bad := range []string{"10.86.0.0/24", "10.86.1.0/16", "fd00::/16", "x"} {
		if _, err := ParseSubnet(bad); err == nil {
			t.Errorf("subnet %q was taken", bad)
		}
	}
	for _, bad := range []string{"", "ABCDEF", "abcde", "abcdefg"} {
		if _, err := ParseScope(bad); err == nil {
			t.Errorf("scope %q was taken", bad)
		}
	}
}
