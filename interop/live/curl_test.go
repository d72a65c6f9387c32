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
		lacks: map[string]string{
			"client " + again:             "way to ask for it",
			"client " + byTicket + " 1.2": "tickets of TLS 1.2", // it sets SSL_OP_NO_TICKET

			"client " + twoKeys + " 1.3": "choice of signature algorithms",
			"client " + mustStaple:       "check of the extension",
		},
	}
}

func curlClient(t testing.TB, c call) outcome {
	dir := t.(interface{ TempDir() string }).TempDir()
	body, answer, url := filepath.Join(dir, "body"), filepath.Join(dir, "answer"), "https://"+c.host()+":"+peers.Port(t, c.addr)+"/"
	require.NoError(t, os.WriteFile(body, c.send, 0o600))
	version := strings.TrimPrefix(c.version.String(), "TLSv")
	args := []string{"-sS", "-v", "--noproxy", "*", "--ipv4", "--http1.1", "--tlsv" + version, "--tls-max", version, "--cacert", c.ca,
		"--data-binary", "@" + body, "--resolve", c.host() + ":" + peers.Port(t, c.addr) + ":127.0.0.1"}
	if c.auth != "" {
		args = append(args, "--ciphers", "ECDHE-"+c.auth+"-AES256-GCM-SHA384")
	}
	if c.status {
		args = append(args, "--cert-status")
	}
	if c.crt != "" {
		args = append(args, "--cert", c.crt, "--key", c.key)
	}
	for range c.times() {
		args = append(args, "-o", answer, url)
	}
	out, status := run(t, peers.FindCurl(t, args...), args...)
	got, _ := os.ReadFile(answer)
	return outcome{
		done:    status == 0 && bytes.Equal(got, c.want),
		version: firstMatch(`SSL connection using (\S+)`, out), cipher: firstMatch(`SSL connection using \S+ / (\S+)`, out), text: out,
	}
}
