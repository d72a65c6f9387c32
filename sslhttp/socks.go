package sslhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// SOCKS version 5 (RFC 1928) with a user name and a password (RFC 1929).
const (
	socksVersion    = 5
	socksNoAuth     = 0
	socksPassword   = 2
	socksConnect    = 1
	socksIPv4       = 1
	socksName       = 3
	socksIPv6       = 4
	socksPasswordV1 = 1   // version of RFC 1929
	socksMaxString  = 255 // bytes of a user name, a password or a host name
)

// socksErrors are the replies of RFC 1928 section 6.
var socksErrors = []string{
	"", "general failure", "the ruleset does not allow the connection", "network unreachable", "host unreachable",
	"connection refused", "TTL expired", "command not supported", "address type not supported",
}

// askSOCKS asks a SOCKS proxy for a connection to the server. The proxy resolves
// the host name, also for a socks5 URL, as in net/http.
func askSOCKS(_ context.Context, conn net.Conn, r *route) error {
	methods := []byte{socksNoAuth}
	if r.proxy.User != nil {
		methods = append(methods, socksPassword)
	}
	answer := make([]byte, 2)
	err := converse(conn, append([]byte{socksVersion, byte(len(methods))}, methods...), answer)
	switch {
	case err != nil:
		return err
	case answer[0] != socksVersion:
		return fmt.Errorf("the proxy does not speak SOCKS 5: it answered with version %d", answer[0])
	case answer[1] == socksNoAuth:
	case answer[1] == socksPassword && r.proxy.User != nil:
		if err := socksLogin(conn, r); err != nil {
			return err
		}
	default:
		return errors.New("the proxy accepts none of the offered authentication methods")
	}
	request, err := socksRequest(r.addr)
	if err != nil {
		return err
	}
	reply := make([]byte, 4)
	if err := converse(conn, request, reply); err != nil {
		return err
	}
	if code := int(reply[1]); code != 0 || reply[0] != socksVersion {
		text := "unknown reply " + strconv.Itoa(code)
		if code > 0 && code < len(socksErrors) {
			text = socksErrors[code]
		}
		return fmt.Errorf("the proxy cannot connect to %s: %s", r.addr, text)
	}
	return socksBound(conn, reply[3])
}

// converse writes say and reads answer, which has a fixed length.
func converse(conn net.Conn, say, answer []byte) error {
	if _, err := conn.Write(say); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, answer)
	return err
}

func socksLogin(conn net.Conn, r *route) error {
	name := r.proxy.User.Username()
	password, _ := r.proxy.User.Password()
	if name == "" || len(name) > socksMaxString || len(password) > socksMaxString {
		return fmt.Errorf("proxy URL: want a user name of 1 to %d bytes and a password of at most %d bytes", socksMaxString, socksMaxString)
	}
	say := append([]byte{socksPasswordV1, byte(len(name))}, name...)
	say = append(append(say, byte(len(password))), password...)
	answer := make([]byte, 2)
	if err := converse(conn, say, answer); err != nil {
		return err
	}
	switch {
	case answer[0] != socksPasswordV1:
		return fmt.Errorf("the proxy answered the password with version %d of its protocol, not %d", answer[0], socksPasswordV1)
	case answer[1] != 0:
		return errors.New("the proxy rejected the user name and password")
	}
	return nil
}

// socksRequest returns the request to connect to addr.
func socksRequest(addr string) ([]byte, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("the port of %s is not a number from 0 to 65535", addr)
	}
	request := []byte{socksVersion, socksConnect, 0}
	ip := net.ParseIP(host)
	switch {
	case ip.To4() != nil:
		request = append(append(request, socksIPv4), ip.To4()...)
	case ip != nil:
		request = append(append(request, socksIPv6), ip...)
	case len(host) > socksMaxString:
		return nil, fmt.Errorf("the host name of %s is longer than %d bytes", addr, socksMaxString)
	default:
		request = append(append(request, socksName, byte(len(host))), host...)
	}
	return append(request, byte(port>>8), byte(port)), nil
}

// socksBound reads and drops the address from which the proxy connects.
func socksBound(conn net.Conn, kind byte) error {
	length := make([]byte, 1)
	switch kind {
	case socksIPv4:
		length[0] = net.IPv4len
	case socksIPv6:
		length[0] = net.IPv6len
	case socksName:
		if _, err := io.ReadFull(conn, length); err != nil {
			return err
		}
	default:
		return fmt.Errorf("the proxy answered with an address of unknown type %d", kind)
	}
	_, err := io.ReadFull(conn, make([]byte, int(length[0])+2))
	return err
}
