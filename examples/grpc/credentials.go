// Package sslgrpc has transport credentials for gRPC (google.golang.org/grpc) over
// package sslnet, for clients and servers.
//
// The AuthInfo of a connection is a credentials.TLSInfo, as with the credentials of
// gRPC itself, so that interceptors that look for that type work without changes.
// [FromContext] and [FromPeer] return what has no field there: OpenSSL's verdict about
// the peer, and the connection.
package sslgrpc

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"slices"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Credentials are credentials.TransportCredentials for clients or for servers, as the
// Ctx is. They are safe for concurrent use.
type Credentials struct {
	// Check, if it is set, is called with each connection after its handshake. An
	// error ends the connection. It must be set before the first use.
	Check func(*sslnet.Conn) error

	ctx  *atomic.Pointer[sslfilter.Ctx] // shared by all clones
	name string                         // set by OverrideServerName
}

// New returns credentials with this context. A server's context needs Options.ALPN with
// "h2". A client always offers "h2" and nothing else, whatever Options.ALPN has.
//
// A client verifies the name in Options.ServerName or Options.SNI, or else the
// authority of the target.
func New(ctx *sslfilter.Ctx) (*Credentials, error) {
	c := &Credentials{ctx: new(atomic.Pointer[sslfilter.Ctx])}
	return c, c.SetCtx(ctx)
}

// SetCtx replaces the context for new connections, for example because a certificate
// has been renewed. It affects all clones. Established connections continue;
// a server can bound their age with keepalive.ServerParameters.MaxConnectionAge. The
// caller may close the old context when handshakes that have begun are done.
func (c *Credentials) SetCtx(ctx *sslfilter.Ctx) error {
	switch {
	case ctx == nil:
		return errors.New("sslgrpc: no Ctx")
	case !ctx.Client() && !slices.Contains(ctx.ALPN(), "h2"):
		return errors.New(`sslgrpc: a server needs Options.ALPN with "h2"`)
	}
	if old := c.ctx.Load(); old != nil && old.Client() != ctx.Client() {
		return errors.New("sslgrpc: a Ctx for the other role")
	}
	c.ctx.Store(ctx)
	return nil
}

// ClientHandshake does the handshake of a client. gRPC calls it for each connection.
func (c *Credentials) ClientHandshake(ctx context.Context, authority string, below net.Conn) (net.Conn, credentials.AuthInfo, error) {
	current := c.ctx.Load()
	name := c.name
	if name == "" && current.ServerName() == "" {
		name = authority
		if host, _, err := net.SplitHostPort(authority); err == nil {
			name = host
		}
	}
	conn := sslnet.Client(below, current)
	err := conn.SetALPN("h2")
	if err == nil && name != "" {
		err = conn.SetServerName(name)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return c.finish(ctx, below, conn)
}

// ServerHandshake does the handshake of a server. gRPC calls it for each connection,
// and bounds it with its ConnectionTimeout.
func (c *Credentials) ServerHandshake(below net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.finish(context.Background(), below, sslnet.Server(below, c.ctx.Load()))
}

func (c *Credentials) finish(ctx context.Context, below net.Conn, conn *sslnet.Conn) (net.Conn, credentials.AuthInfo, error) {
	err := conn.HandshakeContext(ctx)
	if err == nil && conn.ALPN() != "h2" {
		err = errors.New("sslgrpc: the peer does not speak HTTP/2 (ALPN h2)")
	}
	if err == nil && c.Check != nil {
		err = c.Check(conn)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	info := &AuthInfo{Conn: conn, Peer: conn.Peer()}
	info.State, info.SecurityLevel = conn.ConnectionState(), credentials.PrivacyAndIntegrity
	if chains := info.State.VerifiedChains; len(chains) > 0 {
		info.SPIFFEID = spiffeID(chains[0][0])
	}
	wrapped := &secured{Conn: conn, info: info}
	if socket, ok := below.(syscall.Conn); ok { // gRPC sets TCP_USER_TIMEOUT for its keepalive
		return &securedSocket{wrapped, socket}, info.TLSInfo, nil
	}
	return wrapped, info.TLSInfo, nil
}

// Info returns the protocol and the name that a client verifies.
func (c *Credentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls", ServerName: cmp.Or(c.name, c.ctx.Load().ServerName())}
}

// Clone returns a copy. OverrideServerName of one does not change the other.
func (c *Credentials) Clone() credentials.TransportCredentials {
	clone := *c
	return &clone
}

// OverrideServerName sets the name that a client sends and verifies, in place of that
// of the options or the target. It must be called before the first use.
func (c *Credentials) OverrideServerName(name string) error {
	c.name = name
	return nil
}

// AuthInfo is what is known about a connection.
type AuthInfo struct {
	// TLSInfo is the AuthInfo of the peer.Peer. State.VerifiedChains and SPIFFEID are
	// set only if the peer's certificate is valid.
	credentials.TLSInfo
	// Peer has OpenSSL's verdict about the peer's certificate, with its reasons. It is
	// that of the handshake.
	Peer *sslfilter.Peer
	// Conn is the connection. gRPC reads and writes it.
	Conn *sslnet.Conn
}

// FromContext returns the AuthInfo of the connection of a call on a server, given the
// context of the call. It returns nil if the connection does not have Credentials of
// this package.
func FromContext(ctx context.Context) *AuthInfo {
	p, _ := peer.FromContext(ctx)
	return FromPeer(p)
}

// FromPeer is FromContext for a peer.Peer, which a client gets with the call option
// grpc.Peer.
func FromPeer(p *peer.Peer) *AuthInfo {
	if p == nil {
		return nil
	}
	if addr, ok := p.LocalAddr.(*localAddr); ok {
		return addr.info
	}
	return nil
}

// secured is the connection that gRPC uses. A peer.Peer has only its addresses and its
// credentials.TLSInfo, so the AuthInfo is found by the local address.
type secured struct {
	*sslnet.Conn
	info *AuthInfo
}

// LocalAddr returns the local address.
func (s *secured) LocalAddr() net.Addr { return &localAddr{s.Conn.LocalAddr(), s.info} }

type securedSocket struct {
	*secured
	syscall.Conn
}

// localAddr is a local address with the AuthInfo of the connection.
type localAddr struct {
	net.Addr
	info *AuthInfo
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
