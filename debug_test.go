package sslfilter_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// encodings are the forms in which bytes get into a log.
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

// leak names the form in which text holds secret, or "".
func leak(text string, secret []byte) string {
	for name, form := range encodings(secret) {
		if strings.Contains(text, form) {
			return name
		}
	}
	return ""
}

// Debug tells no plaintext, key or passphrase, in success and in failure.
func TestDebugHasNoSecrets(t *testing.T) {
	protocols(t, func(t *testing.T, highest sslfilter.Version) {
		log, text := logTo()
		const up, down = "the password is hunter2 \x01\xff", "your balance is 1234.56 EUR"
		encrypted := pkiBytes(t, "server-enc.key")
		server := asking(func(o *sslfilter.Options) {
			o.Key, o.KeyMem, o.KeyPassphrase, o.Debug, o.MaxVersion = "", encrypted, saying(passphrase), log, highest
			o.CACRL, o.DHCert = pki("crl.pem"), pki("dh2048.pem")
		})
		client := with(showing("client.crt", ""), func(o *sslfilter.Options) { o.KeyMem, o.Debug = pkiBytes(t, "client.key"), log })

		p := connect(t, server, client)
		require.NoError(t, p.Client.Send([]byte(up)))
		require.NoError(t, p.Server.Send([]byte(down)))
		p.Transfer()
		require.Equal(t, up, string(p.Server.Got))
		require.Equal(t, down, string(p.Client.Got))
		exported, err := p.Client.ExportKeyingMaterial("EXPORTER-test", nil, 32)
		require.NoError(t, err)
		require.NoError(t, p.Client.CloseWrite())
		p.Transfer()
		_, err = p.Server.Receive(nil, []byte(up)) // behind the close_notify
		require.Error(t, err)
		_, err = p.Server.Detach()
		require.NoError(t, err)

		bad := connect(t, server, client)
		require.NoError(t, bad.Client.Send([]byte(up)))
		wire := bad.Client.Outgoing(nil)
		wire[len(wire)-1] ^= 1
		bad.Server.Deliver(wire)
		require.Error(t, bad.Server.Filter.Err())
		require.Error(t, accepted(with(server, func(o *sslfilter.Options) { o.KeyPassphrase = saying("not the passphrase") })))
		early := pair(t, server, client)
		require.NoError(t, early.Client.Send([]byte(up)))
		early.Client.ReceiveEOF()
		plain := pair(t, server, client) // TLS was forgotten
		plain.Server.Deliver([]byte(up))
		require.Error(t, plain.Server.Filter.Err())

		secrets := map[string][]byte{
			"plaintext up": []byte(up), "plaintext down": []byte(down), "begin of it": []byte(up[:12]), "passphrase": []byte(passphrase),
			"wrong passphrase": []byte("not the passphrase"), "exported key": exported, "tls-unique": p.Client.TLSUnique(),
		}
		for _, file := range []string{"server.key", "server-enc.key", "client.key"} {
			lines := bytes.Split(pkiBytes(t, file), []byte("\n"))
			secrets[file+" PEM"] = lines[3]
			secrets[file+" DER"] = pemDER(t, pkiBytes(t, file))[100:132]
		}
		require.NotEmpty(t, text.String())
		for name, secret := range secrets {
			if len(secret) > 0 {
				require.Empty(t, leak(text.String(), secret), "%s is in the log:\n%s", name, text)
			}
		}
		for name, form := range encodings([]byte(up)) { // so that the search can fail
			require.NotEmpty(t, leak("text before "+form+" and behind", []byte(up)), name)
		}
	})
}

// The steps of a connection and its verdict.
func TestDebugTellsStepsAndVerdicts(t *testing.T) {
	protocols(t, func(t *testing.T, highest sslfilter.Version) {
		ours, theirs := new(journal), new(journal)
		server := asking(func(o *sslfilter.Options) { o.Debug, o.MaxVersion = slog.New(ours), highest })
		client := with(showing("client-expired.crt", ""), func(o *sslfilter.Options) { o.Debug = slog.New(theirs) })
		p := connect(t, server, client)
		for _, c := range []struct {
			log  *journal
			f    *sslfilter.Filter
			role string
		}{{ours, p.Server.Filter, "server"}, {theirs, p.Client.Filter, "client"}} {
			said := c.log.messages()
			require.Equal(t, "sslfilter: context made", said[0])
			require.Equal(t, "sslfilter: handshake done", said[len(said)-1])
			require.Equal(t, []string{sslfilter.OpenSSLVersion()}, c.log.values(said[0], "openssl"))
			require.NotEmpty(t, c.log.values(said[0], "ciphers")[0])
			states := c.log.values("sslfilter: handshake", "state")
			require.NotEmpty(t, states)
			require.NotContains(t, states, "")
			done := "sslfilter: handshake done"
			require.Equal(t, []string{c.f.Version()}, c.log.values(done, "version"))
			require.Equal(t, []string{c.f.Cipher()}, c.log.values(done, "cipher"))
			require.Equal(t, []string{c.f.Peer().String()}, c.log.values(done, "peer"))
			require.Equal(t, []string{c.role}, c.log.values(done, "role"))
		}
		require.Contains(t, ours.values("sslfilter: handshake done", "peer")[0], "certificate has expired (10) at depth 0")
		require.Equal(t, []string{"valid"}, theirs.values("sslfilter: handshake done", "peer"))

		require.NoError(t, p.Client.CloseWrite())
		p.Transfer()
		require.Contains(t, ours.messages(), "sslfilter: close_notify received")
		require.NotContains(t, ours.messages(), "sslfilter: failed")
		require.Error(t, p.Client.ReceiveEOF())
		require.Equal(t, []string{p.Client.Filter.Err().Error()}, theirs.values("sslfilter: failed", "error"))
	})
}

// Debug says that the CRL of a server that refuses is gone.
func TestDebugTellsAboutTheCRL(t *testing.T) {
	log := new(journal)
	file := tempFile(t, "crl.pem", pkiBytes(t, "crl.pem"))
	server := mustCtx(t, requiring(func(o *sslfilter.Options) { o.CACRL, o.Debug = file, slog.New(log) }))
	require.NoError(t, os.Remove(file))
	f := filterOf(t, server)
	_, err := f.Receive(nil, []byte{22})
	require.NoError(t, err)
	require.Len(t, log.values("sslfilter: CRL cannot be used, so every peer is refused", "error"), 1)
}
