package relay

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// security says how TLS comes on a connection.
type security string

const (
	plain     security = "plain"
	startTLS  security = "starttls"
	directTLS security = "tls"
)

// endpoint is an address with its prefixes: "starttls:mail.example.org:143".
type endpoint struct {
	security security
	network  string // "tcp" or "unix"
	address  string // host:port or a path
	host     string // of address; empty for unix
}

// parseEndpoint parses an address; without a prefix its security is byDefault.
func parseEndpoint(s string, byDefault security) (endpoint, error) {
	e := endpoint{security: byDefault, network: "tcp", address: s}
	for _, prefix := range []security{plain, startTLS, directTLS} {
		if rest, ok := strings.CutPrefix(s, string(prefix)+":"); ok && strings.Contains(rest, ":") {
			e.security, e.address = prefix, rest
			break
		}
	}
	if path, ok := strings.CutPrefix(e.address, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return e, fmt.Errorf("%q: the path of a unix socket begins with /", s)
		}
		e.network, e.address = "unix", path
		return e, nil
	}
	host, port, err := net.SplitHostPort(e.address)
	if err != nil {
		return e, fmt.Errorf("%q is no address such as mail.example.org:143: %w", s, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return e, fmt.Errorf("%q: the port is no number from 0 to 65535", s)
	}
	if strings.ContainsAny(host, " \t") {
		return e, fmt.Errorf("%q: a space in the host", s)
	}
	e.host = host
	return e, nil
}

// parseBackend parses an address that connections are made to.
func parseBackend(s string) (endpoint, error) {
	e, err := parseEndpoint(s, plain)
	if err == nil && e.network == "tcp" && (e.host == "" || strings.HasSuffix(e.address, ":0")) {
		return e, fmt.Errorf("%q: a backend needs a host and a port", s)
	}
	return e, err
}

func (e endpoint) String() string {
	if e.network == "unix" {
		return string(e.security) + ":unix:" + e.address
	}
	return string(e.security) + ":" + e.address
}

// local reports whether the bytes stay on this machine.
func (e endpoint) local() bool { return e.network == "unix" || loopback(e.host) }

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
