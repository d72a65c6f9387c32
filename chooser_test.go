package sslfilter_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const (
	illegalParameter = sslfilter.AlertError(47)
	unrecognizedName = sslfilter.AlertError(112)
	internalError    = sslfilter.AlertError(80)
)

type choose = func(*sslfilter.ClientHello) (*sslfilter.Ctx, error)

// always returns a function that chooses ctx.
func always(ctx *sslfilter.Ctx) choose {
	return func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return ctx, nil }
}

// choosing makes a Filter that is closed after the test.
func choosing(t testing.TB, choose choose) *sslfilter.Filter {
	f := sslfilter.NewServerFilter(choose)
	t.Cleanup(func() { f.Close() })
	return f
}

// A server with a chooser behaves like a server with the context that it chooses: the error
// of each call, the alert, and what the end of the transport means.
func TestChooserIsLikeAPlainServer(t *testing.T) {
	c := testkit.Filter(t, testkit.Client(func(o *sslfilter.Options) { o.Cipher, o.MaxVersion = "AES128-SHA256", sslfilter.VersionTLS12 }))
	require.NoError(t, c.Handshake())
	noSharedCipher := c.Outgoing(nil)
	ctx := testkit.Ctx(t, testkit.ServerOf("server-ec", testkit.TLS12, testkit.Cipher("ECDHE-ECDSA-AES256-GCM-SHA384")))
	ssl2 := slices.Concat([]byte{0x80, 31, 1, 3, 3, 0, 6, 0, 0, 0, 16}, []byte{1, 0, 0x80, 0, 0xc0, 0x2f}, make([]byte, 16))
	inputs := map[string][]byte{
		"nothing":                      nil,
		"plain HTTP":                   []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"CONNECT":                      []byte("CONNECT localhost:443 HTTP/1.1\r\n\r\n"),
		"SMTP":                         []byte("EHLO localhost\r\nMAIL FROM:<>\r\n"),
		"SSH":                          []byte("SSH-2.0-OpenSSH_9.6\r\n"),
		"zeros":                        make([]byte, 64),
		"SSL 2.0":                      ssl2,
		"a short SSL 2.0 hello":        ssl2[:9],
		"an alert":                     tlsRecord(typeAlert, 2, 40),
		"a warning":                    tlsRecord(typeAlert, 1, 90),
		"close_notify":                 tlsRecord(typeAlert, 1, 0),
		"a ChangeCipherSpec":           tlsRecord(typeCCS, 1),
		"data":                         tlsRecord(23, 1, 2, 3),
		"a ServerHello":                tlsRecord(typeHandshake, message(2, make([]byte, 40)...)...),
		"an empty ClientHello":         tlsRecord(typeHandshake, message(1)...),
		"a short ClientHello":          tlsRecord(typeHandshake, message(1, make([]byte, 20)...)...),
		"an endless record":            {22, 3, 1, 0xff, 0xff, 1, 0, 0, 5},
		"an endless message":           tlsRecord(typeHandshake, 1, 0xff, 0xff, 0xff, 3, 3),
		"an unknown record version":    {22, 9, 9, 0, 4, 1, 0, 0, 0},
		"half a ClientHello":           noSharedCipher[:len(noSharedCipher)/2],
		"half a header":                noSharedCipher[:3],
		"empty records":                slices.Repeat(tlsRecord(typeHandshake), 40),
		"no shared cipher":             noSharedCipher,
		"no shared cipher, and junk":   append(slices.Clone(noSharedCipher), "junk after it"...),
		"no cipher":                    clientHello(0x0303, nil, nil),
		"TLS 1.1":                      clientHello(0x0302, nil, []uint16{0xc02c}),
		"a name twice":                 clientHello(0x0303, nil, []uint16{0xc02c}, sni("a.example"), sni("b.example")),
		"a malformed name":             clientHello(0x0303, nil, []uint16{0xc02c}, extension{0, []byte{0, 9}}),
		"malformed protocols":          clientHello(0x0303, nil, []uint16{0xc02c}, extension{16, []byte{0, 9}}),
		"malformed groups":             clientHello(0x0303, nil, []uint16{0xc02c}, extension{10, []byte{0, 1, 1}}),
		"a malformed list":             clientHello(0x0303, nil, []uint16{0xc02c}, extension{0xaaaa, nil})[:len(noSharedCipher)/3],
		"an oversized session id":      clientHello(0x0303, make([]byte, 33), []uint16{0xc02c}),
		"extensions with a bad length": tlsRecord(typeHandshake, message(1, slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0, 0, 2, 0xc0, 0x2c, 1, 0, 0, 9, 0, 0})...)...),
	}
	type outcome struct {
		errors        []string
		sent          []byte
		eof, err      string
		done, flushed bool
	}
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	for name, wire := range inputs {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				pieces := cut(wire)
				run := func(f *sslfilter.Filter) (o outcome) {
					for _, piece := range pieces {
						got, err := f.Receive(nil, piece)
						require.Empty(t, got)
						o.errors = append(o.errors, text(err))
						o.sent = f.Outgoing(o.sent)
					}
					o.eof, o.err = text(f.ReceiveEOF()), text(f.Err())
					o.done, o.flushed = f.HandshakeDone(), f.Flushed()
					return o
				}
				want := run(testkit.FilterOf(t, ctx))
				require.Equal(t, want, run(choosing(t, always(ctx))))
			})
		})
	}
}

// A connection whose context was chosen has all properties of that context, however its
// bytes are cut.
func TestChooserHandshake(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			calls := 0
			ctx := testkit.Ctx(t, testkit.Requiring(testkit.Only(v), func(o *sslfilter.Options) { o.ALPN = []string{"imap"} }))
			client := testkit.Showing("client.crt", "", func(o *sslfilter.Options) { o.ALPN = []string{"h2", "imap"} })
			var seen *sslfilter.ClientHello
			server := choosing(t, func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
				calls++
				seen = hello
				return ctx, nil
			})
			require.NoError(t, server.Send([]byte("early")), "it waits for the handshake")
			p := testkit.Join(server, testkit.Filter(t, client))
			p.Cut = cut
			require.NoError(t, p.Handshake())
			require.Equal(t, 1, calls)
			require.Equal(t, "localhost", seen.ServerName)
			require.Equal(t, "localhost", server.ServerName())
			require.Equal(t, []string{"h2", "imap"}, seen.ALPN)
			require.Equal(t, "imap", server.ALPN())
			require.Equal(t, v, server.State().Version)
			require.True(t, server.ClientCertValid())
			require.Equal(t, "early", string(p.Client.Got))
			require.NoError(t, p.Client.Send([]byte("question")))
			p.Transfer()
			require.Equal(t, "question", string(p.Server.Got))
			require.NoError(t, p.Client.CloseWrite())
			p.Transfer()
			require.True(t, p.Server.EOF())
		})
	})
}

// A client that gets a HelloRetryRequest must repeat its server name and its protocols, by
// which its context was chosen (RFC 8446 section 4.1.2).
func TestChooserHelloRetry(t *testing.T) {
	proto := func(o *sslfilter.Options) { o.ALPN = []string{"imap"} }
	ctx := testkit.Ctx(t, testkit.Server(testkit.TLS13, proto, func(o *sslfilter.Options) { o.Groups = "P-256" }))
	client := testkit.Ctx(t, testkit.Client(testkit.TLS13, proto, func(o *sslfilter.Options) { o.Groups = "P-384:P-256" }))
	bytesOf := func(e extension) []byte { return append(words(e.kind), vector(2, e.body)...) }
	name, protocols := sni("localhost"), extension{16, vector(2, vector(1, []byte("imap")))}
	unknown := func(e extension) extension { return extension{0xfafa, e.body} } // as if it were not there
	for _, c := range []struct {
		what     string
		flight   int // of the client, with the ClientHello that is changed
		old, new extension
	}{
		{"another name", 2, name, sni("elsewhere")},
		{"other case", 2, name, sni("LocalHost")},
		{"no name", 2, name, unknown(name)},
		{"a new name", 1, name, unknown(name)},
		{"other protocols", 2, protocols, extension{16, vector(2, vector(1, []byte("http")))}},
		{"no protocols", 2, protocols, unknown(protocols)},
		{"new protocols", 1, protocols, unknown(protocols)},
		{"no change", 2, name, name},
	} {
		t.Run(c.what, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				p := testkit.Join(choosing(t, always(ctx)), testkit.FilterOf(t, client))
				flights := 0
				p.Cut, p.Alter = cut, func(fromClient bool, b []byte) []byte {
					if !fromClient || len(b) == 0 {
						return b
					}
					if flights++; flights == c.flight {
						require.Contains(t, string(b), string(bytesOf(c.old)))
						b = bytes.Replace(b, bytesOf(c.old), bytesOf(c.new), 1)
					}
					return b
				}
				err := p.Handshake()
				if c.what == "no change" {
					require.NoError(t, err)
					require.Equal(t, 3, flights, "two ClientHellos and Finished")
					return
				}
				require.Equal(t, illegalParameter, testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()))
				refusal := testkit.As[*sslfilter.Error](t, p.Server.Filter.Err())
				require.Equal(t, "after the HelloRetryRequest, the client changed its server name or its protocols", refusal.Hint)
				require.False(t, p.Server.HandshakeDone())
				requireSound(t, p.Server.Filter)
			})
		})
	}
}

// The server name chooses among contexts that differ in their versions, in their policy for
// client certificates and in what they report.
func TestChooserPolicies(t *testing.T) {
	log := new(testkit.Log)
	var handled []error
	strict := testkit.Ctx(t, testkit.Requiring(testkit.TLS12, func(o *sslfilter.Options) {
		o.Debug = log.Logger()
		o.ErrorHandler = func(_ *sslfilter.Filter, err error) { handled = append(handled, err) }
	}))
	open := testkit.Ctx(t, testkit.ServerOf("server-ec", testkit.TLS13))
	choose := func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		if hello.ServerName == "server.test" {
			return strict, nil
		}
		return open, nil
	}
	connect := func(client sslfilter.Options) *testkit.Pair {
		p := testkit.Join(choosing(t, choose), testkit.Filter(t, client))
		p.Handshake()
		return p
	}
	p := connect(testkit.Client())
	require.True(t, p.Server.HandshakeDone())
	require.Equal(t, sslfilter.VersionTLS13, p.Server.State().Version)
	require.NotContains(t, log.Messages(), "sslfilter: context chosen")

	p = connect(testkit.Showing("client.crt", "", testkit.ServerName("server.test")))
	require.True(t, p.Server.HandshakeDone())
	require.Equal(t, sslfilter.VersionTLS12, p.Server.State().Version)
	require.True(t, p.Server.ClientCertValid())
	require.Equal(t, []string{"server.test"}, log.Values("sslfilter: context chosen", "name"))

	p = connect(testkit.Client(testkit.ServerName("server.test")))
	require.False(t, p.Server.HandshakeDone(), "no client certificate")
	require.Equal(t, []error{p.Server.Filter.Err()}, handled)

	p = connect(testkit.Showing("client-revoked.crt", "", testkit.ServerName("server.test")))
	require.True(t, p.Server.HandshakeDone())
	p = connect(testkit.Client(testkit.ServerName("server.test"), testkit.TLS13))
	require.ErrorContains(t, p.Server.Filter.Err(), "unsupported protocol")
}

// The CRLs of the chosen context are read when the handshake begins.
func TestChooserCRLs(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, o := range []sslfilter.Options{
			testkit.Requiring(testkit.Only(v), func(o *sslfilter.Options) { o.CACRL = testkit.PKI("crl.pem") }),
			testkit.Requiring(testkit.Only(v), func(o *sslfilter.Options) {
				o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{testkit.PKI("crl.pem")}
			}),
		} {
			ctx := testkit.Ctx(t, o)
			p := testkit.Join(choosing(t, always(ctx)), testkit.Filter(t, testkit.Showing("client.crt", "")))
			require.NoError(t, p.Handshake())
			p = testkit.Join(choosing(t, always(ctx)), testkit.Filter(t, testkit.Showing("client-revoked.crt", "")))
			require.Error(t, p.Handshake())
			require.Equal(t, sslfilter.VerifyCode(23), testkit.As[*sslfilter.VerifyError](t, p.Server.Filter.Err()).Code)
		}
	})
}

// State has the name of this ClientHello, even if the session is resumed.
func TestChooserResumedName(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		ctx := testkit.Ctx(t, testkit.Server(testkit.Only(v), func(o *sslfilter.Options) { o.ALPN = []string{"echo"} }))
		config := testkit.GoClient(t, func(c *tls.Config) {
			c.ClientSessionCache, c.NextProtos = tls.NewLRUClientSessionCache(1), []string{"echo"}
		})
		for i := range 2 {
			f := choosing(t, always(ctx))
			peer := testkit.TalkToGo(t, f, false, config)
			require.NoError(t, peer.Err)
			require.Equal(t, i > 0, f.Resumed())
			require.Equal(t, "localhost", f.ServerName())
		}
	})
}

// openssl.cnf limits the chosen contexts as far as their options do not replace it, and does
// not prevent the ClientHello from being read.
func TestChooserSystemConfiguration(t *testing.T) {
	for name, limits := range map[string]string{
		"no suites of TLS 1.3": "Ciphersuites =", "no versions": "MinProtocol = TLSv1.3\nMaxProtocol = TLSv1.2",
		"no protocols": "Protocol = ALL,-TLSv1.3,-TLSv1.2",
	} {
		t.Run(name, func(t *testing.T) {
			conf := testkit.TempFile(t, "openssl.cnf", []byte("openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = limits\n[limits]\n"+limits+"\n"))
			if child, _ := inChild(t, "", "OPENSSL_CONF="+conf); !child {
				return
			}
			wire := clientHello(0x0303, nil, []uint16{0xc02f}, sni("localhost"))
			require.Equal(t, "localhost", readHello(t, wire).ServerName)
			_, err := choosing(t, always(nil)).Receive(nil, wire)
			require.EqualError(t, err, `sslfilter: there is no context for the server name "localhost"`)
		})
	}
}

// Before the choice the methods do the same as on a server before its handshake.
func TestChooserMethodsBefore(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server())
	f, plain := choosing(t, always(ctx)), testkit.FilterOf(t, ctx)
	require.NoError(t, f.Handshake())
	require.Equal(t, plain.State(), f.State())
	require.Equal(t, plain.Peer(), f.Peer())
	require.Equal(t, plain.Cipher(), f.Cipher())
	require.Equal(t, plain.Version(), f.Version())
	require.Equal(t, plain.SetServerName("a"), f.SetServerName("a"))
	require.Equal(t, plain.SetALPN("h2"), f.SetALPN("h2"))
	require.Equal(t, plain.KeyUpdate(true), f.KeyUpdate(true))
	_, want := plain.Detach()
	_, err := f.Detach()
	require.Equal(t, want, err)
	_, want = plain.ExportKeyingMaterial("label", nil, 32)
	_, err = f.ExportKeyingMaterial("label", nil, 32)
	require.Equal(t, want, err)
	require.False(t, f.ClientCertValid())
	require.Empty(t, f.ClientCertIDs())
	require.Nil(t, f.TLSUnique())
	require.Nil(t, f.OCSPResponse())
	require.NoError(t, f.CloseWrite())
	require.False(t, f.Flushed(), "close_notify waits for the handshake")

	p := testkit.Join(f, testkit.Filter(t, testkit.Client()))
	require.NoError(t, p.Handshake())
	require.True(t, p.Client.EOF())
	require.True(t, f.Flushed())
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
	_, err = f.Clone()
	require.ErrorIs(t, err, sslfilter.ErrClosed)
	require.NoError(t, choosing(t, always(ctx)).Close())
}

// A clone has the same chooser, before and after the choice.
func TestChooserClone(t *testing.T) {
	calls := 0
	ctx := testkit.Ctx(t, testkit.Server())
	f := choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { calls++; return ctx, nil })
	for range 3 {
		clone, err := f.Clone()
		require.NoError(t, err)
		p := testkit.Join(f, testkit.Filter(t, testkit.Client()))
		require.NoError(t, p.Handshake())
		p.Close()
		f = clone
	}
	require.Equal(t, 3, calls)
	f.Close()
}

// The context may be closed as soon as it is chosen, and a chooser is required.
func TestChooserContextLives(t *testing.T) {
	p := testkit.Join(choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return sslfilter.NewCtx(testkit.Server()) }), testkit.Filter(t, testkit.Client()))
	require.NoError(t, p.Handshake())
	ctx := testkit.Ctx(t, testkit.Server())
	p = testkit.Join(choosing(t, always(ctx)), testkit.Filter(t, testkit.Client()))
	require.NoError(t, p.Client.Handshake())
	p.Server.Deliver(p.Client.Outgoing(nil))
	ctx.Close()
	require.NoError(t, p.Handshake())
	require.True(t, p.Client.HandshakeDone())

	f := sslfilter.NewServerFilter(nil)
	testkit.As[*sslfilter.UsageError](t, f.Err())
	_, err := f.Receive(nil, []byte("x"))
	require.Equal(t, f.Err(), err)
	require.Equal(t, f.Err(), f.Send([]byte("x")))
	require.Equal(t, f.Err(), f.ReceiveEOF())
	require.Equal(t, f.Err(), f.CloseWrite())
	require.Equal(t, f.Err(), f.Handshake())
	_, err = f.Clone()
	require.Error(t, err)
	require.Empty(t, f.Outgoing(nil))
	require.Nil(t, f.Peer())
	require.NoError(t, f.Close())
}

// A ClientHello that is too long is refused at the same byte however it is cut, and holds no
// more than MaxClientHello bytes until then.
func TestChooserLongClientHello(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server())
	small := []byte{}
	padding := extension{21, make([]byte, 20<<10)}
	message := clientHello(0x0303, nil, []uint16{0xc02f}, padding)[5:]
	for _, b := range message {
		small = append(small, tlsRecord(typeHandshake, b)...)
	}
	require.Greater(t, len(small), sslfilter.MaxClientHello)
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		f := choosing(t, always(ctx))
		var err error
		for _, piece := range cut(small) {
			if _, err = f.Receive(nil, piece); err != nil {
				break
			}
		}
		require.ErrorIs(t, err, sslfilter.ErrBufferFull)
		require.Equal(t, tlsRecord(typeAlert, 2, 47), f.Outgoing(nil))
		requireSound(t, f)
	})
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) { // the last byte that is allowed
		f := choosing(t, always(ctx))
		for _, piece := range cut(small[:sslfilter.MaxClientHello]) {
			_, err := f.Receive(nil, piece)
			require.NoError(t, err)
		}
		require.Equal(t, io.ErrUnexpectedEOF, errors.Unwrap(f.ReceiveEOF()))
	})
}

// crypto/tls as the client: each name gets its certificate and its protocol.
func TestChooserWithGo(t *testing.T) {
	rsa, ec := testkit.Ctx(t, testkit.Server(testkit.TLS12)), testkit.Ctx(t, testkit.ServerOf("server-ec"))
	for name, want := range map[string]struct {
		ctx *sslfilter.Ctx
		key x509.PublicKeyAlgorithm
	}{"localhost": {rsa, x509.RSA}, "server.test": {ec, x509.ECDSA}} {
		f := choosing(t, func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			require.Equal(t, name, hello.ServerName)
			return want.ctx, nil
		})
		peer := testkit.TalkToGo(t, f, false, testkit.GoClient(t, func(c *tls.Config) { c.ServerName = name }))
		require.NoError(t, peer.Err)
		require.Equal(t, want.key, peer.State.PeerCertificates[0].PublicKeyAlgorithm)
	}
}

// A context under FIPS beside a default one: each connection has the providers of its own.
func TestChooserFIPS(t *testing.T) {
	fips, plain := testkit.Ctx(t, inFIPS(t, testkit.ServerOf("server-ec"))), testkit.Ctx(t, testkit.Server())
	names := func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		if hello.ServerName == "server.test" {
			return fips, nil
		}
		return plain, nil
	}
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for name, want := range map[string]*sslfilter.Ctx{"server.test": fips, "localhost": plain} {
			p := testkit.Join(choosing(t, names), testkit.Filter(t, testkit.Client(testkit.ServerName(name), testkit.Only(v))))
			require.NoError(t, p.Handshake())
			for _, provider := range providersOf(t, p.Server.Filter) {
				require.Equal(t, want == fips || sslfilter.FIPSEnabled(), provider == "fips", name)
			}
		}
	})
}

// The cost of a choice in each handshake: a server's first flight with a known context and
// with one that is chosen, in turns, since the speed of a machine changes; and
// ReadClientHello alone. The figures are medians in microseconds.
func BenchmarkChooser(b *testing.B) {
	ctx := testkit.Ctx(b, testkit.ServerOf("server-ec"))
	names, err := sslfilter.NewNameMap(nil, ctx)
	require.NoError(b, err)
	c := testkit.Filter(b, testkit.Client())
	require.NoError(b, c.Handshake())
	hello := c.Outgoing(nil)
	var out []byte
	flight := func(f *sslfilter.Filter, err error) {
		_, failed := f.Receive(nil, hello)
		out = f.Outgoing(out[:0])
		if err != nil || failed != nil || len(out) == 0 {
			b.Fatal(err, failed)
		}
		f.Close()
	}
	ways := []struct {
		name string
		run  func()
	}{
		{"known", func() { flight(ctx.NewFilter()) }},
		{"chosen", func() { flight(sslfilter.NewServerFilter(names.Choose), nil) }},
		{"read", func() { _, err = sslfilter.ReadClientHello(hello) }},
	}
	took := make([][]float64, len(ways))
	for range b.N {
		for i, way := range ways {
			begin := time.Now()
			way.run()
			took[i] = append(took[i], float64(time.Since(begin))/1e3)
		}
	}
	require.NoError(b, err)
	for i, way := range ways {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2], way.name+"-µs")
	}
}
