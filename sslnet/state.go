package sslnet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/seed-014b8713/sslfilter"
)

// ConnectionState is what crypto/tls tells of a connection. Before the
// handshake is done it is empty but for HandshakeComplete, and so it is after
// Close.
//
// PeerCertificates are those that the peer sent, as far as crypto/x509 can
// parse them. Its first is always the peer's own: if that cannot be parsed, the
// list is empty. VerifiedChains holds the chain that OpenSSL built, if
// ClientCertValid is true. SignedCertificateTimestamps, ECHAccepted and
// HelloRetryRequest are not filled. ExportKeyingMaterial of the state is always
// an error; Conn has a method of that name.
func (c *Conn) ConnectionState() tls.ConnectionState {
	state := noExporter
	if !c.ready.Load() {
		return state
	}
	peer := c.describe(&state)
	if peer == nil {
		return state
	}
	state.PeerCertificates = parseSent(peer.Sent)
	if peer.Valid {
		if chain := parseChain(peer.Chain); chain != nil {
			state.VerifiedChains = [][]*x509.Certificate{chain}
		}
	}
	return state
}

// describe fills in what needs no parsing, and gives the verdict, or nil after
// Close.
func (c *Conn) describe(state *tls.ConnectionState) *sslfilter.Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.filter
	peer := f.Peer()
	if peer == nil {
		return nil
	}
	state.HandshakeComplete = true
	state.Version = versions[f.Version()]
	state.CipherSuite = f.CipherSuite()
	state.CurveID = tls.CurveID(f.Group())
	state.NegotiatedProtocol = f.ALPN()
	state.ServerName = f.ServerName()
	state.DidResume = f.Resumed()
	state.OCSPResponse = f.OCSPResponse()
	state.TLSUnique = f.TLSUnique()
	return peer
}

// parseSent gives what crypto/x509 can parse of the certificates that the peer
// sent, or nothing if it cannot parse the peer's own: everybody takes the first
// for that, and it would be a CA's.
func parseSent(sent [][]byte) (certs []*x509.Certificate) {
	for i, der := range sent {
		cert, err := x509.ParseCertificate(der)
		switch {
		case err == nil:
			certs = append(certs, cert)
		case i == 0:
			return nil
		}
	}
	return certs
}

// parseChain gives a chain as crypto/x509 sees it, or nil if it cannot parse
// all of it.
func parseChain(certs []sslfilter.Certificate) []*x509.Certificate {
	var chain []*x509.Certificate
	for i := range certs {
		cert, err := certs[i].Parse()
		if err != nil {
			return nil
		}
		chain = append(chain, cert)
	}
	return chain
}

var versions = map[string]uint16{
	sslfilter.VersionTLS10.String(): tls.VersionTLS10,
	sslfilter.VersionTLS11.String(): tls.VersionTLS11,
	sslfilter.VersionTLS12.String(): tls.VersionTLS12,
	sslfilter.VersionTLS13.String(): tls.VersionTLS13,
}

// noExporter is an empty state whose ExportKeyingMaterial fails. In a zero one
// it would panic, and only crypto/tls can set it; this is how it does so where
// renegotiation is allowed.
var noExporter = tls.Client(nil, &tls.Config{Renegotiation: tls.RenegotiateOnceAsClient}).ConnectionState()

// VerifyHostname checks that the server's certificate is for host, as crypto/tls
// does and with crypto/x509's rules. The handshake has verified the name that it
// was given; this is for another one.
func (c *Conn) VerifyHostname(host string) error {
	switch {
	case !c.client:
		return errors.New("sslnet: VerifyHostname on a server")
	case !c.ready.Load():
		return errors.New("sslnet: VerifyHostname before the handshake is done")
	}
	state := c.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return errors.New("sslnet: VerifyHostname: the handshake did not verify the server's certificate")
	}
	return state.VerifiedChains[0][0].VerifyHostname(host)
}

// ask asks the filter, if there is one.
func ask[T any](c *Conn, question func(*sslfilter.Filter) T) (answer T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil {
		return answer
	}
	return question(c.filter)
}

// OCSPResponse is the OCSP response that the server stapled, or nil. Nobody has
// verified it. See [sslfilter.Filter.OCSPResponse].
func (c *Conn) OCSPResponse() []byte { return ask(c, (*sslfilter.Filter).OCSPResponse) }

// Cipher is OpenSSL's name of the cipher suite, or empty before there is one.
func (c *Conn) Cipher() string { return ask(c, (*sslfilter.Filter).Cipher) }

// Version is OpenSSL's name of the protocol version, "TLSv1.3", or empty before
// there is one.
func (c *Conn) Version() string { return ask(c, (*sslfilter.Filter).Version) }

// Providers lists the algorithms in use, and which provider of OpenSSL serves
// each. Before the handshake is done it is an error, and so it is with OpenSSL
// 1.1.1. See [sslfilter.Filter.Providers].
func (c *Conn) Providers() (list []sslfilter.AlgorithmProvider, err error) {
	err = errors.New("sslnet: Providers before the handshake is done")
	if !c.ready.Load() {
		return nil, err
	}
	ask(c, func(f *sslfilter.Filter) bool {
		list, err = f.Providers()
		return true
	})
	return list, err
}

// Bits is the strength of the cipher in bits, or 0 before there is one.
func (c *Conn) Bits() int { return ask(c, (*sslfilter.Filter).Bits) }

// ALPN is the application protocol that was agreed on, or empty.
func (c *Conn) ALPN() string { return ask(c, (*sslfilter.Filter).ALPN) }

// ServerName is the host name in the ClientHello (SNI), or empty. A server must
// not trust it.
func (c *Conn) ServerName() string { return ask(c, (*sslfilter.Filter).ServerName) }

// ExportKeyingMaterial is [sslfilter.Filter.ExportKeyingMaterial].
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil {
		return nil, &sslfilter.UsageError{Op: "ExportKeyingMaterial", Msg: "the handshake is not done"}
	}
	return c.filter.ExportKeyingMaterial(label, context, length)
}

// ClientCertExists reports whether the peer showed a certificate, trusted or
// not. On a client it is about the server's.
//
// WARNING: It may be revoked or invalid. Ask ClientCertValid.
func (c *Conn) ClientCertExists() bool { return ask(c, (*sslfilter.Filter).ClientCertExists) }

// ClientCertValid reports whether the peer proved to own a certificate that is
// valid and, with Options.CACRL, not revoked. On a client it is about the
// server's. See [sslfilter.Filter.ClientCertValid].
//
// Like all verdicts it is false before the handshake is done and after Close.
func (c *Conn) ClientCertValid() bool { return ask(c, (*sslfilter.Filter).ClientCertValid) }

// ClientCertIDs lists the certificates of the peer as the original does. See
// [sslfilter.Filter.ClientCertIDs].
func (c *Conn) ClientCertIDs() []sslfilter.CertID { return ask(c, (*sslfilter.Filter).ClientCertIDs) }

// ClientCertNotOnCRL reports whether no serial of the peer's chain is on any CRL
// in file. See [sslfilter.Filter.ClientCertNotOnCRL] for its warnings.
func (c *Conn) ClientCertNotOnCRL(file string) bool {
	return ask(c, func(f *sslfilter.Filter) bool { return f.ClientCertNotOnCRL(file) })
}

// CheckCRL is ClientCertNotOnCRL with the reason.
func (c *Conn) CheckCRL(file string) sslfilter.CRLResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil {
		return sslfilter.CRLResult{File: file, Status: sslfilter.CRLNoCertificate}
	}
	return c.filter.CheckCRL(file)
}

// Peer tells all that is known of the other side's certificate, or nil before
// the handshake begins and after Close.
func (c *Conn) Peer() *sslfilter.Peer { return ask(c, (*sslfilter.Filter).Peer) }

// KeyUpdate changes the key of our direction (TLS 1.3), and asks the peer to
// change its own if requestPeer is set. It runs the handshake if need be.
func (c *Conn) KeyUpdate(requestPeer bool) error {
	c.writers.Add(1)
	defer c.writers.Add(-1)
	if err := c.ensure(context.Background(), writeGoverns, "write"); err != nil {
		return err
	}
	c.out.Lock()
	defer c.out.Unlock()
	if err := c.updateKey(requestPeer); err != nil {
		return err
	}
	return c.send()
}

func (c *Conn) updateKey(requestPeer bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.filter.KeyUpdate(requestPeer)
}
