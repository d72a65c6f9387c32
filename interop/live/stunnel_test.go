package live_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

const stunnelPackage = "stunnel4"

// stunnelPeer accepts TLS for a plain server (server), and adds TLS to a plain client
// (client).
func stunnelPeer() *peer {
	return &peer{
		name: "stunnel", debian: stunnelPackage,
		version: func(t testing.TB) string {
			out, _ := run(t, peers.Find(t, stunnelPackage, "stunnel4"), "-version")
			return firstMatch(`stunnel (\S+)`, out)
		},
		client: stunnelClient,
		lacks: map[string]string{
			"client " + again: "way to ask for it",
			"server " + again: "way to ask for it",

			"client " + twoKeys + " 1.3": "choice of signature algorithms",
			"client " + stapling:         "check of a stapled response", "client " + mustStaple: "check of the extension", "client " + alpn: "ALPN",
			"server " + stapling: "stapling", "server " + mustStaple: "stapling", "server " + alpn: "ALPN",
		},
		server: stunnelServer,
	}
}

func startStunnel(t testing.TB, port, connect string, c call, more string) *peers.Program {
	t.Helper()
	config := fmt.Sprintf("foreground = yes\ndebug = info\npid =\n[s]\naccept = 127.0.0.1:%s\nconnect = %s\nsslVersion = %s\n%s\n",
		port, connect, c.version, more)
	if c.crt != "" {
		config += fmt.Sprintf("cert = %s\nkey = %s\n", c.crt, c.key)
	}
	file := filepath.Join(t.TempDir(), "stunnel.conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	p := peers.StartForeign(t, nil, peers.Find(t, stunnelPackage, "stunnel4"), file)
	p.Await("Configuration successful")
	return p
}

// stunnelTerms parses "TLSv1.3 ciphersuite: TLS_AES_256_GCM_SHA384 (256-bit encryption)".
func stunnelTerms(p *peers.Program, done bool) outcome {
	stop(p)
	out := p.Output()
	return outcome{
		done: done, version: firstMatch(`(TLS\S+) ciphersuite`, out), cipher: firstMatch(`ciphersuite: (\S+)`, out),
		cert: firstMatch(`Certificate accepted at depth=0: (.*)`, out), text: out,
		resumed: yesNo(strings.Contains(out, "previous session reused")),
	}
}

func stunnelServer(t testing.TB, c call) service {
	backend, all := plainServer(t, c)
	port := peers.FreePort(t)
	more := ""
	if c.ask {
		more = fmt.Sprintf("CAfile = %s\nverifyChain = yes\n", c.ca)
	}
	if c.crl != "" {
		more += "CRLfile = " + c.crl + "\n"
	}
	p := startStunnel(t, port, backend, c, more)
	return service{addr: "127.0.0.1:" + port, end: func() outcome { return stunnelTerms(p, all()) }}
}

func stunnelClient(t testing.TB, c call) outcome {
	port := peers.FreePort(t)
	more := fmt.Sprintf("client = yes\nCAfile = %s\nverifyChain = yes\ncheckHost = %s\nsni = %[2]s\n", c.ca, c.host())
	if c.auth != "" {
		more += "ciphers = ECDHE-" + c.auth + "-AES256-GCM-SHA384\n"
	}
	p := startStunnel(t, port, c.addr, c, more)
	return stunnelTerms(p, plainClient(t, port, c))
}
