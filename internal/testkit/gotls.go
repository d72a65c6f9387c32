package testkit

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// Roots returns a pool with the root of the test PKI.
func Roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(PKIBytes(t, "root.crt")))
	return pool
}

// KeyPair returns a certificate of the test PKI with its key, by the names of
// their files.
func KeyPair(t testing.TB, crt, key string) tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(PKI(crt), PKI(key))
	require.NoError(t, err)
	return cert
}

// GoClient returns the configuration of a crypto/tls client that trusts the test
// PKI and verifies the name localhost.
func GoClient(t testing.TB, changes ...func(*tls.Config)) *tls.Config {
	t.Helper()
	config := &tls.Config{ServerName: "localhost", RootCAs: Roots(t)}
	for _, change := range changes {
		change(config)
	}
	return config
}

// GoServer returns the configuration of a crypto/tls server with the same
// certificate as Server.
func GoServer(t testing.TB, changes ...func(*tls.Config)) *tls.Config {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{KeyPair(t, "server.crt", "server.key")}, ClientCAs: Roots(t)}
	for _, change := range changes {
		change(config)
	}
	return config
}

// GoPeer is the result of a connection between a Filter and crypto/tls.
type GoPeer struct {
	Err   error               // of crypto/tls
	State tls.ConnectionState // of crypto/tls
	Got   string              // what the Filter received
}

// TalkToGo connects f with crypto/tls, which is the server if f is a client. The
// client sends "ping", and the server answers "pong".
func TalkToGo(t testing.TB, f *sslfilter.Filter, client bool, config *tls.Config) (peer GoPeer) {
	t.Helper()
	ours, theirs := Pipe()
	defer time.AfterFunc(Patience, ours.Cut).Stop()
	conn := tls.Client(theirs, config)
	if client {
		conn = tls.Server(theirs, config)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		peer.Err = chat(conn, !client)
		peer.State = conn.ConnectionState()
	}()
	if err := f.Handshake(); err == nil {
		peer.Got = drive(f, client, ours)
	}
	ours.Close()
	<-done
	return peer
}

// chat is the side of crypto/tls.
func chat(conn *tls.Conn, client bool) error {
	if err := conn.Handshake(); err != nil {
		return err
	}
	if client {
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
		return err
	}
	if !client {
		if _, err := conn.Write([]byte("pong")); err != nil {
			return err
		}
	}
	return conn.Close()
}

// drive is the loop that the documentation of package sslfilter shows.
func drive(f *sslfilter.Filter, client bool, wire io.ReadWriter) (got string) {
	if client && f.Send([]byte("ping")) != nil {
		return ""
	}
	in := make([]byte, 4096)
	for {
		if _, err := wire.Write(f.Outgoing(nil)); err != nil {
			return got
		}
		n, err := wire.Read(in)
		if err != nil {
			f.ReceiveEOF()
			return got
		}
		plain, err := f.Receive(nil, in[:n])
		got += string(plain)
		if !client && string(plain) == "ping" {
			f.Send([]byte("pong"))
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				f.CloseWrite()
			}
			wire.Write(f.Outgoing(nil))
			return got
		}
	}
}
