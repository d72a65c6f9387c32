// Package sslacme has servers of package sslnet whose certificates come from an ACME
// CA (RFC 8555), such as Let's Encrypt, through golang.org/x/crypto/acme/autocert.
//
// The CA checks that the server has the name with the challenge tls-alpn-01 (RFC 8737),
// which is answered on the same port. No other port and no restart is needed.
package sslacme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/sync/singleflight"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Certificates chooses the context of a connection by its server name, with a
// certificate that an autocert.Manager orders from the CA, keeps and renews. It is
// safe for concurrent use.
type Certificates struct {
	manager  *autocert.Manager
	options  [2]sslfilter.Options // of usual connections, and of challenges
	requests singleflight.Group
	contexts contexts
}

// The uses of a context.
const (
	serving = iota
	answering
)

// New returns Certificates of manager, for contexts with these options. The options
// have no certificate. manager needs a HostPolicy: without one, any client could make
// it order certificates for any name. A Cache keeps the certificates when the program
// ends, and is needed in practice, since a CA limits the orders.
func New(manager *autocert.Manager, o sslfilter.Options) (*Certificates, error) {
	switch {
	case manager == nil || manager.HostPolicy == nil:
		return nil, errors.New("sslacme: the Manager needs a HostPolicy")
	case o.Client:
		return nil, errors.New("sslacme: the options are those of a client")
	case o.Crt != "" || o.CrtMem != nil || o.Key != "" || o.KeyMem != nil || o.Chain != "" || o.ChainMem != nil || o.Identities != nil || o.Staple != nil:
		return nil, errors.New("sslacme: the certificate comes from the CA: leave Crt, Key, Chain, Identities and Staple empty")
	case slices.Contains(o.ALPN, acme.ALPNProto):
		return nil, errors.New("sslacme: " + acme.ALPNProto + " is not a protocol of the application")
	}
	c := &Certificates{manager: manager, options: [...]sslfilter.Options{
		serving: o,
		// RFC 8737 section 3: this protocol alone, and no data after the handshake.
		answering: {ALPN: []string{acme.ALPNProto}, NumTickets: -1, FIPS: o.FIPS, FIPSConfig: o.FIPSConfig, Debug: o.Debug},
	}}
	return c, c.try()
}

// try makes a context of each kind with a certificate that is then thrown away, so that
// an error in the options is found before the first client connects.
func (c *Certificates) try() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := (&acme.Client{Key: key}).TLSALPN01ChallengeCert("token", "example.invalid")
	if err != nil {
		return err
	}
	for use := range c.options {
		ctx, err := c.build(&cert, use)
		if err != nil {
			return err
		}
		ctx.Close()
	}
	return nil
}

// Choose is an sslnet.ChooseFunc. Until a name has its first certificate, it waits for
// the CA, but not longer than ctx. The order then continues, and a later connection can
// use its result. Renewals delay no connection.
//
// A name that the HostPolicy refuses, or for which there is no certificate, is an error,
// and the client gets the alert unrecognized_name.
func (c *Certificates) Choose(ctx context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
	info, use := &tls.ClientHelloInfo{ServerName: hello.ServerName}, serving
	kind := "rsa "
	switch {
	case slices.Equal(hello.ALPN, []string{acme.ALPNProto}): // RFC 8737: the CA offers nothing else
		kind, use, info.SupportedProtos = "challenge ", answering, hello.ALPN
	case acceptsECDSA(hello):
		// autocert looks for such a suite. Without one, the certificate has an RSA key.
		kind, info.CipherSuites = "ecdsa ", []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	// Connections that wait for the same certificate share one call. Therefore the
	// number of calls that outlive their connections is bounded by that of names.
	result := c.requests.DoChan(kind+strings.ToLower(hello.ServerName), func() (any, error) {
		cert, err := c.manager.GetCertificate(info)
		if err != nil {
			return nil, err
		}
		return c.contexts.get(cert, use, c.build)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*sslfilter.Ctx), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// acceptsECDSA reports whether the client accepts a certificate with an ECDSA key on the
// curve P-256, which is the other kind that autocert orders. (autocert itself decides by
// the suites of TLS 1.2, and would order an RSA certificate for a client of TLS 1.3.)
func acceptsECDSA(hello *sslfilter.ClientHello) bool {
	if !slices.Contains(hello.SignatureAlgorithms, uint16(tls.ECDSAWithP256AndSHA256)) {
		return false
	}
	if slices.Min(hello.Versions) >= sslfilter.VersionTLS13 { // GREASE values are higher than all versions
		return true
	}
	return slices.Contains(hello.Groups, uint16(tls.CurveP256)) && slices.ContainsFunc(hello.CipherSuites, func(suite uint16) bool {
		return strings.Contains(tls.CipherSuiteName(suite), "_ECDHE_ECDSA_")
	})
}

// build makes a context with this certificate.
func (c *Certificates) build(cert *tls.Certificate, use int) (*sslfilter.Ctx, error) {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	o := c.options[use]
	o.KeyMem = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.Certificate {
		o.CrtMem = append(o.CrtMem, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return sslfilter.NewCtx(o)
}

// Listen returns a listener for TLS over the connections that below accepts. The fields
// of the sslnet.Listener can be set before the first Accept. HandshakeError gets the
// reason why there is no certificate for a name.
func (c *Certificates) Listen(below net.Listener) *Listener {
	return &Listener{&sslnet.Listener{Listener: below, Choose: c.Choose}}
}

// Listener is an sslnet.Listener that keeps the connections of the CA's challenges from
// the program.
type Listener struct{ *sslnet.Listener }

// Accept returns the next connection of a client. A connection of a challenge is over
// after its handshake, and is closed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if conn.(*sslnet.Conn).ALPN() != acme.ALPNProto {
			return conn, nil
		}
		go conn.Close() // it may wait for the peer
	}
}
