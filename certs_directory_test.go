package sslfilter_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// CACrt may be a directory, as in other programs with OpenSSL. Plain files and the
// links of "openssl rehash" are read; a file without a certificate is skipped.
func TestCertsCACrtDirectory(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, data, 0o600))
		return file
	}
	server := func(change func(*sslfilter.Options)) sslfilter.Options {
		return testkit.Asking(func(o *sslfilter.Options) {
			o.CACrt = dir
			if change != nil {
				change(o)
			}
		})
	}
	valid := func(crt string) bool {
		return testkit.Connect(t, server(nil), testkit.Showing(crt, "")).Server.ClientCertValid()
	}

	err := refuse(t, server(nil), "CACrt", dir)
	require.ErrorContains(t, err, "none of its files (*.pem, *.crt, *.cer and hashed names such as 5ed36f99.0) holds a PEM certificate")
	key := put("server.pem", testkit.PKIBytes(t, "server.key"))
	put("5ed36f99.r0", testkit.PKIBytes(t, "crl.pem"))
	put("README", testkit.PKIBytes(t, "root.crt"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "more.pem"), 0o700))
	refuse(t, server(nil), "CACrt", dir)

	put("other.crt", testkit.PKIBytes(t, "other.crt"))
	require.False(t, valid("client.crt"), "README is not a certificate file, so it is not read")
	require.True(t, valid("client-unknown.crt"))
	elsewhere := testkit.TempFile(t, "root", testkit.PKIBytes(t, "root.crt"))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, "5ed36f99.0")))
	require.NoError(t, os.Symlink("5ed36f99.0", filepath.Join(dir, "root.pem")))
	require.True(t, valid("client.crt"), "a hashed link")
	require.True(t, valid("client-unknown.crt"), "a plain file")
	require.NoError(t, testkit.Connect(t, testkit.Server(), testkit.Client(func(o *sslfilter.Options) { o.CACrt = dir })).Client.Filter.Err())
	log := new(testkit.Log)
	testkit.Ctx(t, server(func(o *sslfilter.Options) { o.Debug = log.Logger() }))
	require.Equal(t, []string{key}, log.Values("sslfilter: CACrt: a file without a certificate is passed over", "file"))

	for name, data := range map[string][]byte{"broken.pem": testkit.PKIBytes(t, "root.crt")[:600], "der.crt": testkit.DER(t, testkit.PKIBytes(t, "root.crt"))} {
		file := put(name, data)
		refuse(t, server(nil), "CACrt", file)
		require.NoError(t, os.Remove(file))
	}
	gone := filepath.Join(dir, "gone.pem")
	require.NoError(t, os.Symlink("nowhere", gone))
	require.ErrorIs(t, refuse(t, server(nil), "CACrt", gone), fs.ErrNotExist)
	require.NoError(t, os.Remove(gone))

	for i := range sslfilter.MaxCAFiles {
		put(strconv.Itoa(i)+".pem", nil)
	}
	require.ErrorContains(t, refuse(t, server(nil), "CACrt", dir), "more than 4096 certificate files")
}

// Pinning works as docs/options.md describes: a self-signed certificate is enough as
// CACrt, a certificate that a CA has issued is not, and the certificate that the
// server sent can be compared.
func TestCertsPinning(t *testing.T) {
	pinned := func(file string) sslfilter.Options {
		return testkit.Client(func(o *sslfilter.Options) { o.CACrt = testkit.PKI(file) })
	}
	testkit.Connect(t, testkit.ServerOf("server-selfsigned"), pinned("server-selfsigned.crt"))
	p := testkit.NewPair(t, testkit.Server(), pinned("server-selfsigned.crt"))
	require.Error(t, p.Handshake())
	p = testkit.NewPair(t, testkit.Server(), pinned("server.crt"))
	require.Error(t, p.Handshake())
	code := testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code
	require.Contains(t, []sslfilter.VerifyCode{sslfilter.VerifyUnableToGetIssuer, sslfilter.VerifyUnableToGetIssuerLoc}, code)
	p = testkit.Connect(t, testkit.Server(), sslfilter.Options{Client: true, InsecureSkipVerify: true})
	require.Equal(t, testkit.Cert(t, "server.crt").Raw, p.Client.Peer().Sent[0])
}
