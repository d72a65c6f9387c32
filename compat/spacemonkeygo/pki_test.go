package openssl_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spacemonkeygo/openssl"
)

// must fails the test if there is an error, and returns the value otherwise.
func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// identity is a certificate with its key.
type identity struct {
	cert *openssl.Certificate
	key  openssl.PrivateKey
}

// issue makes a certificate with this package. The issuer is ca; if ca is nil, the
// certificate is self-signed. san is its subjectAltName.
func issue(t testing.TB, ca *identity, name, san string, isCA bool) *identity {
	t.Helper()
	key := must[openssl.PrivateKey](t)(openssl.GenerateECKey(openssl.Prime256v1))
	cert := must[*openssl.Certificate](t)(openssl.NewCertificate(&openssl.CertificateInfo{
		Serial: big.NewInt(time.Now().UnixNano()), Issued: -time.Hour, Expires: time.Hour, Organization: "Test", CommonName: name,
	}, key))
	signer := key
	if ca != nil {
		ok(t, cert.SetIssuer(ca.cert))
		signer = ca.key
	}
	constraints := "critical,CA:FALSE"
	if isCA {
		constraints = "critical,CA:TRUE"
	}
	extensions := map[openssl.NID]string{
		openssl.NID_basic_constraints: constraints, openssl.NID_subject_key_identifier: "hash",
	}
	if ca != nil {
		extensions[openssl.NID_authority_key_identifier] = "keyid"
	}
	if san != "" {
		extensions[openssl.NID_subject_alt_name] = san
	}
	ok(t, cert.AddExtensions(extensions))
	ok(t, cert.Sign(signer, openssl.EVP_SHA256))
	return &identity{cert, key}
}

func (i *identity) pem(t testing.TB) (cert, key []byte) {
	t.Helper()
	return must[[]byte](t)(i.cert.MarshalPEM()), must[[]byte](t)(i.key.MarshalPKCS1PrivateKeyPEM())
}

func (i *identity) tls(t testing.TB) tls.Certificate {
	t.Helper()
	return must[tls.Certificate](t)(tls.X509KeyPair(i.pem(t)))
}

func (i *identity) pool(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	cert, _ := i.pem(t)
	if !pool.AppendCertsFromPEM(cert) {
		t.Fatal("crypto/x509 does not accept the CA")
	}
	return pool
}

// ctx is a context that shows i, if that is not nil, and trusts cas.
func (i *identity) ctx(t testing.TB, cas ...*identity) *openssl.Ctx {
	t.Helper()
	ctx := must[*openssl.Ctx](t)(openssl.NewCtx())
	if i != nil {
		ok(t, ctx.UseCertificate(i.cert))
		ok(t, ctx.UsePrivateKey(i.key))
	}
	for _, ca := range cas {
		ok(t, ctx.GetCertificateStore().AddCertificate(ca.cert))
	}
	return ctx
}

func write(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	ok(t, os.WriteFile(file, data, 0o600))
	return file
}

// pipe is a pair of sockets.
func pipe(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	client = must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))
	server = must[net.Conn](t)(l.Accept())
	t.Cleanup(func() { server.Close(); client.Close() })
	deadline := time.Now().Add(time.Minute)
	ok(t, server.SetDeadline(deadline))
	ok(t, client.SetDeadline(deadline))
	return server, client
}

// echo serves one connection: it sends back what it reads. The channel gets the error
// of the handshake, and then that of the rest.
func echo(conn net.Conn) <-chan error {
	done := make(chan error, 2)
	go func() {
		defer conn.Close()
		err := conn.(interface{ Handshake() error }).Handshake()
		done <- err
		if err == nil {
			_, err = io.Copy(conn, conn)
			done <- err
		}
	}()
	return done
}

// answered sends a text and reads it back.
func answered(conn net.Conn) error {
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 5))
	return err
}

// serve is an echo server at a port of its own, which is given as "localhost:port".
func serve(t testing.TB, ctx *openssl.Ctx) (addr string) {
	t.Helper()
	l := must[net.Listener](t)(openssl.Listen("tcp", "127.0.0.1:0", ctx))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			echo(conn)
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "localhost:" + port
}
