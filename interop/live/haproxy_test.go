package live_test

import (
	"fmt"
	"os"
	"path/filepath"
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
		server: haproxyServer,
	}
}

// inOneFile writes the certificate and the key to one file, as HAProxy needs them.
func inOneFile(t testing.TB, crt, key string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "both.pem")
	var both []byte
	for _, name := range []string{crt, key} {
		part, err := os.ReadFile(name)
		require.NoError(t, err)
		both = append(both, part...)
	}
	require.NoError(t, os.WriteFile(file, both, 0o600))
	return file
}

func startHAProxy(t testing.TB, port, bind, terms, server string) *peers.Program {
	t.Helper()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf(`global
	log stdout format raw local0
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

// haproxyTerms parses the log line of the connection.
func haproxyTerms(out string) outcome {
	return outcome{
		version: firstMatch(`terms (TLS\S+)`, out), cipher: firstMatch(`terms TLS\S+ (\S+)`, out),
		cert: firstMatch(`terms TLS\S+ \S+ (.*)`, out), text: out,
	}
}

func haproxyServer(t testing.TB, c call) service {
	backend, all := plainServer(t, c.want, c.send)
	port := peers.FreePort(t)
	bind := fmt.Sprintf("ssl crt %s ssl-min-ver %s ssl-max-ver %[2]s alpn interop", inOneFile(t, c.crt, c.key), c.version)
	if c.ask {
		bind += fmt.Sprintf(" verify required ca-file %s crl-file %s", c.ca, testkit.AbsPKI("crl.pem"))
	}
	p := startHAProxy(t, port, bind, "%sslv %sslc %[ssl_c_s_dn]", backend)
	return service{addr: "127.0.0.1:" + port, end: func() outcome {
		done := all()
		if done {
			p.AwaitLine("terms TLS")
		}
		stop(p)
		result := haproxyTerms(p.Output())
		result.done = done
		return result
	}}
}

func haproxyClient(t testing.TB, c call) outcome {
	port := peers.FreePort(t)
	server := fmt.Sprintf("%s ssl verify required ca-file %s verifyhost localhost sni str(localhost) ssl-min-ver %s ssl-max-ver %[3]s alpn interop no-ssl-reuse",
		c.addr, c.ca, c.version)
	if c.crt != "" {
		server += " crt " + inOneFile(t, c.crt, c.key)
	}
	p := startHAProxy(t, port, "", "%[ssl_bc_protocol] %[ssl_bc_cipher]", server)
	done := plainClient(t, "127.0.0.1:"+port, c.send, c.want)
	if done {
		p.AwaitLine("terms TLS")
	}
	stop(p)
	result := haproxyTerms(p.Output())
	result.done = done
	return result
}
