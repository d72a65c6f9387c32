package main

import (
	"context"
	"errors"
	"net"

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
}

// AuthInfo is what the handlers find in peer.FromContext: all that is known of
// the connection, and crypto/tls's form of it for interceptors that look for that.
type AuthInfo struct {
	credentials.TLSInfo
	Conn *sslnet.Conn
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
	return finish(ctx, conn)
}

// ServerHandshake is called for each connection that the server accepts; grpc
// bounds it by its ConnectionTimeout.
func (c *tlsCredentials) ServerHandshake(below net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return finish(context.Background(), sslnet.Server(below, c.ctx))
}

func finish(ctx context.Context, conn *sslnet.Conn) (net.Conn, credentials.AuthInfo, error) {
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, nil, err
	}
	if conn.ALPN() != "h2" {
		conn.Close()
		return nil, nil, errors.New("the peer does not speak HTTP/2 (ALPN h2)")
	}
	info := AuthInfo{Conn: conn, TLSInfo: credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}}
	return conn, info, nil
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
