package sslnet_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// OpenSSL accepts certificates that crypto/x509 cannot parse. ConnectionState leaves
// them out, and never has a CA's certificate in the position of the peer's own.
func TestCertificateThatGoCannotParse(t *testing.T) {
	read := func(name string) []byte { return testkit.PKIBytes(t, name) }
	odd := read("client-serneg.crt") // a negative serial
	block, _ := pem.Decode(odd)
	_, err := x509.ParseCertificate(block.Bytes)
	require.Error(t, err, "crypto/x509 parses it now: use another certificate")
	for name, c := range map[string]struct {
		chain [][]byte
		want  []string
	}{
		"the peer's own":  {[][]byte{odd, read("inter.crt")}, nil},
		"an intermediate": {[][]byte{read("client-inter.crt"), odd, read("inter.crt")}, []string{"client via intermediate", "Oracle Intermediate CA"}},
	} {
		t.Run(name, func(t *testing.T) {
			asks := func(o *sslfilter.Options) { o.ClientCert, o.CACrtMem = true, [][]byte{read("root.crt")} }
			shows := func(o *sslfilter.Options) { o.CrtMem, o.KeyMem = bytes.Join(c.chain, nil), read("client.key") }
			_, server := connect(t, joinPipe, testkit.Server(asks), nameless(shows))
			require.True(t, server.ClientCertValid())
			require.Len(t, server.Peer().Sent, len(c.chain))
			var got []string
			for _, cert := range server.ConnectionState().PeerCertificates {
				got = append(got, cert.Subject.CommonName)
			}
			require.Equal(t, c.want, got)
		})
	}
}
