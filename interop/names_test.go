package interop

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Subject and issuer are those of "openssl x509 -nameopt RFC2253", for every certificate of
// the test PKI, and are printable ASCII.
func TestNamesAreThoseOfOpenSSL(t *testing.T) {
	openssl := peers.Find(t, "openssl", "openssl")
	files, err := filepath.Glob(testkit.PKI("client-*.crt"))
	require.NoError(t, err)
	compared := 0
	for _, file := range files {
		out, err := exec.Command(openssl, "x509", "-in", file, "-noout", "-subject", "-issuer", "-nameopt", "RFC2253").Output()
		if err != nil {
			continue // broken on purpose
		}
		subject, issuer, _ := strings.Cut(strings.TrimSuffix(string(out), "\n"), "\n")
		c := sslfilter.Certificate{DER: testkit.DER(t, testkit.Contents(t, file))}
		n, err := c.Names()
		require.NoError(t, err)
		require.Equal(t, strings.TrimPrefix(subject, "subject="), n.Subject, file)
		require.Equal(t, strings.TrimPrefix(issuer, "issuer="), n.Issuer, file)
		require.False(t, strings.ContainsFunc(n.Subject+n.Issuer, func(c rune) bool { return c < ' ' || c > '~' }), file)
		compared++
	}
	require.Greater(t, compared, 30)
}
