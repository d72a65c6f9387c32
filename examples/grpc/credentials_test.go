package sslgrpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/seed-014b8713/sslfilter"
	sslgrpc "github.com/seed-014b8713/sslfilter/examples/grpc"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

const pki = "../../testdata/pki/"

func serverOptions() sslfilter.Options {
	return sslfilter.Options{
		Crt: pki + "server.crt", Key: pki + "server.key", CACrt: pki + "root.crt", ClientCert: true, ALPN: []string{"h2"},
	}
}

func clientOptions() sslfilter.Options {
	return sslfilter.Options{Client: true, CACrt: pki + "root.crt", Crt: pki + "client.crt", Key: pki + "client.key"}
}

func newCredentials(t *testing.T, o sslfilter.Options) *sslgrpc.Credentials {
	t.Helper()
	ctx, err := sslfilter.NewCtx(o)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := sslgrpc.New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return creds
}

// serve starts a server. If seen is set, an interceptor calls it for each call.
func serve(t *testing.T, creds credentials.TransportCredentials, seen func(context.Context)) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(creds), grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if seen != nil {
				seen(ctx)
			}
			return handler(ctx, req)
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// ask makes one call and returns the peer.
func ask(t *testing.T, addr string, creds credentials.TransportCredentials) (p peer.Peer, err error) {
	t.Helper()
	client, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		return p, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err = grpc_health_v1.NewHealthClient(client).Check(ctx, new(grpc_health_v1.HealthCheckRequest), grpc.Peer(&p))
	return p, err
}

// identity returns a self-signed client certificate with URIs, and its key, in PEM.
func identity(t *testing.T, name string, uris ...string) (crt, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true, IsCA: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// call is the result of one call, as the interceptor and the client see it.
type call struct {
	server, client         credentials.AuthInfo
	serverOurs, clientOurs *sslgrpc.AuthInfo
}

// callWith makes one call with a client certificate, through an interceptor that
// examines the peer like existing interceptors.
func callWith(t *testing.T, crt, key []byte, ca [][]byte) (seen call) {
	t.Helper()
	o := serverOptions()
	o.CACrt, o.CACrtMem = "", ca
	addr := serve(t, newCredentials(t, o), func(ctx context.Context) {
		p, _ := peer.FromContext(ctx)
		seen.server, seen.serverOurs = p.AuthInfo, sslgrpc.FromContext(ctx)
	})
	p, err := ask(t, addr, newCredentials(t, sslfilter.Options{Client: true, CACrt: pki + "root.crt", CrtMem: crt, KeyMem: key}))
	if err != nil {
		t.Fatal(err)
	}
	seen.client, seen.clientOurs = p.AuthInfo, sslgrpc.FromPeer(&p)
	return seen
}

// Interceptors find a credentials.TLSInfo, as with grpc's own credentials.
func TestInterceptorsFindTLSInfo(t *testing.T) {
	const id = "spiffe://example.org/workload"
	crt, key := identity(t, "one", id)
	other, otherKey := identity(t, "other", id)
	two, twoKey := identity(t, "two", id, "https://example.org/")
	for _, c := range []struct {
		name     string
		crt, key []byte
		valid    bool
		id       string
	}{
		{"valid", crt, key, true, id},
		{"of an unknown CA", other, otherKey, false, ""},
		{"two URIs", two, twoKey, true, ""},
		{"none", nil, nil, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := callWith(t, c.crt, c.key, [][]byte{crt, two})
			for side, found := range map[string]credentials.AuthInfo{"server": seen.server, "client": seen.client} {
				info, ok := found.(credentials.TLSInfo)
				if !ok {
					t.Fatalf("%s: %T", side, found)
				}
				if err := credentials.CheckSecurityLevel(info, credentials.PrivacyAndIntegrity); err != nil || info.AuthType() != "tls" {
					t.Errorf("%s: %v, %s", side, err, info.AuthType())
				}
				if !info.State.HandshakeComplete || info.State.NegotiatedProtocol != "h2" {
					t.Errorf("%s: %+v", side, info.State)
				}
			}
			info := seen.server.(credentials.TLSInfo)
			if sent := len(info.State.PeerCertificates); (sent > 0) != (c.crt != nil) {
				t.Errorf("%d certificates", sent)
			}
			if valid := len(info.State.VerifiedChains) > 0; valid != c.valid {
				t.Errorf("valid: %t", valid)
			}
			if seen.serverOurs.Peer.Valid != c.valid || seen.clientOurs == nil || !seen.clientOurs.Peer.Valid || seen.serverOurs.Conn == nil || seen.serverOurs.State.NegotiatedProtocol != "h2" {
				t.Errorf("verdicts %v and %v", seen.serverOurs.Peer, seen.clientOurs)
			}
			got := ""
			if info.SPIFFEID != nil {
				got = info.SPIFFEID.String()
			}
			if got != c.id {
				t.Errorf("SPIFFE ID %q", got)
			}
		})
	}
}

// Nothing is found in a context without a peer, or with a peer of other credentials.
func TestNoAuthInfo(t *testing.T) {
	if sslgrpc.FromContext(t.Context()) != nil || sslgrpc.FromPeer(nil) != nil || sslgrpc.FromPeer(new(peer.Peer)) != nil {
		t.Error("an AuthInfo out of nothing")
	}
}

func goConfig(t *testing.T) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	text, err := os.ReadFile(pki + "root.crt")
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	return &tls.Config{RootCAs: roots, ClientCAs: roots}
}

func goCert(t *testing.T, name string) []tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(pki+name+".crt", pki+name+".key")
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{cert}
}

// Each side works with a peer that has gRPC's own credentials over crypto/tls, with
// TLS 1.2 and 1.3.
func TestBothWaysWithCryptoTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := goConfig(t), goConfig(t)
		client.MinVersion, client.MaxVersion, client.Certificates = version, version, goCert(t, "client")
		server.MinVersion, server.MaxVersion, server.Certificates = version, version, goCert(t, "server")
		server.ClientAuth = tls.RequireAndVerifyClientCert
		var seen *sslgrpc.AuthInfo
		ours := serve(t, newCredentials(t, serverOptions()), func(ctx context.Context) { seen = sslgrpc.FromContext(ctx) })
		if _, err := ask(t, ours, credentials.NewTLS(client)); err != nil || !seen.Peer.Valid || seen.State.Version != version {
			t.Errorf("%s: our server: %v, %+v", tls.VersionName(version), err, seen)
		}
		p, err := ask(t, serve(t, credentials.NewTLS(server), nil), newCredentials(t, clientOptions()))
		if err != nil || !sslgrpc.FromPeer(&p).Peer.Valid || p.AuthInfo.(credentials.TLSInfo).State.Version != version {
			t.Errorf("%s: our client: %v", tls.VersionName(version), err)
		}
	}
}

// A server that does not choose h2, and a client that does not offer it, are refused.
func TestWrongALPN(t *testing.T) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: goCert(t, "server")})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	if _, err := ask(t, listener.Addr().String(), newCredentials(t, clientOptions())); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "ALPN h2") {
		t.Error(err)
	}
	creds := newCredentials(t, serverOptions())
	below, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer below.Close()
	go func() {
		config := goConfig(t)
		config.ServerName = "localhost"
		conn, err := tls.Dial("tcp", below.Addr().String(), config)
		if err == nil {
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	conn, err := below.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := creds.ServerHandshake(conn); err == nil || !strings.Contains(err.Error(), "ALPN h2") {
		t.Error(err)
	}
}

// A client whose certificate the server refuses gets an error.
func TestRefusedClients(t *testing.T) {
	o := serverOptions()
	o.ClientCert, o.RequireValidClientCert = false, true
	addr := serve(t, newCredentials(t, o), nil)
	for _, cert := range []string{"", "client-expired"} {
		o := clientOptions()
		o.Crt, o.Key = "", ""
		if cert != "" {
			o.Crt, o.Key = pki+cert+".crt", pki+cert+".key"
		}
		if _, err := ask(t, addr, newCredentials(t, o)); status.Code(err) != codes.Unavailable {
			t.Errorf("certificate %q: %v", cert, err)
		}
	}
	checked := newCredentials(t, serverOptions())
	checked.Check = func(*sslnet.Conn) error { return errors.New("not today") }
	if _, err := ask(t, serve(t, checked, nil), newCredentials(t, clientOptions())); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}

// OverrideServerName decides which name is verified, in one clone only, and the name
// of the options is used before that of the target.
func TestNames(t *testing.T) {
	addr := serve(t, newCredentials(t, serverOptions()), nil)
	wrong := clientOptions()
	wrong.ServerName = "elsewhere.test"
	creds := newCredentials(t, wrong)
	//lint:ignore SA1019 the interface has it
	if name := creds.Info().ServerName; name != "elsewhere.test" {
		t.Error(name)
	}
	clone := creds.Clone()
	//lint:ignore SA1019 the interface has it
	if err := clone.OverrideServerName("server.test"); err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 the interface has it
	if name := clone.Info().ServerName; name != "server.test" {
		t.Error(name)
	}
	if _, err := ask(t, addr, clone); err != nil {
		t.Error(err)
	}
	if _, err := ask(t, addr, creds); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "elsewhere.test") {
		t.Error(err)
	}
}

// New connections use the Ctx of SetCtx. One that cannot be used is refused.
func TestSetCtx(t *testing.T) {
	var subject string
	addr := serve(t, newCredentials(t, serverOptions()), func(ctx context.Context) {
		subject = sslgrpc.FromContext(ctx).State.PeerCertificates[0].Subject.CommonName
	})
	creds := newCredentials(t, clientOptions())
	crt, key := identity(t, "renewed")
	ctx, err := sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: pki + "root.crt", CrtMem: crt, KeyMem: key})
	if err != nil {
		t.Fatal(err)
	}
	server, err := sslfilter.NewCtx(serverOptions())
	if err != nil {
		t.Fatal(err)
	}
	clone := creds.Clone()
	if creds.SetCtx(nil) == nil || creds.SetCtx(server) == nil {
		t.Error("a Ctx that cannot be used")
	}
	if err := creds.SetCtx(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, addr, clone); err != nil || subject != "renewed" {
		t.Error(err, subject)
	}
	o := serverOptions()
	o.ALPN = nil
	if server, err = sslfilter.NewCtx(o); err != nil {
		t.Fatal(err)
	}
	if _, err := sslgrpc.New(server); err == nil {
		t.Error("a server without ALPN")
	}
}
