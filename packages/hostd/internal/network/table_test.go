package network

import (
	"net/netip"
	"strings"
	"testing"
)

func rules() Rules {
	return Rules{
		Subnet: netip.MustParsePrefix("10.86.0.0/16"), GuestToHost: []int{7001, 7002}, DNSPort: 5353,
		Allow: []Opening{{IP: "10.0.0.5", Port: 4873, Proto: "tcp"}}, BandwidthMbit: 100, Connections: 500,
	}
}

func TestTheTableSaysWhatIsPromised(t *testing.T) {
	text := rules().text("abc123")
	for _, want := range []string{
		`iifname "tpabc123n*" iifname . ip saddr != @sources drop`, `iifname "tpabc123n*" meta nfproto != ipv4 drop`,
		`iifname . ip daddr @gateways tcp dport { 7001, 7002 } accept`, `udp dport 53 redirect to :5353`, `ct count over 500`,
		`limit rate over 12500 kbytes/second`, `169.254.0.0/16`, `100.64.0.0/10`, `masquerade`,
		`iifname != "tp*" meta l4proto { tcp, udp } th dport 5353 ct state new reject`,
		`add element inet torpor_abc123 allowed { 10.0.0.5 . tcp . 4873 }`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %s:\n%s", want, text)
		}
	}
	for chain, want := range map[string]string{"leaving": "ip daddr", "entering": "ip saddr"} {
		body := text[strings.LastIndex(text, "chain "+chain+" {"):]
		if judged := strings.Index(body, want+" { 0.0.0.0/8"); judged < 0 || judged > strings.Index(body, "established") {
			t.Errorf("chain %s lets established connections pass before it asks whether they still may", chain)
		}
	}
	// The last word to each hook's traffic of ours is a drop, but for what leaves to the internet.
	for _, chain := range []string{"hosted", "entering", "from_denied"} {
		body := text[strings.LastIndex(text, "chain "+chain+" {"):]
		body = strings.TrimSpace(body[:strings.Index(body, "}\n")])
		if !strings.HasSuffix(body, "drop") {
			t.Errorf("chain %s does not end with a drop: %s", chain, body)
		}
	}
}

func TestWhatIsNotAskedForIsNotInTheTable(t *testing.T) {
	bare := rules()
	bare.GuestToHost, bare.DNSPort, bare.Allow, bare.BandwidthMbit, bare.Connections = nil, 0, nil, 0, 0
	text := bare.text("abc123")
	for _, absent := range []string{"redirect", "ct count", "limit rate", "add element", "tcp dport {"} {
		if strings.Contains(text, absent) {
			t.Errorf("the table has %s:\n%s", absent, text)
		}
	}
}

func TestASubnetOutsideTheDeniedRangesIsDeniedToo(t *testing.T) {
	public := rules()
	public.Subnet = netip.MustParsePrefix("25.1.0.0/16")
	if text := public.text("abc123"); !strings.Contains(text, "ip daddr { 25.1.0.0/16, 0.0.0.0/8") {
		t.Errorf("the node's own subnet is open:\n%s", text)
	}
}

func TestOpeningsThatAreNotOneAddressAndPortAreRefused(t *testing.T) {
	for _, bad := range []Opening{
		{"10.0.0.0/8", 80, "tcp"}, {"fd00::1", 80, "tcp"}, {"host.example", 80, "tcp"}, {"10.0.0.1", 0, "tcp"},
		{"10.0.0.1", 65536, "tcp"}, {"10.0.0.1", 80, "icmp"}, {"10.0.0.1", 80, "tcp }; flush ruleset; {"},
	} {
		if checked([]Opening{bad}) == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestAnElementsKeyIsTheDeviceThenTheAddress(t *testing.T) {
	key := element("tpabc123n7", [4]byte{10, 86, 0, 30})[0].Key
	if len(key) != 20 || deviceIn(key) != "tpabc123n7" || key[16] != 10 || key[19] != 30 {
		t.Errorf("got %v", key)
	}
}
