package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// With -keylog, each example appends the secrets of its connections to the file and warns.
// The environment variable is read only if the flag names it.
func TestKeyLogFlag(t *testing.T) {
	file := pki(t)
	keys := filepath.Join(t.TempDir(), "keys")
	t.Setenv("SSLKEYLOGFILE", keys)
	visit := func(client []string, server ...string) (said string) {
		s := example(t, "tcpserver", append([]string{"-listen", "127.0.0.1:0", "-crt", file("server.crt"), "-key", file("server.key")}, server...)...)
		addr := "localhost:" + peers.Port(t, s.Await("tcpserver listens on "))
		out, status := peers.Run(t, filepath.Join(programs, "tcpclient"), append([]string{"-connect", addr, "-cacrt", file("ca.crt")}, client...)...)
		require.Zero(t, status, out)
		require.Contains(t, out, "Smile from the server!")
		end(t, s, "")
		return out + s.Output()
	}
	require.NotContains(t, visit(nil), "warning")
	require.NoFileExists(t, keys)

	byName := filepath.Join(t.TempDir(), "by-name")
	for _, c := range []struct {
		client, server []string
		file           string
	}{
		{nil, []string{"-keylog", byName}, byName},
		{[]string{"-keylog", "env:SSLKEYLOGFILE"}, nil, keys},
	} {
		require.Contains(t, visit(c.client, c.server...), "warning: anyone who can read "+c.file+" can decrypt the connections")
		text, err := os.ReadFile(c.file)
		require.NoError(t, err)
		require.Regexp(t, regexp.MustCompile(`(?m)^(CLIENT_RANDOM|SERVER_TRAFFIC_SECRET_0) [0-9a-f]{64} [0-9a-f]{64,96}$`), string(text))
		info, err := os.Stat(c.file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}

	require.NoError(t, os.Chmod(keys, 0o644))
	for _, program := range []string{"tcpclient", "tcpserver", "httpsserver", "imaprelay"} {
		out, status := peers.Run(t, filepath.Join(programs, program), "-keylog", "env:SSLKEYLOGFILE")
		require.NotZero(t, status, program)
		require.Contains(t, out, "other users have access to it (mode 0644)", program)
		out, status = peers.Run(t, filepath.Join(programs, program), "-keylog", "env:NOT_SET_ANYWHERE")
		require.NotZero(t, status, program)
		require.Contains(t, out, "the environment variable NOT_SET_ANYWHERE is not set", program)
	}
}
