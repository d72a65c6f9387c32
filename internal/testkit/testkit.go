// Package testkit has the test PKI, peers and helpers that the tests of all
// packages share. Each thing has one name:
//
//   - PKI, PKIBytes, Cert, Key: the committed test PKI of testdata/pki
//   - Mint, CRL: certificates and revocation lists that it does not have
//   - Server, Asking, Requiring, Client, Showing: options of the usual peers
//   - Ctx, Filter: contexts and connections that end with the test
//   - Connect, NewPair, Join: two Filters and the network between them
//   - EachVersion, Cuts, EachPair: a test for each TLS version and each division of its
//     input
//   - GoClient, GoServer, TalkToGo: crypto/tls as the other side
//   - Listen, Serve, Dial, SocketPair, Exchange, Eventually, Within: sockets and waiting
//   - Log: a log that a test can read
//   - ResidentKiB, FIPSConfig: the process, and OpenSSL's configuration
//
// A test of any package begins with two lines:
//
//	p := testkit.Connect(t, testkit.Server(), testkit.Client())
//	require.NoError(t, p.Client.Send([]byte("hello")))
//
// The functions that take a testing.TB fail the test if they cannot do their
// work. Of the public packages testkit imports only the root package, so that the
// tests of all others can use it.
package testkit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// Ctx makes a context that is closed at the end of the test.
func Ctx(t testing.TB, o sslfilter.Options) *sslfilter.Ctx {
	t.Helper()
	ctx, err := sslfilter.NewCtx(o)
	require.NoError(t, err)
	t.Cleanup(func() { ctx.Close() })
	return ctx
}

// Filter makes a connection with a context of its own. Both are closed at the
// end of the test.
func Filter(t testing.TB, o sslfilter.Options) *sslfilter.Filter {
	t.Helper()
	return FilterOf(t, Ctx(t, o))
}

// FilterOf makes a connection of ctx that is closed at the end of the test.
func FilterOf(t testing.TB, ctx *sslfilter.Ctx) *sslfilter.Filter {
	t.Helper()
	f, err := ctx.NewFilter()
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// As returns the T in err, as errors.As finds it. The test fails without one.
func As[T error](t testing.TB, err error) T {
	t.Helper()
	var target T
	require.True(t, errors.As(err, &target), "%v (%[1]T) does not contain a %T", err, target)
	return target
}

// TempFile writes data to a file of this name in a new folder, which is removed
// at the end of the test.
func TempFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, data, 0o600))
	return file
}

// Contents returns the contents of a file.
func Contents(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return data
}
