package sslfilter_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// failure describes a connection that fails.
type failure struct {
	name           string
	server, client sslfilter.Options
	run            func(t testing.TB, p *testkit.Pair) // nil is the handshake
}

func failures() []failure {
	server, client := testkit.Server(), testkit.Client()
	suites := func(o sslfilter.Options, list string) sslfilter.Options { o.CipherSuites = list; return o }
	groups := func(o sslfilter.Options, list string) sslfilter.Options { o.Groups = list; return o }
	return []failure{
		{"no shared cipher", testkit.With(server, testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"), testkit.TLS12), testkit.With(client, testkit.Cipher("AES256-SHA:AES128-SHA"), testkit.TLS12), nil},
		{"no shared cipher, TLS 1.3", suites(server, "TLS_AES_256_GCM_SHA384"), testkit.With(suites(client, "TLS_AES_128_GCM_SHA256"), testkit.TLS13), nil},
		{"no shared cipher, the key does not fit", testkit.ServerOf("server-ec", testkit.TLS12), testkit.With(client, testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"), testkit.TLS12), nil},
		{"no shared group", groups(server, "P-384"), groups(client, "P-256"), nil},
		{"no shared group, TLS 1.2", testkit.With(groups(server, "P-384"), testkit.TLS12), testkit.With(groups(client, "P-256"), testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"), testkit.TLS12), nil},
		{"no shared application protocol", testkit.With(server, func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }),
			testkit.With(client, func(o *sslfilter.Options) { o.ALPN = []string{"imap"} }), nil},
		{"server wants TLS 1.3", testkit.With(server, testkit.TLS13), testkit.With(client, testkit.TLS12), nil},
		{"client wants TLS 1.3", testkit.With(server, testkit.TLS12), testkit.With(client, testkit.TLS13), nil},

		{"HTTP at the server", server, client, toServer("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")},
		{"HTTP proxy request at the server", server, client, toServer("CONNECT localhost:443 HTTP/1.1\r\n\r\n")},
		{"HTTP at the client", server, client, toClient("HTTP/1.1 400 Bad Request\r\n\r\n")},
		{"SSH at the server", server, client, toServer("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")},
		{"IMAP at the client", server, client, toClient("* OK IMAP4rev1 ready\r\n")},
		{"SMTP at the client", server, client, toClient("220 localhost ESMTP ready\r\n")},
		{"record too long", server, client, toServer("\x16\x03\x01\xff\xff" + strings.Repeat("x", 100))},
		{"another client", server, client, func(t testing.TB, p *testkit.Pair) {
			other := testkit.Filter(t, client)
			require.NoError(t, other.Handshake())
			require.NoError(t, p.Client.Handshake())
			p.Client.Deliver(other.Outgoing(nil))
			p.Transfer()
		}},

		{"no client certificate", testkit.With(blocking(), testkit.TLS13), client, nil},
		{"no client certificate, TLS 1.2", testkit.With(blocking(), testkit.TLS12), client, nil},
		{"client expired", testkit.With(testkit.Requiring(), testkit.TLS13), testkit.Showing("client-expired.crt", ""), nil},
		{"client expired, TLS 1.2", testkit.With(testkit.Requiring(), testkit.TLS12), testkit.Showing("client-expired.crt", ""), nil},
		{"client unknown", testkit.Requiring(), testkit.Showing("client-unknown.crt", ""), nil},
		{"client self-signed", testkit.Requiring(), testkit.Showing("client-self.crt", ""), nil},
		{"client revoked", testkit.Requiring(crl(testkit.PKI("crl.pem"))), testkit.Showing("client-revoked.crt", ""), nil},
		{"client may only serve", testkit.Requiring(), testkit.Showing("client-srvonly.crt", ""), nil},
		{"server unknown", testkit.ServerOf("server-unknown"), client, nil},
		{"server unknown, TLS 1.2", testkit.ServerOf("server-unknown", testkit.TLS12), client, nil},
		{"server expired", testkit.ServerOf("server-expired"), client, nil},
		{"server of another name", server, testkit.With(client, testkit.ServerName("example.org")), nil},
		{"server of another address", server, testkit.With(client, testkit.ServerName("192.0.2.1")), nil},
		{"server without a certificate", testkit.With(sslfilter.Options{Cipher: "aNULL:@SECLEVEL=0"}, testkit.TLS12), testkit.With(client, testkit.Cipher("aNULL:@SECLEVEL=0"), testkit.TLS12), nil},

		{"client without a certificate, anonymous suite", testkit.With(testkit.Requiring(testkit.Cipher("aNULL:@SECLEVEL=0")), testkit.TLS12),
			testkit.With(sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: "aNULL:@SECLEVEL=0"}, testkit.TLS12), nil},

		{"close_notify in the handshake", server, client, toClient("\x15\x03\x03\x00\x02\x01\x00")},
		{"cut in the handshake", server, client, func(t testing.TB, p *testkit.Pair) {
			require.NoError(t, p.Client.Handshake())
			p.Client.ReceiveEOF()
			p.Server.ReceiveEOF()
		}},
		{"tampered record", testkit.With(server, testkit.TLS13), client, tampered},
		{"tampered record, TLS 1.2", testkit.With(server, testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"), testkit.TLS12), client, tampered},
		{"tampered record, TLS 1.2 with a MAC", testkit.With(server, testkit.Cipher("ECDHE-RSA-AES256-SHA"), testkit.TLS12), client, tampered},
		{"tampered Finished", testkit.With(server, testkit.TLS13), client, tamperedFinished},
		{"tampered Finished, TLS 1.2", testkit.With(server, testkit.TLS12), client, tamperedFinished},
		{"replayed record", testkit.With(server, testkit.TLS13), client, func(t testing.TB, p *testkit.Pair) {
			require.NoError(t, p.Handshake())
			require.NoError(t, p.Client.Send([]byte("once")))
			wire := p.Client.Outgoing(nil)
			p.Server.Deliver(wire)
			p.Server.Deliver(wire)
			p.Transfer()
		}},
		{"plain text in the data", testkit.With(server, testkit.TLS13), client, func(t testing.TB, p *testkit.Pair) {
			require.NoError(t, p.Handshake())
			p.Server.Deliver([]byte("QUIT\r\n"))
			p.Transfer()
		}},
		{"key updates that nobody answers", testkit.With(server, testkit.TLS13), client, func(t testing.TB, p *testkit.Pair) {
			require.NoError(t, p.Handshake())
			for range 10000 { // 27 bytes each, and 256 KiB are the bound
				require.NoError(t, p.Client.KeyUpdate(true))
				p.Server.Deliver(p.Client.Outgoing(nil))
			}
		}},
	}
}

// blocking returns options of a server that rejects a client without a certificate.
func blocking() sslfilter.Options {
	return testkit.Asking(func(o *sslfilter.Options) { o.BlockBadClientCert = true })
}

func toServer(text string) func(testing.TB, *testkit.Pair) {
	return func(t testing.TB, p *testkit.Pair) {
		p.Server.Deliver([]byte(text))
		p.Transfer()
	}
}

func toClient(text string) func(testing.TB, *testkit.Pair) {
	return func(t testing.TB, p *testkit.Pair) {
		require.NoError(t, p.Client.Handshake())
		p.Client.Outgoing(nil)
		p.Client.Deliver([]byte(text))
		p.Transfer()
	}
}

func tampered(t testing.TB, p *testkit.Pair) {
	require.NoError(t, p.Handshake())
	require.NoError(t, p.Client.Send([]byte("a record")))
	wire := p.Client.Outgoing(nil)
	wire[len(wire)-1] ^= 1
	p.Server.Deliver(wire)
	p.Transfer()
}

// tamperedFinished damages the last byte of the client's last flight.
func tamperedFinished(t testing.TB, p *testkit.Pair) {
	require.NoError(t, p.Client.Handshake())
	p.Server.Deliver(p.Client.Outgoing(nil))
	p.Client.Deliver(p.Server.Outgoing(nil))
	wire := p.Client.Outgoing(nil)
	wire[len(wire)-1] ^= 1
	p.Server.Deliver(wire)
	p.Transfer()
}

func (f failure) play(t testing.TB, p *testkit.Pair) {
	if f.run != nil {
		f.run(t, p)
	} else {
		p.Handshake()
	}
}

// The texts of the common failures, on both sides.
func TestErrorsTexts(t *testing.T) {
	texts := make(map[string][]string)
	for _, f := range failures() {
		t.Run(f.name, func(t *testing.T) {
			p := testkit.NewPair(t, f.server, f.client)
			f.play(t, p)
			require.Error(t, errors.Join(p.Server.Filter.Err(), p.Client.Filter.Err()))
			require.NotContains(t, texts, f.name)
			texts[f.name] = []string{"server: " + text(t, p.Server.Filter.Err()), "client: " + text(t, p.Client.Filter.Err())}
		})
	}
	golden(t, "errors", texts)
}

func text(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return "no error"
	}
	require.Equal(t, 1, strings.Count(err.Error(), "sslfilter: "), "%v", err)
	require.True(t, strings.HasPrefix(err.Error(), "sslfilter: "), "%v", err)
	return err.Error()
}

// The names of all fatal alerts of RFC 8446 and its predecessors.
func TestErrorsAlertNames(t *testing.T) {
	texts := make(map[string][]string)
	for _, n := range []byte{10, 20, 21, 22, 30, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 60, 70, 71, 80, 86, 90, 109, 110, 111, 112, 113, 114, 115, 116, 120, 255} {
		p := testkit.NewPair(t, testkit.Server(), testkit.Client())
		require.NoError(t, p.Client.Handshake())
		p.Client.Deliver([]byte{21, 3, 3, 0, 2, 2, n}) // record: alert, TLS 1.2, fatal
		alert := testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err())
		require.Equal(t, sslfilter.AlertError(n), alert)
		require.ErrorIs(t, p.Client.Filter.Err(), alert)
		require.NotErrorIs(t, p.Client.Filter.Err(), alert+1)
		texts[fmt.Sprintf("%03d", n)] = []string{alert.Error(), text(t, p.Client.Filter.Err())}
	}
	golden(t, "alerts", texts)
}

// In TLS 1.2 a warning is not an error, except close_notify.
func TestErrorsWarningIsNotAnError(t *testing.T) {
	p := testkit.NewPair(t, testkit.Server(), testkit.Client(testkit.TLS12))
	require.NoError(t, p.Client.Handshake())
	hello := p.Client.Outgoing(nil)
	p.Client.Deliver([]byte{21, 3, 3, 0, 2, 1, 112}) // unrecognized_name (RFC 6066)
	p.Server.Deliver(hello)
	p.Transfer()
	require.True(t, p.Client.HandshakeDone())
}

// After the handshake, the hint does not say that the peer does not speak TLS. Debug names
// an alert that arrives without encryption, as from a peer that gives up.
func TestErrorsNotTLSAfterTheHandshake(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for data, told := range map[string]string{
			"\x15\x03\x03\x00\x02\x02\x28": "sslfilter: the peer sent an alert without encryption, handshake_failure (40)",
			"\x15\x03\x03\x00\x02\x01\x00": "sslfilter: the peer sent an alert without encryption, close_notify (0)",
			"\x14\x03\x03\x00\x01\x01":     "sslfilter: the peer sent a ChangeCipherSpec without encryption",
			"220 plain.example ready\r\n":  "",
		} {
			log := new(testkit.Log)
			p := testkit.Connect(t, testkit.Server(func(o *sslfilter.Options) { o.MaxVersion, o.Debug = highest, log.Logger() }), testkit.Client())
			require.NoError(t, p.Client.Send([]byte("data before it")))
			before := p.Client.Outgoing(nil)
			_, err := p.Server.Receive(nil, append(before, data...))
			e := testkit.As[*sslfilter.Error](t, err)
			if told == "" || highest == sslfilter.VersionTLS13 { // TLS 1.2 decrypts everything that has the form of a record
				require.Equal(t, "the peer sent something that is not TLS", e.Hint, "%q", data)
			} else {
				require.NotContains(t, e.Hint, "speak TLS", "%q", data)
			}
			said := log.Messages()
			require.Equal(t, told != "", slices.Contains(said, told), "%q: %q", data, said)
		}
	})
}

// A damaged record is not mistaken for plain text.
func TestErrorsTamperedRecordHasNoHint(t *testing.T) {
	p := testkit.NewPair(t, testkit.Server(), testkit.Client())
	tampered(t, p)
	e := testkit.As[*sslfilter.Error](t, p.Server.Filter.Err())
	require.Empty(t, e.Hint)
}

// The text names the peer's alert in the same way with every version of OpenSSL.
func TestErrorsAlertInTheText(t *testing.T) {
	p := testkit.NewPair(t, testkit.Requiring(), testkit.Showing("client-unknown.crt", "", testkit.TLS12))
	require.Error(t, p.Handshake())
	e := testkit.As[*sslfilter.Error](t, p.Client.Filter.Err())
	require.Equal(t, "sslfilter: SSL_do_handshake: the peer sent the alert unknown_ca (48): "+e.Records[0].Reason, e.Error())
}

// PlainHTTP recognizes an HTTP client without TLS, with every version of OpenSSL.
func TestErrorsPlainHTTP(t *testing.T) {
	for request, plain := range map[string]bool{
		"GET / HTTP/1.1\r\n\r\n": true, "POST / HTTP/1.1\r\n\r\n": true, "HEAD / HTTP/1.1\r\n\r\n": true, "PUT /x HTTP/1.1\r\n\r\n": true,
		"CONNECT a:443 HTTP/1.1\r\n\r\n": true, "EHLO client.example\r\n": false, "SSH-2.0-OpenSSH_9.2\r\n": false,
	} {
		f := testkit.Filter(t, testkit.Server())
		_, err := f.Receive(nil, []byte(request))
		require.Equal(t, plain, testkit.As[*sslfilter.Error](t, err).PlainHTTP(), request)
	}
	require.False(t, new(sslfilter.Error).PlainHTTP())
}
