package main

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/url"

	"google.golang.org/grpc/credentials"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// tlsCredentials are credentials.TransportCredentials over package sslnet. One
// value can serve clients or servers, as its Ctx does. The Ctx needs
// Options.ALPN with "h2".
type tlsCredentials struct {
	ctx  *sslfilter.Ctx
	name string // that a client verifies; by default the host of the target
	// check, if it is set, is called with each connection after its handshake. The
	// connection has facts for which TLSInfo has no field, such as the revocation
	// status and OpenSSL's error numbers. An error ends the connection.
	check func(*sslnet.Conn) error
}

// ClientHandshake is called for each connection that the client makes.
func (c *tlsCredentials) ClientHandshake(ctx context.Context, authority string, below net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := sslnet.Client(below, c.ctx)
	name := c.name
	if name == "" && c.ctx.ServerName() == "" {
		name = authority
		if host, _, err := net.SplitHostPort(authority); err == nil {
			name = host
		}
	}
	if name != "" {
		if err := conn.SetServerName(name); err != nil {
			return nil, nil, err
		}
	}
	return c.finish(ctx, conn)
}

// ServerHandshake is called for each connection that the server accepts; grpc
// bounds it by its ConnectionTimeout.
func (c *tlsCredentials) ServerHandshake(below net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.finish(context.Background(), sslnet.Server(below, c.ctx))
}

// finish returns a credentials.TLSInfo instead of a type of its own, because
// interceptors look for that type in peer.FromContext. State.VerifiedChains is set only if
// the peer's certificate is valid.
func (c *tlsCredentials) finish(ctx context.Context, conn *sslnet.Conn) (net.Conn, credentials.AuthInfo, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, nil, err
	}
	if conn.ALPN() != "h2" {
		conn.Close()
		return nil, nil, errors.New("the peer does not speak HTTP/2 (ALPN h2)")
	}
	if c.check != nil {
		if err := c.check(conn); err != nil {
			conn.Close()
			return nil, nil, err
		}
	}
	state := conn.ConnectionState()
	info := credentials.TLSInfo{
		State:          state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}
	if len(state.VerifiedChains) > 0 {
		info.SPIFFEID = spiffeID(state.VerifiedChains[0][0])
	}
	return conn, info, nil
}

// spiffeID returns the SPIFFE ID of a certificate: its only URI, if that has the
// scheme spiffe, a trust domain and a path, and nothing else (X.509-SVID,
// section 2). Otherwise it returns nil.
func spiffeID(cert *x509.Certificate) *url.URL {
	if len(cert.URIs) != 1 {
		return nil
	}
	id := cert.URIs[0]
	if id.Scheme != "spiffe" || id.Host == "" || len(id.Host) > 255 || id.Port() != "" || id.User != nil || len(id.Path) < 2 ||
		id.RawQuery != "" || id.Fragment != "" || len(id.String()) > 2048 {
		return nil
	}
	return id
}

func (c *tlsCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", ServerName: c.name}
}

func (c *tlsCredentials) Clone() credentials.TransportCredentials {
	clone := *c
	return &clone
}

func (c *tlsCredentials) OverrideServerName(name string) error {
	c.name = name
	return nil
}
