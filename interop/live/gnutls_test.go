package live_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
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
		quirks: quirks{asksOnCommand: "**REHANDSHAKE**\n", answers: func(asked []byte) []byte { return asked }},
	}
}

func gnutlsPriority(v sslfilter.Version) string {
	return "NORMAL:-VERS-ALL:+VERS-TLS" + strings.TrimPrefix(v.String(), "TLSv")
}

// gnutlsTerms parses "- Description: (TLS1.3)-(ECDHE-X25519)-(RSA-PSS-RSAE-SHA256)-(AES-256-GCM)".
func gnutlsTerms(out string) outcome {
	return outcome{
		version: firstMatch(`Description: \((TLS[^)]*)\)`, out), cipher: firstMatch(`Description: .*\((.*)\)`, out),
		cert: firstMatch(`Subject: (.*)`, out), resumed: yesNo(strings.Contains(out, "*** This is a resumed session")),
	}
}

func gnutlsClient(t testing.TB, c call) outcome {
	args := []string{"--x509cafile", c.ca, "--priority", gnutlsPriority(c.version), "--alpn", "interop", "--port", peers.Port(t, c.addr),
		"--sni-hostname", c.host(), "--verify-hostname", c.host()}
	switch c.auth {
	case "RSA":
		args[3] += ":-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256:-ECDHE-ECDSA"
	case "ECDSA": // RSA is for the signature of the CA
		args[3] += ":-SIGN-ALL:+SIGN-ECDSA-SHA256:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-RSA-SHA256:-ECDHE-RSA:-DHE-RSA:-RSA"
	}
	if c.crt != "" {
		args = append(args, "--x509certfile", c.crt, "--x509keyfile", c.key)
	}
	if c.again {
		args = append(args, "--rehandshake")
	}
	if c.visits > 0 {
		args = append(args, "--inline-commands")
	}
	p := peers.StartForeign(t, nil, peers.Find(t, "gnutls-bin", "gnutls-cli"), append(args, "localhost")...)
	return lineClient(p, c, func(n int) {
		p.Say("^resume^\n")
		p.AwaitOutput("another handshake", func(out string, ended bool) bool {
			return ended || strings.Count(out, "Handshake was completed") > n
		})
	}, gnutlsTerms)
}

func gnutlsServer(t testing.TB, c call) service {
	port := peers.FreePort(t)
	args := []string{"--echo", "--port", port, "--x509certfile", c.crt, "--x509keyfile", c.key, "--priority", gnutlsPriority(c.version),
		"--alpn", "interop"}
	if c.ask {
		args = append(args, "--x509cafile", c.ca, "--require-client-cert", "--verify-client-cert")
	} else {
		args = append(args, "--disable-client-cert")
	}
	if c.crl != "" {
		args = append(args, "--x509crlfile", c.crl)
	}
	if c.staple != "" {
		args = append(args, "--ocsp-response", c.staple, "--ignore-ocsp-response-errors")
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
