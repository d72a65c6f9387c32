package testpki_test

import (
	"crypto/rand"
	"crypto/rsa"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
)

const level2 = "DEFAULT@SECLEVEL=2"

// visit lets the client certificate in dir/name visit the server in dir.
func visit(t *testing.T, dir, name, serverName string) (*sslfilter.Peer, error) {
	t.Helper()
	file := func(name string) string { return filepath.Join(dir, name) }
	server, err := sslfilter.New(sslfilter.Options{
		Crt: file("server.crt"), Key: file("server.key"), CACrt: file("ca.crt"), CACRL: file("ca.crl"),
		ClientCert: true, Cipher: level2,
	})
	require.NoError(t, err)
	client, err := sslfilter.New(sslfilter.Options{
		Client: true, Crt: file(name + ".crt"), Key: file(name + ".key"), CACrt: file("ca.crt"),
		ServerName: serverName, Cipher: level2,
	})
	require.NoError(t, err)
	p := testkit.Join(server, client)
	defer p.Close()
	err = p.Handshake()
	return server.Peer(), err
}

func TestOpenSSLAcceptsTheSet(t *testing.T) {
	pki, err := testpki.New("sslfilter.test")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, pki.Write(dir))

	for _, serverName := range []string{"localhost", "127.0.0.1", "::1", "sslfilter.test"} {
		peer, err := visit(t, dir, "client-valid", serverName)
		require.NoError(t, err, serverName)
		require.True(t, peer.Valid, serverName)
		require.Equal(t, sslfilter.CRLNotListed, peer.CRL.Status)
	}
	_, err = visit(t, dir, "client-valid", "elsewhere.test")
	require.ErrorContains(t, err, "ostname mismatch")

	peer, err := visit(t, dir, "client-revoked", "localhost")
	require.NoError(t, err)
	require.False(t, peer.Valid)
	require.Empty(t, peer.Errors)
	require.Equal(t, sslfilter.CRLListed, peer.CRL.Status)
	require.Equal(t, pki.Revoked.SerialNumber.Bytes(), peer.CRL.Serial)

	for name, code := range map[string]sslfilter.VerifyCode{
		"client-expired": sslfilter.VerifyCertHasExpired,
		"client-unknown": sslfilter.VerifyUnableToGetIssuerLoc,
	} {
		peer, err := visit(t, dir, name, "localhost")
		require.NoError(t, err, name)
		require.False(t, peer.Valid, name)
		require.Equal(t, code, peer.Errors[0].Code, name)
		require.Equal(t, sslfilter.CRLNotListed, peer.CRL.Status, name)
	}
}

func TestWriteKeepsKeysPrivateAndFilesWhole(t *testing.T) {
	pki, err := testpki.New()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, pki.Write(dir))

	keys, err := filepath.Glob(filepath.Join(dir, "*.key"))
	require.NoError(t, err)
	require.Len(t, keys, 6)
	for _, key := range keys {
		info, err := os.Stat(key)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode(), key)
	}
	require.ErrorIs(t, pki.Write(dir), fs.ErrExist)
}

func TestIssueTakesKeyAndSerial(t *testing.T) {
	ca, err := testpki.NewCA("CA")
	require.NoError(t, err)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	cert, err := ca.Issue(testpki.Spec{Name: "RSA", Key: key, Serial: big.NewInt(255)})
	require.NoError(t, err)
	keyPEM, err := cert.KeyPEM()
	require.NoError(t, err)
	require.Equal(t, int64(255), cert.SerialNumber.Int64())

	f, err := sslfilter.New(sslfilter.Options{
		CrtMem: cert.CertPEM(), KeyMem: keyPEM, CACrtMem: [][]byte{ca.CertPEM()}, Cipher: level2,
	})
	require.NoError(t, err)
	require.NoError(t, f.Close())

	_, err = ca.CRL()
	require.Error(t, err)
}
