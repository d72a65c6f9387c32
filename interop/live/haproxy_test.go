package live_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const haproxyPackage = "haproxy"

// haproxyPeer accepts TLS for a plain server (server), and adds TLS to a plain client
// (client).
func haproxyPeer() *peer {
	return &peer{
		name: "HAProxy", debian: haproxyPackage, clientALPN: "interop", serverALPN: "interop",
		version: func(t testing.TB) string {
			out, _ := run(t, peers.FindDaemon(t, haproxyPackage, "haproxy"), "-v")
			return firstMatch(`version (\d[\d.]*)`, out)
		},
		client: haproxyClient,
		lacks: map[string]string{
			"client " + again: "way to ask for it",
			"server " + again: "way to ask for it",

			"client " + twoKeys + " 1.3": "choice of signature algorithms",
			"client " + stapling:         "check of a stapled response", "client " + mustStaple: "check of the extension",
		},
		server: haproxyServer,
	}
}

// inOneFile writes the certificate and the key to one file, as HAProxy needs them. The
// OCSP response and the issuer are files with the same name and another end.
func inOneFile(t testing.TB, c call) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "both.pem")
	require.NoError(t, os.WriteFile(file, slices.Concat(testkit.Contents(t, c.crt), testkit.Contents(t, c.key)), 0o600))
	if c.staple != "" {
		require.NoError(t, os.WriteFile(file+".ocsp", testkit.Contents(t, c.staple), 0o600))
		require.NoError(t, os.WriteFile(file+".issuer", testkit.Contents(t, c.chain), 0o600))
	}
	return file
}

func startHAProxy(t testing.TB, port, bind, terms, server string) *peers.Program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf(`global
	log stdout format raw local0
	nbthread 1 # each thread has sessions of its own
defaults
	mode tcp
	log global
	timeout connect 30s
	timeout client 30s
	timeout server 30s
	retries 0
frontend f
	bind 127.0.0.1:%s %s
	log-format "terms %s"
	default_backend b
backend b
	server s %s
`, port, bind, terms, server)), 0o600))
	p := peers.StartForeign(t, nil, peers.FindDaemon(t, haproxyPackage, "haproxy"), "-db", "-f", file)
	p.AwaitPort(port)
	return p
}

// awaitTerms waits for the log line of each connection.
func awaitTerms(p *peers.Program, c call) {
	p.AwaitOutput("the log lines", func(out string, ended bool) bool {
		return ended || strings.Count(out, "terms TLS") == c.times() && strings.HasSuffix(out, "\n")
	})
}

// haproxyTerms parses the log line of a connection. Its last word is 1 if the connection
// has resumed a session.
func haproxyTerms(out string) outcome {
	return outcome{
		version: firstMatch(`terms (TLS\S+)`, out), cipher: firstMatch(`terms TLS\S+ (\S+)`, out),
		cert: firstMatch(`terms TLS\S+ \S+ (.*)`, out), text: out,
		resumed: yesNo(regexp.MustCompile(`(?m)^terms .* 1$`).MatchString(out)),
	}
}

func haproxyServer(t testing.TB, c call) service {
	backend, all := plainServer(t, c)
	port := peers.FreePort(t)
	bind := fmt.Sprintf("ssl crt %s ssl-min-ver %s ssl-max-ver %[2]s alpn interop", inOneFile(t, c), c.version)
	if c.ask {
		bind += fmt.Sprintf(" verify required ca-file %s", c.ca)
	}
	if c.crl != "" {
		bind += " crl-file " + c.crl
	}
	p := startHAProxy(t, port, bind, "%sslv %sslc %[ssl_c_s_dn] %[ssl_fc_is_resumed]", backend)
	return service{addr: "127.0.0.1:" + port, end: func() outcome {
		done := all()
		if done {
			awaitTerms(p, c)
		}
		stop(p)
		result := haproxyTerms(p.Output())
		result.done = done
		return result
	}}
}

func haproxyClient(t testing.TB, c call) outcome {
	port := peers.FreePort(t)
	server := fmt.Sprintf("%s ssl verify required ca-file %s verifyhost %s sni str(%[3]s) ssl-min-ver %s ssl-max-ver %[4]s alpn interop",
		c.addr, c.ca, c.host(), c.version)
	if c.visits == 0 {
		server += " no-ssl-reuse"
	}
	if c.auth != "" {
		server += " ciphers ECDHE-" + c.auth + "-AES256-GCM-SHA384"
	}
	if c.crt != "" {
		server += " crt " + inOneFile(t, c)
	}
	p := startHAProxy(t, port, "", "%[ssl_bc_protocol] %[ssl_bc_cipher] %[ssl_bc_is_resumed]", server)
	done := plainClient(t, port, c)
	if done {
		awaitTerms(p, c)
	}
	stop(p)
	result := haproxyTerms(p.Output())
	result.done = done
	return result
}
