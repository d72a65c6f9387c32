package sslfilter_test

import (
	"math/big"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func TestCRLClientRefusesListedServer(t *testing.T) {
	lists := func(n ...int64) string { return testkit.TempFile(t, "crl.pem", testkit.CRL(t, n...)) }
	for _, c := range []struct {
		name string
		file string
		code sslfilter.VerifyCode
	}{
		{"another listed", lists(0x1002), sslfilter.VerifyOK},
		{"server listed", lists(0x1001), sslfilter.VerifyCertRevoked},
		{"CA listed", lists(0x0A), sslfilter.VerifyCertRevoked},
		{"no entries", lists(), sslfilter.VerifyUnableToGetCRL},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := testkit.Client(crl(c.file))
			if c.code == sslfilter.VerifyOK {
				require.True(t, testkit.Connect(t, testkit.Server(), client).Client.ClientCertValid())
				return
			}
			p := testkit.NewPair(t, testkit.Server(), client)
			require.Error(t, p.Handshake())
			alert := alertCertificateRevoked
			if c.code == sslfilter.VerifyUnableToGetCRL {
				alert = alertUnknownCA
			}
			requireServerRefused(t, p, c.code, alert)

			insecure := testkit.Connect(t, testkit.Server(), testkit.With(client, func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
			require.False(t, insecure.Client.ClientCertValid())
		})
	}
	require.Equal(t, big.NewInt(0x1001).Bytes(), testkit.Connect(t, testkit.Server(), testkit.Client()).Client.Peer().Chain[0].Serial)
}

func TestCRLGoneWithRequireValidClientCert(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"vanished": os.Remove,
		"emptied":  func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"garbage":  func(file string) error { return os.WriteFile(file, []byte("no CRL"), 0o600) },
		"without entries": func(file string) error {
			return os.WriteFile(file, testkit.PKIBytes(t, "crl-empty.pem"), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				file := testkit.TempFile(t, "crl.pem", testkit.PKIBytes(t, "crl.pem"))
				server := testkit.Ctx(t, testkit.Requiring(crl(file)))
				client := testkit.Ctx(t, testkit.Showing("client.crt", "", testkit.UpTo(highest)))
				before := testkit.PairOf(t, server, client)
				require.NoError(t, before.Handshake())
				require.True(t, before.Server.ClientCertValid())

				require.NoError(t, damage(file))
				p := testkit.PairOf(t, server, client)
				require.Error(t, p.Handshake())
				requireRefused(t, p)
				require.Equal(t, sslfilter.VerifyUnableToGetCRL, testkit.As[*sslfilter.VerifyError](t, p.Server.Filter.Err()).Code)
				require.Equal(t, alertUnknownCA, testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()))
				require.False(t, before.Server.ClientCertValid(), "open connections use the current file")
				require.False(t, before.Server.Peer().Valid)

				require.NoError(t, os.WriteFile(file, testkit.PKIBytes(t, "crl.pem"), 0o600))
				again := testkit.PairOf(t, server, client)
				require.NoError(t, again.Handshake())
				require.True(t, again.Server.ClientCertValid())
				require.True(t, before.Server.ClientCertValid())
			})
		})
	}
}
