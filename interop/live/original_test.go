package live_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const originalPackage = "libpoe-filter-ssl-perl"

// endpoint is the Perl script that runs the original.
var endpoint = filepath.Join("..", "testdata", "endpoint.pl")

// originalPeer is POE::Filter::SSL itself. TestPerl in interop compares everything that
// it reports with our side. Here it runs the same scenes as the other peers.
func originalPeer() *peer {
	return &peer{
		name: "POE::Filter::SSL", debian: originalPackage,
		version: func(t testing.TB) string {
			out, status := run(t, peers.FindFor(t, endpoint, originalPackage, "perl"),
				"-MPOE", "-MPOE::Filter::SSL", "-e", `POE::Kernel->run; print $POE::Filter::SSL::VERSION`)
			require.Zero(t, status, out)
			return out
		},
		client: originalClient,
		server: originalServer,
		quirks: quirks{
			plain: true, waitsForEnd: true, ignoresNotify: true, clientCuts: true, serverCuts: true, noSNI: true, acceptsInvalid: true, noCRL: true,
			fixed: originalSays(),
		},
	}
}

// originalPieces are the data that it sends, in the form of endpoint.pl: n times a
// byte. They avoid the known cases in which the original loses data: no record is "0",
// and no put makes 32769 bytes.
var originalPieces = [][2]int{{1, 'o'}, {16384, 'r'}, {16385, 'i'}, {16000, 'g'}, {16383, 'i'}, {12345, 'n'}, {15000, 'a'}, {10000, 'l'}}

func originalSays() (b []byte) {
	for _, p := range originalPieces {
		b = append(b, bytes.Repeat([]byte{byte(p[1])}, p[0])...)
	}
	return b
}

// startOriginal starts endpoint.pl. The file describes its arguments.
func startOriginal(t testing.TB, c call, options map[string]any, args ...string) *peers.Program {
	t.Helper()
	if c.version == sslfilter.VersionTLS12 {
		options["tls1_2"] = 1
	}
	if c.crt != "" {
		options["crt"], options["key"] = c.crt, c.key
	}
	options["cacrt"] = c.ca
	spec, err := json.Marshal(map[string]any{"new": options, "say": originalPieces, "crl": testkit.AbsPKI("crl.pem"), "timeout": int(peers.Patience.Seconds())})
	require.NoError(t, err)
	args = append(append([]string{endpoint}, args...), string(spec))
	return peers.StartForeign(t, nil, peers.Find(t, originalPackage, "perl"), args...)
}

func originalTold(p *peers.Program, c call) outcome {
	p.CloseInput()
	status := p.Wait()
	out := p.Output()
	digest := sha256.Sum256(c.want)
	return outcome{
		done:    status == 0 && firstMatch(`"sha256":"(\w+)"`, out) == hex.EncodeToString(digest[:]),
		version: firstMatch(`"version":"(.*?)"`, out), cipher: firstMatch(`"cipher":"(.*?)"`, out),
		cert: firstMatch(`"ids":\[(.*?)\]`, out), text: out,
	}
}

func originalClient(t testing.TB, c call) outcome {
	return originalTold(startOriginal(t, c, map[string]any{"client": 1}, "--connect", peers.Port(t, c.addr)), c)
}

func originalServer(t testing.TB, c call) service {
	options := map[string]any{}
	if c.ask {
		options["clientcert"], options["blockbadclientcert"] = 1, 1
	}
	p := startOriginal(t, c, options, "--listen")
	return service{addr: "127.0.0.1:" + firstMatch(`(\d+)`, p.Await(`"port":`)), end: func() outcome { return originalTold(p, c) }}
}
