package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Security says how TLS begins on a connection.
type Security string

const (
	Plain     Security = "plain"
	StartTLS  Security = "starttls"
	DirectTLS Security = "tls"
)

// Endpoint is an address with its prefixes: "starttls:mail.example.org:143".
type Endpoint struct {
	Security Security
	Network  string // "tcp" or "unix"
	Address  string // host:port or a path
	Host     string // of address; empty for unix
}

// ParseEndpoint parses an address. Without a prefix its security is byDefault.
func ParseEndpoint(s string, byDefault Security) (Endpoint, error) {
	e := Endpoint{Security: byDefault, Network: "tcp", Address: s}
	for _, prefix := range []Security{Plain, StartTLS, DirectTLS} {
		if rest, ok := strings.CutPrefix(s, string(prefix)+":"); ok && strings.Contains(rest, ":") {
			e.Security, e.Address = prefix, rest
			break
		}
	}
	if path, ok := strings.CutPrefix(e.Address, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return e, fmt.Errorf("%q: the path of a unix socket must begin with /", s)
		}
		e.Network, e.Address = "unix", path
		return e, nil
	}
	if word, rest, ok := strings.Cut(e.Address, ":"); ok && strings.Contains(rest, ":") && !strings.ContainsAny(word, ".[") && net.ParseIP(e.Address) == nil {
		return e, fmt.Errorf("%q: want tls:, starttls: or plain: before host:port, got %q", s, word+":")
	}
	var err error
	if e.Host, err = splitAddress(e.Address); err != nil && e.Address != s {
		err = fmt.Errorf("%q: %w", s, err)
	}
	return e, err
}

// splitAddress returns the host of host:port. The port has to be a number.
func splitAddress(address string) (host string, err error) {
	host, port, err := net.SplitHostPort(address)
	switch {
	case err != nil && net.ParseIP(address) != nil && strings.Contains(address, ":"):
		return "", fmt.Errorf("want host:port with the IPv6 address in brackets such as [::1]:143, got %q", address)
	case err != nil:
		return "", fmt.Errorf("want host:port such as mail.example.org:143, got %q", address)
	case strings.ContainsAny(host, " \t"):
		return "", fmt.Errorf("the host of %q contains a space", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("want a port from 0 to 65535 in %q, got %q", address, port)
	}
	return host, nil
}

// ParseBackend parses the address of a backend.
func ParseBackend(s string) (Endpoint, error) {
	e, err := ParseEndpoint(s, Plain)
	if err == nil && e.Network == "tcp" && (e.Host == "" || strings.HasSuffix(e.Address, ":0")) {
		return e, fmt.Errorf("%q: a backend needs a host and a port", s)
	}
	return e, err
}

func (e Endpoint) String() string {
	if e.Network == "unix" {
		return string(e.Security) + ":unix:" + e.Address
	}
	return string(e.Security) + ":" + e.Address
}

// Local reports whether the address is on this machine.
func (e Endpoint) Local() bool { return e.Network == "unix" || loopback(e.Host) }

func loopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
