// Package examples_test runs the programs of POE::Filter::SSL's man page from
// start to end, against programs of other projects. The tests of clientcert are in
// its folder.
package examples_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
)

// programs is the folder with the binaries of the examples.
var programs string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "examples-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if err := peers.Build(dir, "./tcpclient", "./tcpserver", "./httpsserver", "./imaprelay", "./ftpsclient"); err != nil {
			panic(err)
		}
		programs = dir
		return m.Run()
	}())
}

// example starts one of the programs.
func example(t *testing.T, name string, args ...string) *peers.Program {
	t.Helper()
	return peers.Start(t, filepath.Join(programs, name), args...)
}

// end ends a server as systemd does. The server must end in order: it waits for its
// connections, removes its certificates and reports no error.
func end(t *testing.T, p *peers.Program, ca string) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	require.Zero(t, p.Wait(), p.Output())
	require.NotContains(t, p.Output(), "DATA RACE")
	require.NotContains(t, p.Output(), "panic")
	require.NoFileExists(t, ca)
}

// pki is a folder with certificates, for localhost.
func pki(t *testing.T) (file func(name string) string) {
	t.Helper()
	dir, err := testpki.WriteTemp()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return func(name string) string { return filepath.Join(dir, name) }
}

func TestExamplesAreShort(t *testing.T) {
	files, err := filepath.Glob("*/*.go")
	require.NoError(t, err)
	programs := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || slices.Contains([]string{"acme", "directcipher", "ftpsclient", "grpc"}, filepath.Dir(file)) { // which are not from the man page
			continue
		}
		programs++
		require.Equal(t, "main.go", filepath.Base(file))
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.LessOrEqual(t, bytes.Count(text, []byte("\n")), 151, file)
	}
	require.Equal(t, 5, programs)
}

func TestWrongFlags(t *testing.T) {
	taken := testkit.Listen(t)
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"tcpclient", nil, "-connect: missing port"},
		{"tcpclient", []string{"-connect", ":443"}, "no server name"},
		{"tcpclient", []string{"-connect", "localhost:1", "-cacrt", "no-such.crt"}, "option CACrt (no-such.crt)"},
		{"tcpclient", []string{"-connect", "localhost:1"}, "connection refused"},
		{"tcpserver", []string{"-crt", "no-such.crt"}, "option Crt: is given without Key"},
		{"tcpserver", []string{"-crt", "no-such.crt", "-key", "no-such.key"}, "Crt (no-such.crt): cannot open it"},
		{"tcpserver", []string{"-cipher", "NONSENSE"}, "option Cipher"},
		{"tcpserver", []string{"-listen", taken.Addr().String()}, "address already in use"},
		{"httpsserver", []string{"-key", "no-such.key"}, "option Key: is given without Crt"},
		{"httpsserver", []string{"-listen", taken.Addr().String()}, "address already in use"},
		{"imaprelay", []string{"-imap", "127.0.0.1:0", "-imaps", "nowhere"}, "missing port"},
		{"imaprelay", []string{"-imap", "127.0.0.1:0", "-imaps", "127.0.0.1:0", "-crt", "no-such.crt", "-key", "x"}, "Crt (no-such.crt): cannot open it"},
		{"imaprelay", []string{"-user", "anna"}, "missing port"},
	} {
		t.Run(c.name+" "+strings.Join(c.args, " "), func(t *testing.T) {
			out, status := peers.Run(t, filepath.Join(programs, c.name), c.args...)
			require.NotZero(t, status)
			require.Contains(t, out, c.says)
			require.NotContains(t, out, "listens on")
			if _, ca, found := strings.Cut(out, "throw-away certificates: "); found {
				require.NoFileExists(t, strings.SplitN(ca, "\n", 2)[0])
			}
		})
	}
}
