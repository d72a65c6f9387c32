package sslfilter_test

import (
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// byRecord delivers one TLS record at a time.
func byRecord(wire []byte) (cut [][]byte) {
	for len(wire) >= 5 {
		n := min(len(wire), 5+int(wire[3])<<8+int(wire[4]))
		cut, wire = append(cut, wire[:n]), wire[n:]
	}
	return append(cut, wire)
}

// A certificate whose signature is wrong leaves errors in OpenSSL's queue even
// where the verdict is only recorded. They must not end a handshake that waits
// for the next record: the outcome would hang on how the bytes are cut.
func TestBadSignatureIsAVerdict(t *testing.T) {
	der := derOf(t, "client.crt")
	der[len(der)-1] ^= 1
	crt := tempFile(t, "bad.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	for _, c := range []struct {
		name   string
		server func(*sslfilter.Options)
		valid  bool
	}{
		{"recorded", nil, false},
		{"ignored", ignoring(7), true}, // X509_V_ERR_CERT_SIGNATURE_FAILURE
		{"ignored by a server that requires", func(o *sslfilter.Options) {
			o.RequireValidClientCert, o.IgnoreVerifyErrors = true, []sslfilter.VerifyCode{7}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			protocols(t, func(t *testing.T, highest sslfilter.Version) {
				for name, cut := range map[string]enginetest.Chunker{"whole": enginetest.Whole, "by record": byRecord, "byte at a time": enginetest.Size(1)} {
					p := pair(t, asking(c.server), with(showing("client.crt", ""), func(o *sslfilter.Options) { o.Crt, o.MaxVersion = crt, highest }))
					p.Chunk = cut
					require.NoError(t, p.Handshake(), name)
					require.Equal(t, c.valid, p.Server.ClientCertValid(), name)
					require.Equal(t, sslfilter.VerifyCode(7), p.Server.Peer().Errors[0].Code, name)
				}
			})
		})
	}
}
