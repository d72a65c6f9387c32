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
	}
}

func stunnelServer(t testing.TB, c call) service {
	backend, all := plainServer(t, c.want, c.send)
	port := peers.FreePort(t)
	more := ""
	if c.ask {
		more = fmt.Sprintf("CAfile = %s\nCRLfile = %s\nverifyChain = yes\n", c.ca, testkit.AbsPKI("crl.pem"))
	}
	p := startStunnel(t, port, backend, c, more)
	return service{addr: "127.0.0.1:" + port, end: func() outcome { return stunnelTerms(p, all()) }}
}

func stunnelClient(t testing.TB, c call) outcome {
	port := peers.FreePort(t)
	p := startStunnel(t, port, c.addr, c, fmt.Sprintf("client = yes\nCAfile = %s\nverifyChain = yes\ncheckHost = localhost\nsni = localhost\n", c.ca))
	return stunnelTerms(p, plainClient(t, "127.0.0.1:"+port, c.send, c.want))
}
