package sslnet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/seed-014b8713/sslfilter"
)

// ConnectionState describes the connection in the form of crypto/tls. Before the
// handshake is done and after Close, HandshakeComplete is false and the other
// fields are empty.
//
// PeerCertificates has the certificates that the peer sent and that crypto/x509
// can parse. The first is always the peer's own certificate: if that cannot be
// parsed, the list is empty. If ClientCertValid is true, VerifiedChains has the
// chain that OpenSSL built. SignedCertificateTimestamps, ECHAccepted and
// HelloRetryRequest are not set. ExportKeyingMaterial of the state always returns
// an error; use the method of Conn.
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

// describe sets the fields that need no parsing. It returns the filter's Peer, or
// nil after Close.
func (c *Conn) describe(state *tls.ConnectionState) *sslfilter.Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.filter
	peer := f.Peer()
	if peer == nil {
		return nil
	}
	facts := f.State()
	state.HandshakeComplete = true
	state.Version = uint16(facts.Version)
	state.CipherSuite = facts.CipherSuite
	state.CurveID = tls.CurveID(facts.Group)
	state.NegotiatedProtocol = facts.ALPN
	state.ServerName = facts.ServerName
	state.DidResume = facts.Resumed
	state.OCSPResponse = f.OCSPResponse()
	state.TLSUnique = f.TLSUnique()
	return peer
}

// parseSent returns the certificates of the peer that crypto/x509 can parse, or nil
// if it cannot parse the peer's own. Programs take the first certificate for the
// peer's own, and without that one the first would be a CA's.
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

// parseChain parses a chain with crypto/x509. It returns nil if one certificate
// cannot be parsed.
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

// noExporter is an empty state whose ExportKeyingMaterial returns an error. With a zero
// ConnectionState, ExportKeyingMaterial panics. Only crypto/tls can set the function that
// it calls, and sets one that returns an error if renegotiation is enabled.
var noExporter = tls.Client(nil, &tls.Config{Renegotiation: tls.RenegotiateOnceAsClient}).ConnectionState()

// VerifyHostname checks that the server's certificate is valid for host, as in
// crypto/tls and by the rules of crypto/x509. The handshake has already verified
// the server name; use VerifyHostname for another name.
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

// ask calls question with the filter. It returns a zero value if there is no
// filter.
func ask[T any](c *Conn, question func(*sslfilter.Filter) T) (answer T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil {
		return answer
	}
	return question(c.filter)
}

// OCSPResponse returns the OCSP response that the server stapled, or nil. It is not
// verified. See [sslfilter.Filter.OCSPResponse].
func (c *Conn) OCSPResponse() []byte { return ask(c, (*sslfilter.Filter).OCSPResponse) }

// State returns what is known of the connection in one value. It returns the zero
// value before the handshake begins and after Close. Its method String is one line
// for a log. See [sslfilter.Filter.State].
func (c *Conn) State() sslfilter.State { return ask(c, (*sslfilter.Filter).State) }

// Cipher returns OpenSSL's name of the cipher suite. It returns "" before the
// handshake begins. See [sslfilter.Filter.Cipher].
func (c *Conn) Cipher() string { return ask(c, (*sslfilter.Filter).Cipher) }

// Version returns OpenSSL's name of the protocol version, such as "TLSv1.3". It
// returns "" before the handshake begins. See [sslfilter.Filter.Version].
func (c *Conn) Version() string { return ask(c, (*sslfilter.Filter).Version) }

// Providers lists the algorithms in use, and the OpenSSL provider of each. It
// returns an error before the handshake is done, and always with OpenSSL 1.1.1.
// See [sslfilter.Filter.Providers].
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

// Bits returns the strength of the cipher in bits, or 0 before a cipher is
// negotiated.
func (c *Conn) Bits() int { return ask(c, (*sslfilter.Filter).Bits) }

// ALPN returns the negotiated application protocol, or "" if there is none.
func (c *Conn) ALPN() string { return ask(c, (*sslfilter.Filter).ALPN) }

// SessionError returns the reason why a client did not offer the session of its
// SessionCache to the server, or nil. It returns nil before the handshake begins, and
// sslfilter.ErrClosed after Close. See [sslfilter.Filter.SessionError].
func (c *Conn) SessionError() error { return ask(c, (*sslfilter.Filter).SessionError) }

// ServerName returns the host name in the ClientHello (SNI), or "" if there is
// none. A server must not trust it.
func (c *Conn) ServerName() string { return ask(c, (*sslfilter.Filter).ServerName) }

// ExportKeyingMaterial derives a secret that only the two ends know (RFC 5705).
// See [sslfilter.Filter.ExportKeyingMaterial].
func (c *Conn) ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil {
		return nil, &sslfilter.UsageError{Op: "ExportKeyingMaterial", Msg: "the handshake is not done"}
	}
	return c.filter.ExportKeyingMaterial(label, context, length)
}

// ClientCertExists reports whether the peer sent a certificate, trusted or not. On
// a client, this is the server's certificate.
//
// WARNING: The certificate may be revoked or invalid. Use ClientCertValid to check
// it.
func (c *Conn) ClientCertExists() bool { return ask(c, (*sslfilter.Filter).ClientCertExists) }

// ClientCertValid reports whether the peer proved to own a certificate that is
// valid and, with Options.CACRL, not revoked. On a client, this is the server's
// certificate. See [sslfilter.Filter.ClientCertValid].
//
// Like all verdicts, it is false before the handshake is done and after Close.
func (c *Conn) ClientCertValid() bool { return ask(c, (*sslfilter.Filter).ClientCertValid) }

// ClientCertIDs lists the certificates of the peer in the form that the original
// uses. See [sslfilter.Filter.ClientCertIDs].
func (c *Conn) ClientCertIDs() []sslfilter.CertID { return ask(c, (*sslfilter.Filter).ClientCertIDs) }

// ClientCertNotOnCRL reports whether none of the serial numbers in the peer's chain
// is on a CRL in file. See [sslfilter.Filter.ClientCertNotOnCRL] for its warnings.
func (c *Conn) ClientCertNotOnCRL(file string) bool {
	return ask(c, func(f *sslfilter.Filter) bool { return f.ClientCertNotOnCRL(file) })
}

// ClientCertCRL does the check of ClientCertNotOnCRL and also returns the reason.
func (c *Conn) ClientCertCRL(file string) sslfilter.CRLResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil {
		return sslfilter.CRLResult{File: file, Status: sslfilter.CRLNoCertificate}
	}
	return c.filter.ClientCertCRL(file)
}

// Peer returns everything that is known about the peer's certificate. It returns
// nil before the handshake begins and after Close.
func (c *Conn) Peer() *sslfilter.Peer { return ask(c, (*sslfilter.Filter).Peer) }

// KeyUpdate changes the key with which this end encrypts (TLS 1.3). If requestPeer
// is set, it asks the peer to do the same. KeyUpdate does the handshake if it is
// not done.
func (c *Conn) KeyUpdate(requestPeer bool) error {
	c.writers.Add(1)
	defer c.writers.Add(-1)
	if err := c.ensure(context.Background(), writeCall); err != nil {
		return err
	}
	if err := c.lockOut(); err != nil {
		return err
	}
	defer c.out.unlock()
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
