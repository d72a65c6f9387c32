//go:build cgo

package sslfilter

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// ClientHello is the first message of a client, as OpenSSL has read it. It is a
// copy. Nothing in it is authenticated: a client can send any name, and someone
// on the network can change the message, which then makes the handshake fail
// later.
//
// Numbers are in the order in which the client sent them, and include those
// that OpenSSL does not know and GREASE values (RFC 8701). The list of an
// extension that is missing or malformed is empty; a handshake with a malformed
// extension fails later.
type ClientHello struct {
	// ServerName is the host name (SNI, RFC 6066), or "" if the client sent
	// none. The case of its letters is that of the client and has no meaning.
	ServerName string
	ALPN       []string // application protocols (RFC 7301)
	// Versions has the protocol versions of the extension supported_versions.
	// Without that extension it has the highest version of the client.
	Versions            []Version
	CipherSuites        []uint16
	Groups              []uint16 // key exchange groups (supported_groups)
	SignatureAlgorithms []uint16
	Extensions          []uint16 // the types of all extensions
	// SessionIDs identify the sessions to resume: first the session id, if it is
	// not empty, then the session ticket of TLS 1.2, and then the
	// identities of pre_shared_key in TLS 1.3. A client of TLS 1.3 often sends
	// a random session id, which names no session.
	SessionIDs [][]byte
	// Raw is the handshake message that OpenSSL has parsed, assembled from the
	// records, with its header of 4 bytes. A ClientHello in the format of SSL
	// 2.0, which OpenSSL before 4.0 accepts, has another header.
	Raw []byte

	legacy Version
	points []byte // ec_point_formats
	hasID  bool   // SessionIDs begins with the session id
	shared int    // the number of identities of pre_shared_key, with which SessionIDs ends
}

// MaxClientHello bounds a ClientHello that is read before the context is chosen, in
// bytes, including the record headers. It is the most that crypto/tls accepts in a
// handshake message; a ClientHello has 200 to 2,000 bytes.
const MaxClientHello = 64 << 10

// ReadClientHello reads the ClientHello at the beginning of wire, the bytes from
// a client. It returns nil, nil if more bytes are needed: call it again with all
// bytes so far. The bytes can then be given to a Filter, or to another server.
// The error is an *Error if wire is not the beginning of a TLS connection, or
// matches ErrBufferFull if the ClientHello is longer than MaxClientHello.
//
// Every call reads wire from its beginning, so that the time for a ClientHello
// that arrives in many pieces grows with the square of their number. A Filter of
// NewServerFilter reads every byte only once.
//
// Calls SSL_CTX_set_client_hello_cb(3).
func ReadClientHello(wire []byte) (*ClientHello, error) {
	ctx, err := helloContext()
	if err != nil {
		return nil, err
	}
	ssl, err := newSSL(ctx, &connConfig{})
	if err != nil {
		return nil, err
	}
	f := &Filter{ctx: noContext, ssl: ssl}
	defer ssl.close()
	hello, _, err := f.readHello(0, wire)
	return hello, err
}

// helloParts are the parts of a ClientHello as OpenSSL gives them: the message,
// and the bodies of fields and extensions.
type helloParts struct {
	version                                                       Version
	v2                                                            bool
	message, session, ciphers                                     []byte
	name, alpn, versions, groups, points, signatures, ticket, psk []byte
}

func (p *helloParts) parse() *ClientHello {
	h := &ClientHello{
		ServerName: p.serverName(), Groups: numbers(prefixed(2, p.groups)), SignatureAlgorithms: numbers(prefixed(2, p.signatures)),
		Extensions: p.extensions(), Raw: p.message, legacy: p.version, points: prefixed(1, p.points),
		hasID: len(p.session) > 0,
	}
	for _, v := range numbers(prefixed(1, p.versions)) {
		h.Versions = append(h.Versions, Version(v))
	}
	if h.Versions == nil {
		h.Versions = []Version{p.version}
	}
	if p.v2 {
		for spec := range slices.Chunk(p.ciphers, 3) {
			if len(spec) == 3 && spec[0] == 0 { // others belong to SSL 2.0
				h.CipherSuites = append(h.CipherSuites, binary.BigEndian.Uint16(spec[1:]))
			}
		}
	} else {
		h.CipherSuites = numbers(p.ciphers)
	}
	for protocols := prefixed(2, p.alpn); len(protocols) > 0; {
		var name []byte
		var ok bool
		if name, protocols, ok = cut(1, protocols); !ok {
			h.ALPN = nil
			break
		}
		h.ALPN = append(h.ALPN, string(name))
	}
	if len(p.session) > 0 {
		h.SessionIDs = append(h.SessionIDs, p.session)
	}
	if len(p.ticket) > 0 {
		h.SessionIDs = append(h.SessionIDs, p.ticket)
	}
	identities := p.identities()
	h.SessionIDs, h.shared = append(h.SessionIDs, identities...), len(identities)
	return h
}

// serverName returns the host name, by the rules of OpenSSL: a list with one
// element, which is a host name of at most 255 bytes without a NUL byte.
func (p *helloParts) serverName() string {
	list := prefixed(2, p.name)
	if len(list) == 0 || list[0] != 0 {
		return ""
	}
	name := prefixed(2, list[1:])
	if len(name) > maxNameLength || slices.Contains(name, 0) {
		return ""
	}
	return string(name)
}

// identities returns the identities of pre_shared_key (RFC 8446 section
// 4.2.11), or nil if the extension is malformed.
func (p *helloParts) identities() (ids [][]byte) {
	list, _, _ := cut(2, p.psk)
	for len(list) > 0 {
		id, rest, ok := cut(2, list)
		if list = rest; !ok || len(list) < 4 {
			return nil
		}
		list = list[4:] // obfuscated_ticket_age
		ids = append(ids, id)
	}
	return ids
}

// extensions returns the types of all extensions. OpenSSL lists only those that
// it knows, so they are taken from the message, whose structure OpenSSL has
// checked: a handshake message with a header, a version, 32 bytes of random,
// the session id, the cipher suites, the compression methods and the extensions.
func (p *helloParts) extensions() (types []uint16) {
	const fixed = 4 + 2 + 32
	if p.v2 || len(p.message) < fixed {
		return nil
	}
	_, rest, _ := cut(1, p.message[fixed:])
	_, rest, _ = cut(2, rest)
	_, rest, _ = cut(1, rest)
	for list := prefixed(2, rest); len(list) >= 4; {
		types = append(types, binary.BigEndian.Uint16(list))
		_, list, _ = cut(2, list[2:])
	}
	return types
}

// cut splits b after a vector with a length of n bytes. ok is false if b is too
// short.
func cut(n int, b []byte) (vector, rest []byte, ok bool) {
	if len(b) < n {
		return nil, nil, false
	}
	size := 0
	for _, digit := range b[:n] {
		size = size<<8 | int(digit)
	}
	if b = b[n:]; len(b) < size {
		return nil, nil, false
	}
	return b[:size], b[size:], true
}

// prefixed returns the vector that fills all of b, or nil.
func prefixed(n int, b []byte) []byte {
	vector, rest, _ := cut(n, b)
	if len(rest) > 0 {
		return nil
	}
	return vector
}

// numbers returns the 16-bit numbers in b, or nil if a byte is left over.
func numbers(b []byte) (list []uint16) {
	if len(b)%2 != 0 {
		return nil
	}
	for ; len(b) > 0; b = b[2:] {
		list = append(list, binary.BigEndian.Uint16(b))
	}
	return list
}

// errLongHello is the error for a ClientHello that exceeds MaxClientHello.
var errLongHello = fmt.Errorf("%w: the ClientHello takes more than %d bytes", ErrBufferFull, MaxClientHello)
