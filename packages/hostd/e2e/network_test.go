//go:build host

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outside is a stand-in for the rest of the world: a namespace behind the host that answers on a public address and on
// addresses that sandboxes must not reach.
type outside struct{ name string }

const public = "11.11.11.2"

func newOutside(t *testing.T) outside {
	t.Helper()
	o := outside{name: "hostd-e2e-out"}
	o.remove()
	t.Cleanup(o.remove)
	for _, line := range []string{
		"netns add " + o.name, "link add hde2eout type veth peer name world netns " + o.name,
		"addr add 11.11.11.1/24 dev hde2eout", "link set hde2eout up",
		"-n " + o.name + " addr add 11.11.11.2/24 dev world", "-n " + o.name + " addr add 10.99.0.2/32 dev world",
		"-n " + o.name + " addr add 169.254.169.254/32 dev world", "-n " + o.name + " addr add 100.64.0.9/32 dev world",
		"-n " + o.name + " link set world up", "-n " + o.name + " link set lo up", "-n " + o.name + " route add default via 11.11.11.1",
		"route add 10.99.0.2 via 11.11.11.2", "route add 169.254.169.254 via 11.11.11.2", "route add 100.64.0.9 via 11.11.11.2",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	return o
}

func (o outside) remove() {
	exec.Command("ip", "link", "del", "hde2eout").Run()
	exec.Command("ip", "netns", "del", o.name).Run()
}

// within runs act on a thread inside a named namespace.
func within(t *testing.T, name string, act func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err == nil {
			err = act()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("in namespace %s: %v", name, err)
	}
}

// serves answers HTTP with big bodies on all of the outside's addresses.
func (o outside) serves(t *testing.T, port int) {
	t.Helper()
	within(t, o.name, func() error {
		listener, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
		if err != nil {
			return err
		}
		t.Cleanup(func() { listener.Close() })
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 4<<20)) }))
		return nil
	})
	// A new device may drop its first packets; what the tests find unreachable must not be that.
	(&node{t: t}).eventually("the host reaches the outside", 10*time.Second, func() error {
		connection, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", public, port), 200*time.Millisecond)
		if err == nil {
			connection.Close()
		}
		return err
	})
}

func listens(t *testing.T, at string) {
	t.Helper()
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { var one [1]byte; connection.Read(one[:]); connection.Close() }()
		}
	}()
}

func (i instance) reaches(to string) bool {
	text, err := i.get("/dial", map[string]string{"to": to})
	return err == nil && text == "open"
}

func TestASandboxReachesTheWorldAndNothingElse(t *testing.T) {
	out := newOutside(t)
	out.serves(t, 80)
	n := newNode(t)
	other := newNode(t)
	i, neighbour, stranger := n.up(0), n.up(1), other.up(0)
	listens(t, "0.0.0.0:7001")
	listens(t, "0.0.0.0:7002")
	if !i.reaches(public + ":80") {
		t.Fatalf("the positive control failed: %s is not reached", public)
	}
	if !i.reaches(i.hostIP() + ":7001") {
		t.Error("the host port opened to guests is not reached")
	}
	// Each of these answers the host, so that a sandbox failing to reach it says something.
	for what, to := range map[string]string{
		"another port of the host": i.hostIP() + ":7002", "the host's side of a neighbour": neighbour.hostIP() + ":7001",
		"the host's own address": "11.11.11.1:7001", "a neighbour": neighbour.ip() + ":8080", "a sandbox of another node": stranger.ip() + ":8080",
		"a private network": "10.99.0.2:80", "the metadata service": "169.254.169.254:80", "the carrier's range": "100.64.0.9:80",
	} {
		if connection, err := net.DialTimeout("tcp", to, time.Second); err != nil {
			t.Errorf("the host itself does not reach %s at %s: %v", what, to, err)
		} else {
			connection.Close()
		}
		if i.reaches(to) {
			t.Errorf("a sandbox reaches %s at %s", what, to)
		}
	}
	n.must("egress.set", args{"allow": []any{args{"ip": "10.99.0.2", "port": 80, "proto": "tcp"}}})
	if !i.reaches("10.99.0.2:80") {
		t.Error("what the operator opened is not reached")
	}
	if i.reaches("169.254.169.254:80") {
		t.Error("opening one address opened another")
	}
	n.must("egress.set", args{"allow": []any{}})
	if i.reaches("10.99.0.2:80") {
		t.Error("what the operator closed again is still reached")
	}
	// Nothing comes in from outside, though it is routed.
	within(t, out.name, func() error {
		if connection, err := net.DialTimeout("tcp", i.ip()+":8080", 500*time.Millisecond); err == nil {
			connection.Close()
			return fmt.Errorf("the outside reaches a sandbox")
		}
		return nil
	})
	// A second prepare, with running instances, changes none of this.
	n.must("node.prepare", n.prepare)
	if !i.reaches(public+":80") || i.reaches(neighbour.ip()+":8080") {
		t.Error("after a second prepare the rules are others")
	}
}

func TestAConnectionEndsWhenItsDestinationIsClosed(t *testing.T) {
	out := newOutside(t)
	out.serves(t, 80)
	private, other := args{"ip": "10.99.0.2", "port": 80, "proto": "tcp"}, args{"ip": "100.64.0.9", "port": 80, "proto": "tcp"}
	n := newNode(t, func(prepare map[string]any) { prepare["egress"] = args{"allow": []any{private, other}} })
	toPrivate, toPublic := n.up(0), n.up(1)
	for i, to := range map[instance]string{toPrivate: "10.99.0.2:80", toPublic: public + ":80"} {
		if got := i.mustGet("/hold", map[string]string{"to": to, "count": "1"}); got != "1" {
			t.Fatalf("%s does not reach %s", i.id, to)
		}
	}
	live := func(i instance) error {
		_, err := i.get("/use", nil)
		return err
	}
	n.must("egress.set", args{"allow": []any{private}})
	n.must("node.prepare", n.prepare)
	for _, i := range []instance{toPrivate, toPublic} {
		if err := live(i); err != nil {
			t.Fatalf("the connection of %s ended though its destination stayed open: %v", i.id, err)
		}
	}
	n.must("egress.set", args{"allow": []any{other}})
	if live(toPrivate) == nil {
		t.Error("a connection goes on to what the operator has closed")
	}
	if err := live(toPublic); err != nil {
		t.Errorf("a connection to the public internet ended with it: %v", err)
	}
}

func TestANetworkIsNotDeletedUnderAnotherSandbox(t *testing.T) {
	n := newNode(t)
	i, stray := n.up(3), n.instance(4)
	wrong := args{"id": stray.id, "slot": i.slot}
	n.refused("busy", "net.delete", wrong)
	n.refused("busy", "net.create", wrong)
	i.answers()
	n.must("sandbox.delete", i.ref())
	// Nobody's any more: whoever cleans up may take it away, whatever it is called.
	n.must("net.create", i.slotArgs())
	n.must("net.delete", wrong)
	// A network made for one instance is not lent to another.
	n.must("net.create", i.slotArgs())
	n.must("disk.create", stray.diskArgs())
	lent := stray.sandboxArgs()
	lent["slot"] = i.slot
	n.refused("not_found", "sandbox.create", lent)
	n.must("net.create", wrong)
	n.must("sandbox.create", lent)
	n.must("sandbox.delete", stray.ref())
}

func TestASandboxAsksTheNodesOwnNameServer(t *testing.T) {
	n := newNode(t)
	i := n.up(0)
	listener, err := net.ListenPacket("udp", "0.0.0.0:7053")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := listener.ReadFrom(buffer)
			if err != nil {
				return
			}
			listener.WriteTo([]byte("answer to "+string(buffer[:n])+" from "+from.(*net.UDPAddr).IP.String()), from)
		}
	}()
	if text := i.mustGet("/say", map[string]string{"to": i.hostIP() + ":53"}); text != "answer to hello from "+i.ip() {
		t.Errorf("port 53 of the gateway says %q", text)
	}
}

// The namespace's own kernel stands in for a guest that got hold of its device.
func TestMadeUpSourceAddressesGoNowhere(t *testing.T) {
	out := newOutside(t)
	out.serves(t, 80)
	n := newNode(t)
	i := n.instance(0)
	place := n.must("net.create", i.slotArgs())
	netns := strings.TrimPrefix(place["netns"].(string), "/run/netns/")
	stolen := address(n.subnet, 4*7+2)
	for _, line := range []string{"addr add " + stolen + "/32 dev eth0", "addr add 11.11.11.77/32 dev eth0"} {
		if text, err := exec.Command("ip", append([]string{"-n", netns}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, text)
		}
	}
	from := func(source string) error {
		dialer := net.Dialer{Timeout: 500 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		connection, err := dialer.Dial("tcp", public+":80")
		if err == nil {
			connection.Close()
		}
		return err
	}
	within(t, netns, func() error {
		n.eventually("the positive control", 5*time.Second, func() error { return from(i.ip()) })
		for _, source := range []string{stolen, "11.11.11.77"} {
			if from(source) == nil {
				t.Errorf("packets from %s get out", source)
			}
		}
		return nil
	})
	addresses, err := exec.Command("ip", "-6", "addr", "show", "dev", place["device"].(string)).Output()
	if err != nil || len(addresses) != 0 {
		t.Errorf("the device speaks IPv6: %s (%v)", addresses, err)
	}
}

func TestConnectionsAndBandwidthAreCapped(t *testing.T) {
	out := newOutside(t)
	out.serves(t, 80)
	n := newNode(t, func(prepare map[string]any) { prepare["limits"] = args{"bandwidthMbit": 8, "connections": 20} })
	i, neighbour := n.up(0), n.up(1)
	var bytes, ms int
	said := neighbour.mustGet("/fetch", map[string]string{"url": "http://" + public + "/"})
	if _, err := fmt.Sscanf(said, "%d %d", &bytes, &ms); err != nil || bytes != 4<<20 || ms < 2000 {
		t.Errorf("4 MiB at 8 Mbit/s took %s (bytes, ms), want at least 2000 ms", said)
	}
	if got := i.mustGet("/hold", map[string]string{"to": public + ":80", "count": "40"}); got != "20" {
		t.Errorf("a sandbox with 20 connections allowed got %s", got)
	}
	if !neighbour.reaches(public + ":80") {
		t.Error("one sandbox's cap holds for its neighbour")
	}
	i.answers() // What the host asks of a guest is not counted.
}
