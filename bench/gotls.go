package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/seed-014b8713/sslfilter/bench/internal/cend"
	"github.com/seed-014b8713/sslfilter/bench/internal/subject"
)

// goConfigs returns the configurations of crypto/tls for a certificate: TLS 1.3
// with X25519, which openssl.cnf sets for the other subjects. crypto/tls selects
// AES-128-GCM by itself on this machine.
func goConfigs(pki, cert string) (server, client *tls.Config, err error) {
	file := func(name string) string { return filepath.Join(pki, name) }
	name := subject.File(cert)
	own, err := tls.LoadX509KeyPair(file(name+".crt"), file(name+".key"))
	if err != nil {
		return nil, nil, err
	}
	root, err := os.ReadFile(file("root.crt"))
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return nil, nil, errors.New("no CA in root.crt")
	}
	groups := []tls.CurveID{tls.X25519}
	server = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13, CurvePreferences: groups}
	client = &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS13, CurvePreferences: groups}
	if cert == "cert" {
		server.ClientAuth, server.ClientCAs, server.SessionTicketsDisabled = tls.RequireAndVerifyClientCert, pool, true
		user, err := tls.LoadX509KeyPair(file("client-ec.crt"), file("client-ec.key"))
		if err != nil {
			return nil, nil, err
		}
		client.Certificates = []tls.Certificate{user}
	}
	return server, client, nil
}

func conns(server, client *tls.Config) *subject.Conns {
	return &subject.Conns{
		Client:    func(below net.Conn) (net.Conn, error) { return tls.Client(below, client), nil },
		Server:    func(below net.Conn) (net.Conn, error) { return tls.Server(below, server), nil },
		Handshake: func(c net.Conn) error { return c.(*tls.Conn).Handshake() },
		Free:      func(c net.Conn) { c.Close() },
	}
}

// goSubject measures crypto/tls in memory.
func goSubject(pki string) subject.Subject {
	table := subject.Table(runtime.Version(), pki, func(cert string) (*subject.Conns, error) {
		server, client, err := goConfigs(pki, cert)
		if err != nil {
			return nil, err
		}
		return conns(server, client), nil
	})
	// crypto/tls keeps the verified chains of the client in the ticket, and does not verify
	// their signatures again.
	table.Runs["client certificate"] = func(arg string, n int) ([]float64, error) {
		ends, err := cend.New(pki, subject.File("cert"), cend.ClientCert)
		if err != nil {
			return nil, err
		}
		defer ends.Close()
		server, _, err := goConfigs(pki, "cert")
		if err != nil {
			return nil, err
		}
		server.SessionTicketsDisabled = false
		c := conns(server, nil)
		return c.Visits(n, ends, arg == "resumed")
	}
	table.Runs["context"] = func(arg string, n int) ([]float64, error) {
		return subject.Repeat(n, func() error {
			name := filepath.Join(pki, subject.File(arg))
			if _, err := tls.LoadX509KeyPair(name+".crt", name+".key"); err != nil {
				return err
			}
			return nil
		})
	}
	return table
}
