// Package ports finds and reaches what listens inside the instance, programs bound to the loopback address included.
package ports

import (
	"context"
	"net"
	"strconv"
	"time"

	"torpor/guest/internal/fault"
)

// Dial connects to a port: on the host given, or on the loopback addresses and then the instance's own.
func Dial(ctx context.Context, host string, port int, limit time.Duration) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	hosts := []string{host}
	if host == "" || host == "127.0.0.1" || host == "localhost" {
		hosts = []string{"127.0.0.1", "::1"}
	}
	connection, last := dialFirst(ctx, hosts, port)
	if connection == nil && len(hosts) > 1 {
		if own, err := dialFirst(ctx, ownAddresses(), port); own != nil {
			connection = own
		} else if err != nil {
			last = err
		}
	}
	if connection == nil {
		return nil, fault.Unreachable("nothing accepts connections on port %d inside the instance: %v", port, last)
	}
	return connection, nil
}

func dialFirst(ctx context.Context, hosts []string, port int) (*net.TCPConn, error) {
	var dialer net.Dialer
	var last error = context.Cause(ctx)
	for _, host := range hosts {
		connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return connection.(*net.TCPConn), nil // "tcp" gives nothing else
		}
		last = err
	}
	return nil, last
}

func ownAddresses() []string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then there is nothing more to try, and the first refusal stands
	}
	own := []string{}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && !network.IP.IsLoopback() && !network.IP.IsLinkLocalUnicast() {
			own = append(own, network.IP.String())
		}
	}
	return own
}
