package network

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"torpor.dev/hostd/internal/names"
)

// Opening is one place in otherwise denied ranges that the operator lets instances reach.
type Opening struct {
	IP    string `json:"ip"`
	Port  int    `json:"port"`
	Proto string `json:"proto"`
}

// Rules is what the table of a node is made from. Ports of 0 and limits of 0 are absent.
type Rules struct {
	Subnet        netip.Prefix
	GuestToHost   []int
	DNSPort       int
	Allow         []Opening
	BandwidthMbit int
	Connections   int
}

// denied are the ranges that are not the public internet; the node's own subnet joins them.
var denied = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
}

// chains of the table, base chains with where they hook in. Ours come a little before the host's own filter
// (priority -10): what we drop is dropped, what we accept the host's firewall may still judge.
var chains = []struct{ name, hook string }{
	{"pin", "type filter hook prerouting priority raw; policy accept;"},
	{"names", "type nat hook prerouting priority dstnat; policy accept;"},
	{"hosted", "type filter hook input priority filter - 10; policy accept;"},
	{"routed", "type filter hook forward priority filter - 10; policy accept;"},
	{"leaving", ""},
	{"entering", ""},
	{"to_denied", ""},
	{"from_denied", ""},
	{"masked", "type nat hook postrouting priority srcnat; policy accept;"},
}

// text is the whole ruleset of a scope. It is loaded in one transaction that replaces the table's chains but keeps
// the instances' elements, so that a prepare on a node with running instances opens no gap and cuts nobody off.
func (r Rules) text(scope names.Scope) string {
	table := scope.Table()
	from := fmt.Sprintf("iifname \"%s*\"", scope.VethPrefix())
	to := fmt.Sprintf("oifname \"%s*\"", scope.VethPrefix())
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	line("table inet %s {", table)
	line("  set sources { type ifname . ipv4_addr; }")
	line("  set gateways { type ifname . ipv4_addr; }")
	line("  set allowed { type ipv4_addr . inet_proto . inet_service; }")
	line("  set connections { type ipv4_addr; size 65535; flags dynamic; }")
	line("  set sending { type ipv4_addr; size 65535; flags dynamic; timeout 1m; }")
	line("  set receiving { type ipv4_addr; size 65535; flags dynamic; timeout 1m; }")
	for _, chain := range chains {
		line("  chain %s { %s }", chain.name, chain.hook)
	}
	line("}")
	for _, chain := range chains {
		line("flush chain inet %s %s", table, chain.name)
	}
	line("flush set inet %s allowed", table)

	line("table inet %s {", table)
	line("  chain pin {")
	line("    %s meta nfproto != ipv4 drop", from)
	line("    %s iifname . ip saddr != @sources drop", from)
	line("  }")
	line("  chain names {")
	if r.DNSPort > 0 {
		line("    %s iifname . ip daddr @gateways udp dport 53 redirect to :%d", from, r.DNSPort)
		line("    %s iifname . ip daddr @gateways tcp dport 53 redirect to :%d", from, r.DNSPort)
	}
	line("  }")
	line("  chain hosted {")
	line("    %s ct direction reply ct state established,related accept", from)
	if r.Connections > 0 {
		line("    %s ct state new add @connections { ip saddr ct count over %d } drop", from, r.Connections)
	}
	if len(r.GuestToHost) > 0 {
		line("    %s iifname . ip daddr @gateways tcp dport { %s } accept", from, joined(r.GuestToHost))
	}
	if r.DNSPort > 0 {
		line("    %s iifname . ip daddr @gateways meta l4proto { tcp, udp } th dport %d accept", from, r.DNSPort)
		// The forwarder has to listen on every address, for the gateways come and go; nobody but instances is let in to it.
		// Those of other scopes are judged by their own table, which lets them in to their own gateways alone.
		line("    iifname != \"tp*\" meta l4proto { tcp, udp } th dport %d ct state new reject", r.DNSPort)
	}
	line("    %s ip daddr . meta l4proto . th dport @allowed accept", from)
	line("    %s drop", from)
	line("  }")
	line("  chain routed {")
	line("    %s goto leaving", from)
	line("    %s goto entering", to)
	line("  }")
	line("  chain leaving {")
	// Any instance of any scope: sandboxes never meet, whatever an allowance says.
	line("    oifname \"tp*\" drop")
	line("    ct state invalid drop")
	if r.BandwidthMbit > 0 {
		line("    update @sending { ip saddr %s } drop", r.over())
	}
	line("    ip daddr { %s } jump to_denied", r.denied())
	line("    ct state established,related accept")
	if r.Connections > 0 {
		line("    add @connections { ip saddr ct count over %d } drop", r.Connections)
	}
	line("    accept")
	line("  }")
	// Asked of every packet, before conntrack is: a connection ends when the operator closes what it goes to.
	line("  chain to_denied {")
	line("    ip daddr . meta l4proto . th dport @allowed return")
	line("    meta l4proto tcp ct state established reject with tcp reset")
	line("    reject with icmpx admin-prohibited")
	line("  }")
	line("  chain entering {")
	if r.BandwidthMbit > 0 {
		line("    update @receiving { ip daddr %s } drop", r.over())
	}
	line("    ct state related accept")
	line("    ip saddr { %s } jump from_denied", r.denied())
	line("    ct direction reply ct state established accept")
	line("    drop")
	line("  }")
	line("  chain from_denied {")
	line("    ip saddr . meta l4proto . th sport @allowed return")
	line("    drop")
	line("  }")
	line("  chain masked {")
	line("    ip saddr %s oifname != \"tp*\" masquerade", r.Subnet)
	line("  }")
	line("}")
	b.WriteString(elements(table, r.Allow))
	return b.String()
}

// over drops what exceeds the rate. The kernel lets one second's worth and the burst come at once.
func (r Rules) over() string {
	return fmt.Sprintf("limit rate over %d kbytes/second burst 64 kbytes", r.BandwidthMbit*125)
}

// denied joins the ranges, and the node's subnet unless one of them holds it already: the kernel refuses overlapping intervals.
func (r Rules) denied() string {
	ranges := strings.Join(denied, ", ")
	for _, text := range denied {
		if netip.MustParsePrefix(text).Overlaps(r.Subnet) {
			return ranges
		}
	}
	return r.Subnet.String() + ", " + ranges
}

func joined(ports []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", ", "), "[]")
}

func elements(table string, allow []Opening) string {
	if len(allow) == 0 {
		return ""
	}
	var list []string
	for _, opening := range allow {
		list = append(list, fmt.Sprintf("%s . %s . %d", opening.IP, opening.Proto, opening.Port))
	}
	return fmt.Sprintf("add element inet %s allowed { %s }\n", table, strings.Join(list, ", "))
}

// checked refuses openings that are not an IPv4 address, a port and tcp or udp: the text goes into a ruleset.
func checked(allow []Opening) error {
	for _, opening := range allow {
		ip, err := netip.ParseAddr(opening.IP)
		if err != nil || !ip.Is4() {
			return fmt.Errorf("egress address %q is not an IPv4 address", opening.IP)
		}
		if err := checkPort(opening.Port); err != nil {
			return err
		}
		if opening.Proto != "tcp" && opening.Proto != "udp" {
			return fmt.Errorf("egress proto %q is neither tcp nor udp", opening.Proto)
		}
	}
	return nil
}

func checkPort(port int) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("port %d is not between 1 and 65535", port)
	}
	return nil
}

func load(ctx context.Context, text string) error {
	command := exec.CommandContext(ctx, "nft", "-f", "-")
	command.Stdin = strings.NewReader(text)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("loading nftables rules: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
