//go:build cgo

package sslfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// SetServerName sets the name of the server for this connection. It is sent as
// SNI and verified in the certificate. An IP address is verified but not sent.
// It must be called on a client before the handshake; otherwise it returns a
// *UsageError, as for a name that is not valid. If memory is short, the error
// is fatal.
//
// Calls SSL_set_tlsext_host_name(3), X509_VERIFY_PARAM_set1_host(3).
func (f *Filter) SetServerName(name string) error {
	f.calls++
	return f.nameServer("SetServerName", name, "")
}

// SetVerifiedName sets the name that is verified in the server's certificate
// for this connection. The name that is sent is still Options.SNI; if that is
// empty, SetVerifiedName is the same as SetServerName. It must be called on a
// client before the handshake; otherwise it returns a *UsageError. If memory is
// short, the error is fatal.
//
// Calls SSL_set_tlsext_host_name(3), X509_VERIFY_PARAM_set1_host(3).
func (f *Filter) SetVerifiedName(name string) error {
	f.calls++
	sni := ""
	if f.ssl != nil {
		sni = f.ctx.opts.SNI
	}
	return f.nameServer("SetVerifiedName", name, sni)
}

// idleClient returns the error of a method that must be called on a client before
// the handshake, or nil.
func (f *Filter) idleClient(op string) error {
	switch {
	case f.ssl == nil:
		return ErrClosed
	case !f.ctx.opts.Client:
		return &UsageError{op, "this is a server"}
	case f.err != nil && f.phase == phaseFailed:
		return f.err
	case f.phase != phaseIdle:
		return &UsageError{op, "the handshake has begun"}
	}
	return nil
}

// nameServer sets the name to verify and the name to send, which is sni or, if
// that is empty, name.
func (f *Filter) nameServer(op, name, sni string) error {
	if err := f.idleClient(op); err != nil {
		return err
	}
	parsed, err := parseServerName(name)
	if err != nil {
		return &UsageError{op, err.Error()}
	}
	if sni == "" {
		sni = parsed.host
	} else {
		sni = sentName(sni)
	}
	if err := f.setName(sni, parsed); err != nil {
		return f.fail(err) // OpenSSL has already forgotten the earlier name, and would verify none
	}
	f.name, f.sni = name, sni
	return nil
}

// SetALPN sets the protocols that this connection offers, instead of those of
// Options.ALPN: for example only HTTP/1.1 for a WebSocket. There must be at
// least one. It must be called on a client before the handshake; otherwise it
// returns a *UsageError. If memory is short, the error is fatal.
//
// Calls SSL_set_alpn_protos(3).
func (f *Filter) SetALPN(protocols ...string) error {
	f.calls++
	const op = "SetALPN"
	if err := f.idleClient(op); err != nil {
		return err
	}
	if len(protocols) == 0 {
		return &UsageError{op, "no protocol is given"}
	}
	o := Options{ALPN: protocols}
	if err := o.validateALPN(); err != nil {
		return &UsageError{op, err.Error()}
	}
	if err := f.ssl.setALPN(o.alpn()); err != nil {
		return f.fail(err)
	}
	f.alpn = slices.Clone(protocols)
	return nil
}

// wantedName returns the name that this client verifies.
func (f *Filter) wantedName() string {
	if f.name != "" {
		return f.name
	}
	return f.ctx.opts.nameToVerify()
}

// setName sets the name to send, and the name to verify unless
// InsecureSkipVerify is set.
func (f *Filter) setName(sni string, name serverName) error {
	if f.ctx.opts.InsecureSkipVerify {
		name = serverName{}
	}
	return f.ssl.setName(sni, name)
}

// nameFromOptions sets the server's name from the options. It reports whether
// there is a name to verify.
func (f *Filter) nameFromOptions() (bool, error) {
	o := &f.ctx.opts
	verify := o.nameToVerify()
	if verify == "" {
		return false, nil
	}
	var name serverName
	if !o.InsecureSkipVerify {
		var err error
		if name, err = parseServerName(verify); err != nil {
			return false, err
		}
	}
	return true, f.ssl.setName(o.nameToSend(), name)
}

// nameToVerify returns the name that the options verify.
func (o *Options) nameToVerify() string {
	if o.ServerName != "" {
		return o.ServerName
	}
	return o.SNI
}

// nameToSend returns the name that the options send: SNI or, if that is empty,
// ServerName.
func (o *Options) nameToSend() string {
	if o.SNI != "" {
		return sentName(o.SNI)
	}
	name, err := parseServerName(o.ServerName)
	if err != nil {
		return ""
	}
	return name.host
}

// sentName returns sni as it is sent: "" for an address, and without a final
// dot (RFC 6066).
func sentName(sni string) string {
	if _, err := netip.ParseAddr(sni); err == nil {
		return ""
	}
	return strings.TrimSuffix(sni, ".")
}

// serverName is a parsed name of a server. Either host or ip is set.
type serverName struct{ host, ip string }

// parseServerName checks a name that is to be verified. It removes a final dot
// (RFC 6066 sends none) and the brackets of an IPv6 address.
func parseServerName(name string) (serverName, error) {
	host := strings.TrimSuffix(name, ".")
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil {
		return serverName{ip: ip.WithZone("").String()}, nil
	}
	switch {
	case host == "":
		return serverName{}, errors.New("the server name is empty")
	case len(host) > maxNameLength:
		return serverName{}, fmt.Errorf("the server name has %d bytes; the ClientHello takes %d", len(host), maxNameLength)
	case host[0] == '.': // X509_VERIFY_PARAM_set1_host would match any name below it
		return serverName{}, fmt.Errorf("the server name %q begins with a dot", name)
	case strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return serverName{}, fmt.Errorf("the server name %q holds a space or a control character", name)
	}
	if err := misspelled(host); err != nil {
		return serverName{}, err
	}
	return serverName{host: host}, nil
}

// misspelled returns an error for text that cannot be a host name in a
// ClientHello (RFC 6066 section 3): text that is not ASCII, a URL, a name with
// a port.
func misspelled(host string) error {
	switch {
	case strings.ContainsFunc(host, func(r rune) bool { return r > '~' }):
		return fmt.Errorf("the server name %q is not ASCII: give its A-label, which begins with xn-- (RFC 5890)", host)
	case strings.ContainsAny(host, "/?#@"):
		return fmt.Errorf("the server name %q is a URL or a part of one: give the bare host", host)
	case strings.Contains(host, ":"):
		return fmt.Errorf("the server name %q has a port: give the bare host", host)
	}
	return nil
}
