package live_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

func curlPeer() *peer {
	return &peer{
		name: "curl", debian: "curl", http: true, clientALPN: "http/1.1",
		version: func(t testing.TB) string {
			out, _ := run(t, peers.Find(t, "curl", "curl"), "--version")
			return firstMatch(`^curl (\S+)`, out) + ", " + firstMatch(` ((?:OpenSSL|GnuTLS|NSS)/\S+)`, out)
		},
		client: curlClient,
	}
}

func curlClient(t testing.TB, c call) outcome {
	dir := t.(interface{ TempDir() string }).TempDir()
	body, answer := filepath.Join(dir, "body"), filepath.Join(dir, "answer")
	require.NoError(t, os.WriteFile(body, c.send, 0o600))
	version := strings.TrimPrefix(c.version.String(), "TLSv")
	args := []string{"-sS", "-v", "--noproxy", "*", "--ipv4", "--http1.1", "--tlsv" + version, "--tls-max", version, "--cacert", c.ca,
		"--data-binary", "@" + body, "-o", answer, "https://localhost:" + peers.Port(t, c.addr) + "/"}
	if c.crt != "" {
		args = append(args, "--cert", c.crt, "--key", c.key)
	}
	out, status := run(t, peers.FindCurl(t, args...), args...)
	got, _ := os.ReadFile(answer)
	return outcome{
		done:    status == 0 && bytes.Equal(got, c.want),
		version: firstMatch(`SSL connection using (\S+)`, out), cipher: firstMatch(`SSL connection using \S+ / (\S+)`, out), text: out,
	}
}
