package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/seed-014b8713/sslfilter"
)

func serverOptions() *sslfilter.Options {
	return &sslfilter.Options{
		Crt: pki + "server.crt", Key: pki + "server.key", CACrt: pki + "root.crt", ClientCert: true, ALPN: []string{"h2"},
	}
}

// TestMain runs the program itself in the child process that TestProgram starts.
func TestMain(m *testing.M) {
	if os.Getenv("EXAMPLE") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestProgram(t *testing.T) {
	program := exec.Command(os.Args[0])
	program.Env = append(os.Environ(), "EXAMPLE=1")
	out, err := program.CombinedOutput()
	want := "the client is /C=DE/O=Oracle Test/CN=client valid\nthe server is SERVING\n"
	if err != nil || string(out) != want {
		t.Fatalf("%v, %q", err, out)
	}
}

// A client without a valid certificate gets an answer that rejects the call.
func TestRefusals(t *testing.T) {
	server, addr, err := serve(serverOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	for _, cert := range []string{"", "client-expired"} {
		o := &sslfilter.Options{Client: true, CACrt: pki + "root.crt", ALPN: []string{"h2"}}
		if cert != "" {
			o.Crt, o.Key = pki+cert+".crt", pki+cert+".key"
		}
		creds, err := newCredentials(o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ask(addr, creds); status.Code(err) != codes.Unauthenticated {
			t.Errorf("certificate %q: %v", cert, err)
		}
	}
	for name, o := range map[string]*sslfilter.Options{
		"another CA": {Client: true, CACrt: pki + "other.crt", ALPN: []string{"h2"}},
		"wrong name": {Client: true, CACrt: pki + "root.crt", ServerName: "elsewhere.test", ALPN: []string{"h2"}},
	} {
		creds, err := newCredentials(o)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err = ask(addr, creds); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each end works with a peer that uses grpc's own credentials over crypto/tls.
func TestCryptoTLS(t *testing.T) {
	server, addr, err := serve(serverOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer server.GracefulStop()
	pem, err := os.ReadFile(pki + "root.crt")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	cert, err := tls.LoadX509KeyPair(pki+"client.crt", pki+"client.key")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ask(addr, credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}))
	if err != nil || answer != "SERVING" {
		t.Fatal(answer, err)
	}
}
