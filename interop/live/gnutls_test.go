package live_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func gnutlsPeer() *peer {
	return &peer{
		name: "GnuTLS", debian: "gnutls-bin", clientALPN: "interop", serverALPN: "interop",
		version: func(t testing.TB) string {
			out, _ := run(t, peers.Find(t, "gnutls-bin", "gnutls-cli"), "--version")
			return firstMatch(`gnutls-cli (\S+)`, out)
		},
		client: gnutlsClient,
		server: gnutlsServer,
		quirks: quirks{answers: func(asked []byte) []byte { return asked }},
	}
}

func gnutlsPriority(v sslfilter.Version) string {
	return "NORMAL:-VERS-ALL:+VERS-TLS" + strings.TrimPrefix(v.String(), "TLSv")
}

// gnutlsTerms parses "- Description: (TLS1.3)-(ECDHE-X25519)-(RSA-PSS-RSAE-SHA256)-(AES-256-GCM)".
func gnutlsTerms(out string) outcome {
	return outcome{
		version: firstMatch(`Description: \((TLS[^)]*)\)`, out), cipher: firstMatch(`Description: .*\((.*)\)`, out),
		cert: firstMatch(`Subject: (.*)`, out),
	}
}

func gnutlsClient(t testing.TB, c call) outcome {
	args := []string{"--x509cafile", c.ca, "--priority", gnutlsPriority(c.version), "--alpn", "interop", "--port", peers.Port(t, c.addr)}
	if c.crt != "" {
		args = append(args, "--x509certfile", c.crt, "--x509keyfile", c.key)
	}
	p := peers.StartForeign(t, nil, peers.Find(t, "gnutls-bin", "gnutls-cli"), append(args, "localhost")...)
	return lineClient(p, c, gnutlsTerms)
}

func gnutlsServer(t testing.TB, c call) service {
	port := peers.FreePort(t)
	args := []string{"--echo", "--port", port, "--x509certfile", c.crt, "--x509keyfile", c.key, "--priority", gnutlsPriority(c.version),
		"--alpn", "interop"}
	if c.ask {
		args = append(args, "--x509cafile", c.ca, "--x509crlfile", testkit.AbsPKI("crl.pem"), "--require-client-cert", "--verify-client-cert")
	} else {
		args = append(args, "--disable-client-cert")
	}
	p := peers.StartForeign(t, nil, peers.Find(t, "gnutls-bin", "gnutls-serv"), args...)
	p.Await("listening on IPv4")
	return service{addr: "127.0.0.1:" + port, end: func() outcome {
		p.Signal(syscall.SIGTERM)
		p.Wait()
		result := gnutlsTerms(p.Output())
		result.text = p.Output()
		result.done = result.version != ""
		return result
	}}
}
