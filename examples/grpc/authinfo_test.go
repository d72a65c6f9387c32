package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/seed-014b8713/sslfilter"
)

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
	server, client credentials.AuthInfo
}

// callWith makes one call with a client certificate, through an interceptor that
// examines the peer like existing interceptors.
func callWith(t *testing.T, crt, key []byte, ca [][]byte) (seen call) {
	t.Helper()
	o := serverOptions()
	o.CACrtMem = ca
	creds, err := newCredentials(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(creds), grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			p, _ := peer.FromContext(ctx)
			seen.server = p.AuthInfo
			return handler(ctx, req)
		}))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	defer server.Stop()
	mine, err := newCredentials(&sslfilter.Options{Client: true, CACrt: pki + "root.crt", CrtMem: crt, KeyMem: key, ALPN: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(mine))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var p peer.Peer
	if _, err := grpc_health_v1.NewHealthClient(client).Check(ctx, new(grpc_health_v1.HealthCheckRequest), grpc.Peer(&p)); err != nil {
		t.Fatal(err)
	}
	seen.client = p.AuthInfo
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
