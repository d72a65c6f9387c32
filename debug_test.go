package sslfilter_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// encodings returns the forms in which bytes may appear in a log.
func encodings(b []byte) map[string]string {
	return map[string]string{
		"raw":       string(b),
		"quoted":    strings.Trim(strconv.Quote(string(b)), `"`),
		"hex":       hex.EncodeToString(b),
		"HEX":       strings.ToUpper(hex.EncodeToString(b)),
		"hexdump":   sslfilter.Hexdump(b),
		"decimal":   strings.Trim(fmt.Sprint(b), "[]"),
		"base64":    strings.TrimRight(base64.StdEncoding.EncodeToString(b[:len(b)/3*3]), "="),
		"base64url": strings.TrimRight(base64.URLEncoding.EncodeToString(b[:len(b)/3*3]), "="),
	}
}

// leak returns the name of the form in which text contains secret, or "".
func leak(text string, secret []byte) string {
	for name, form := range encodings(secret) {
		if strings.Contains(text, form) {
			return name
		}
	}
	return ""
}

// Debug gets no plaintext, key or passphrase, on success and on failure.
func TestDebugHasNoSecrets(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		log := new(testkit.Log)
		const up, down = "the password is hunter2 \x01\xff", "your balance is 1234.56 EUR"
		encrypted := testkit.PKIBytes(t, "server-enc.key")
		server := testkit.Asking(func(o *sslfilter.Options) {
			o.Key, o.KeyMem, o.KeyPassphrase, o.Debug, o.MaxVersion = "", encrypted, saying(passphrase), log.Logger(), highest
			o.CACRL, o.DHCert = testkit.PKI("crl.pem"), testkit.PKI("dh2048.pem")
		})

		client := testkit.Showing("client.crt", "", func(o *sslfilter.Options) { o.KeyMem, o.Debug = testkit.PKIBytes(t, "client.key"), log.Logger() })

		p := testkit.Connect(t, server, client)
		require.NoError(t, p.Client.Send([]byte(up)))
		require.NoError(t, p.Server.Send([]byte(down)))
		p.Transfer()
		require.Equal(t, up, string(p.Server.Got))
		require.Equal(t, down, string(p.Client.Got))
		exported, err := p.Client.ExportKeyingMaterial("EXPORTER-test", nil, 32)
		require.NoError(t, err)
		require.NoError(t, p.Client.CloseWrite())
		p.Transfer()
		_, err = p.Server.Receive(nil, []byte(up)) // after the close_notify
		require.Error(t, err)
		_, err = p.Server.Detach()
		require.NoError(t, err)

		bad := testkit.Connect(t, server, client)
		require.NoError(t, bad.Client.Send([]byte(up)))
		wire := bad.Client.Outgoing(nil)
		wire[len(wire)-1] ^= 1
		bad.Server.Deliver(wire)
		require.Error(t, bad.Server.Filter.Err())
		require.Error(t, accepted(testkit.With(server, func(o *sslfilter.Options) { o.KeyPassphrase = saying("not the passphrase") })))
		early := testkit.NewPair(t, server, client)
		require.NoError(t, early.Client.Send([]byte(up)))
		early.Client.ReceiveEOF()
		plain := testkit.NewPair(t, server, client) // a client without TLS
		plain.Server.Deliver([]byte(up))
		require.Error(t, plain.Server.Filter.Err())

		secrets := map[string][]byte{
			"plaintext up": []byte(up), "plaintext down": []byte(down), "begin of it": []byte(up[:12]), "passphrase": []byte(passphrase),
			"wrong passphrase": []byte("not the passphrase"), "exported key": exported, "tls-unique": p.Client.TLSUnique(),
		}
		for _, file := range []string{"server.key", "server-enc.key", "client.key"} {
			lines := bytes.Split(testkit.PKIBytes(t, file), []byte("\n"))
			secrets[file+" PEM"] = lines[3]
			secrets[file+" DER"] = testkit.DER(t, testkit.PKIBytes(t, file))[100:132]
		}
		require.NotEmpty(t, log.String())
		for name, secret := range secrets {
			if len(secret) > 0 {
				require.Empty(t, leak(log.String(), secret), "%s is in the log:\n%s", name, log)
			}
		}
		for name, form := range encodings([]byte(up)) { // the search finds each form
			require.NotEmpty(t, leak("text before "+form+" and after it", []byte(up)), name)
		}
	})
}

// Debug gets the steps of a connection, and the verdict.
func TestDebugTellsStepsAndVerdicts(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		ours, theirs := new(testkit.Log), new(testkit.Log)
		server := testkit.Asking(func(o *sslfilter.Options) { o.Debug, o.MaxVersion = ours.Logger(), highest })
		client := testkit.Showing("client-expired.crt", "", func(o *sslfilter.Options) { o.Debug = theirs.Logger() })
		p := testkit.Connect(t, server, client)
		for _, c := range []struct {
			log  *testkit.Log
			f    *sslfilter.Filter
			role string
		}{{ours, p.Server.Filter, "server"}, {theirs, p.Client.Filter, "client"}} {
			said := c.log.Messages()
			require.Equal(t, "sslfilter: context made", said[0])
			require.Equal(t, "sslfilter: handshake done", said[len(said)-1])
			require.Equal(t, []string{sslfilter.OpenSSLVersion()}, c.log.Values(said[0], "openssl"))
			require.NotEmpty(t, c.log.Values(said[0], "ciphers")[0])
			states := c.log.Values("sslfilter: handshake", "state")
			require.NotEmpty(t, states)
			require.NotContains(t, states, "")
			done := "sslfilter: handshake done"
			require.Equal(t, []string{c.f.Version()}, c.log.Values(done, "version"))
			require.Equal(t, []string{c.f.Cipher()}, c.log.Values(done, "cipher"))
			require.Equal(t, []string{c.f.Peer().String()}, c.log.Values(done, "peer"))
			require.Equal(t, []string{c.role}, c.log.Values(done, "role"))
		}
		require.Contains(t, ours.Values("sslfilter: handshake done", "peer")[0], "certificate has expired (10) at depth 0")
		require.Equal(t, []string{"valid"}, theirs.Values("sslfilter: handshake done", "peer"))

		require.NoError(t, p.Client.CloseWrite())
		p.Transfer()
		require.Contains(t, ours.Messages(), "sslfilter: close_notify received")
		require.NotContains(t, ours.Messages(), "sslfilter: failed")
		require.Error(t, p.Client.ReceiveEOF())
		require.Equal(t, []string{p.Client.Filter.Err().Error()}, theirs.Values("sslfilter: failed", "error"))
	})
}

// Debug gets the reason why a server rejects every client: its CRL is missing.
func TestDebugTellsAboutTheCRL(t *testing.T) {
	log := new(testkit.Log)
	file := testkit.TempFile(t, "crl.pem", testkit.PKIBytes(t, "crl.pem"))
	server := testkit.Ctx(t, testkit.Requiring(func(o *sslfilter.Options) { o.CACRL, o.Debug = file, log.Logger() }))
	require.NoError(t, os.Remove(file))
	f := testkit.FilterOf(t, server)
	_, err := f.Receive(nil, []byte{22})
	require.NoError(t, err)
	require.Len(t, log.Values("sslfilter: CRL cannot be used, so every peer is refused", "error"), 1)
}
