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
	if word, rest, ok := strings.Cut(e.address, ":"); ok && strings.Contains(rest, ":") && !strings.ContainsAny(word, ".[") && net.ParseIP(e.address) == nil {
		return e, fmt.Errorf("%q: want tls:, starttls: or plain: before host:port, got %q", s, word+":")
	}
	var err error
	if e.host, err = splitAddress(e.address); err != nil && e.address != s {
		err = fmt.Errorf("%q: %w", s, err)
	}
	return e, err
}

// splitAddress gives the host of host:port. The port has to be a number.
func splitAddress(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil && net.ParseIP(address) != nil && strings.Contains(address, ":"):
		return "", fmt.Errorf("want host:port with the IPv6 address in brackets such as [::1]:143, got %q", address)
	case err != nil:
		return "", fmt.Errorf("want host:port such as mail.example.org:143, got %q", address)
	case strings.ContainsAny(host, " \t"):
		return "", fmt.Errorf("a space in the host of %q", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("want a port from 0 to 65535 in %q, got %q", address, port)
	}
	return host, nil
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
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
