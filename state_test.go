package sslfilter_test

import (
	"crypto/tls"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cpeer"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// stateLine is the form of State.String.
var stateLine = regexp.MustCompile(`^[!-~]+( [!-~]+)*$`)

// The two sides report the same facts, and what one has signed is what the other verified.
func TestStateOfBothSides(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			p := testkit.NewPair(t, testkit.Asking(testkit.UpTo(v)), testkit.Showing("client-ec.crt", "client-ec.key"))
			p.Cut = cut
			require.NoError(t, p.Handshake())
			server, client := p.Server.State(), p.Client.State()
			require.Equal(t, server.Signature, client.PeerSignature)
			require.Equal(t, server.SignatureScheme, client.PeerSignatureScheme)
			require.Equal(t, client.Signature, server.PeerSignature)
			require.Equal(t, client.SignatureScheme, server.PeerSignatureScheme)
			require.Equal(t, "rsa_pss_rsae_sha256", server.Signature)
			require.Equal(t, uint16(tls.PSSWithSHA256), server.SignatureScheme)
			require.Equal(t, "ecdsa_secp256r1_sha256", client.Signature)
			require.Equal(t, uint16(tls.ECDSAWithP256AndSHA256), client.SignatureScheme)
			require.Equal(t, server.GroupName, client.GroupName)
			require.Equal(t, since(openssl30), server.GroupName != "")
			for _, s := range []sslfilter.State{server, client} {
				require.True(t, s.ClientCertRequested)
				require.True(t, s.ExtendedMasterSecret)
				require.True(t, s.SecureRenegotiation)
				require.Zero(t, s.Renegotiations)
				require.Zero(t, s.DHBits)
				require.False(t, s.Ticket, "a server that asks for certificates sends no tickets")
				require.Positive(t, s.SessionTimeout)
				require.Equal(t, sslfilter.FIPSEnabled(), s.FIPS)
				require.Regexp(t, stateLine, s.String())
			}
		})
	})
}

// If both sides allow only one signature algorithm for the server, State reports it, with its number.
func TestStateSignature(t *testing.T) {
	for _, c := range []struct {
		key, name string
		number    tls.SignatureScheme
		tls13     bool
	}{
		{"server", "rsa_pkcs1_sha256", tls.PKCS1WithSHA256, false},
		{"server", "rsa_pkcs1_sha512", tls.PKCS1WithSHA512, false},
		{"server", "rsa_pss_rsae_sha256", tls.PSSWithSHA256, true},
		{"server", "rsa_pss_rsae_sha384", tls.PSSWithSHA384, true},
		{"server", "rsa_pss_rsae_sha512", tls.PSSWithSHA512, true},
		{"server-ec", "ecdsa_secp256r1_sha256", tls.ECDSAWithP256AndSHA256, true},
		{"server-ec", "ecdsa_secp384r1_sha384", tls.ECDSAWithP384AndSHA384, false}, // the curve of the key is P-256
		{"server-ed25519", "ed25519", tls.Ed25519, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
				if v == sslfilter.VersionTLS13 && !c.tls13 {
					return // TLS 1.3 does not admit it
				}
				also := ":rsa_pkcs1_sha256" // the certificates are signed with it
				if strings.HasPrefix(c.name, "rsa_pkcs1") {
					also = ":ecdsa_secp256r1_sha256" // this key cannot make such signatures
				}
				only := func(o *sslfilter.Options) { o.SignatureAlgorithms = c.name + also }
				p := testkit.NewPair(t, testkit.ServerOf(c.key, testkit.UpTo(v), func(o *sslfilter.Options) { o.SignatureAlgorithms = c.name }), testkit.Client(only))
				require.NoError(t, p.Handshake())
				server, client := p.Server.State(), p.Client.State()
				require.Equal(t, c.name, server.Signature)
				require.Equal(t, uint16(c.number), server.SignatureScheme)
				require.Equal(t, c.name, client.PeerSignature)
				require.Equal(t, uint16(c.number), client.PeerSignatureScheme)
				require.Empty(t, client.Signature)
				require.Empty(t, server.PeerSignature)
				require.False(t, client.ClientCertRequested)
				require.False(t, server.ClientCertRequested)
			})
		})
	}
	t.Run("no signature", func(t *testing.T) {
		for _, list := range []string{"AES256-SHA256:AES256-GCM-SHA384", "ADH-AES256-GCM-SHA384:@SECLEVEL=0"} {
			server := testkit.Asking(testkit.TLS12, testkit.Cipher(list), func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") })
			p := testkit.NewPair(t, server, testkit.Client(testkit.TLS12, testkit.Cipher(list), func(o *sslfilter.Options) { o.InsecureSkipVerify = true }))
			if !served(t, "own DH") {
				continue
			}
			require.NoError(t, p.Handshake(), list)
			for _, s := range []sslfilter.State{p.Server.State(), p.Client.State()} {
				require.Empty(t, s.Signature, list)
				require.Empty(t, s.PeerSignature, list)
				require.Zero(t, s.SignatureScheme, list)
				require.Equal(t, !strings.HasPrefix(list, "ADH"), s.ClientCertRequested, list)
			}
		}
	})
}

// The name of the group is OpenSSL's. DHE with the server's own parameters has no group, and
// the client knows the size of the prime.
func TestStateKeyExchange(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for group, number := range map[string]uint16{"P-256": 23, "P-384": 24, "X25519": 29} {
			if !served(t, group) {
				continue
			}
			p := testkit.Connect(t, testkit.Server(testkit.UpTo(v)), testkit.Client(func(o *sslfilter.Options) { o.Groups = group }))
			for _, s := range []sslfilter.State{p.Server.State(), p.Client.State()} {
				require.Zero(t, s.DHBits)
				if !since(openssl30) {
					require.Empty(t, s.GroupName)
					continue
				}
				require.Equal(t, number, s.Group)
				require.Equal(t, map[string]string{"P-256": "secp256r1", "P-384": "secp384r1", "X25519": "x25519"}[group], s.GroupName)
			}
		}
	})
	if !served(t, "own DH") {
		return
	}
	p := testkit.Connect(t, dhServer("2", func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh3072.pem") }), dhClient("2"))
	require.Equal(t, 3072, p.Client.State().DHBits)
	require.Zero(t, p.Server.State().DHBits)
	require.Zero(t, p.Client.State().Group)
	require.Empty(t, p.Client.State().GroupName)
	require.Contains(t, p.Client.State().String(), " - client ticket dh-bits=3072 ")
}

// The State of a client says whether the server has requested a certificate, even if the client has
// none.
func TestStateClientCertRequested(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, asked := range []bool{false, true} {
			for name, client := range map[string]sslfilter.Options{
				"none": testkit.Client(), "one": testkit.Showing("client.crt", "client.key"), "two": testkit.Showing("client.crt", "client.key", also(id("client-ec"))),
			} {
				server := testkit.Server(testkit.UpTo(v))
				if asked {
					server = testkit.Asking(testkit.UpTo(v))
				}
				p := testkit.NewPair(t, server, client)
				require.False(t, p.Client.State().ClientCertRequested)
				require.NoError(t, p.Handshake())
				require.Equal(t, asked, p.Client.State().ClientCertRequested, name)
				require.Equal(t, asked, p.Server.State().ClientCertRequested, name)
				require.Equal(t, asked && name != "none", p.Client.State().Signature != "", name)
				require.Equal(t, asked && name != "none", p.Server.State().PeerSignature != "", name)
			}
		}
	})
}

// A client counts the renegotiations that it accepts.
func TestStateRenegotiation(t *testing.T) {
	for _, ask := range []bool{false, true} {
		server, err := cpeer.New(testkit.PKI("server.crt"), testkit.PKI("server.key"), ask)
		require.NoError(t, err)
		defer server.Close()
		f := testkit.Filter(t, testkit.Showing("client.crt", "client.key", testkit.TLS12))
		pump := func() { exchangeWithPeer(t, f, server) }
		require.NoError(t, f.Handshake())
		pump()
		for n := range 3 {
			s := f.State()
			require.Equal(t, n, s.Renegotiations)
			require.True(t, s.SecureRenegotiation)
			require.Equal(t, ask, s.ClientCertRequested)
			require.Equal(t, ask, s.Signature != "")
			require.NotEmpty(t, s.PeerSignature)
			require.Equal(t, n > 0, strings.Contains(s.String(), "renegotiations="), s)
			require.NoError(t, server.Renegotiate())
			require.NoError(t, f.Send([]byte("meanwhile")))
			pump()
		}
	}
}

// If a session is resumed, neither side signs, and no certificate of the client is requested.
func TestStateResumed(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		config := testkit.GoClient(t, func(c *tls.Config) {
			c.MaxVersion, c.ClientSessionCache = uint16(v), tls.NewLRUClientSessionCache(1)
		})
		server := testkit.Ctx(t, testkit.Server())
		for _, resumed := range []bool{false, true} {
			f := testkit.FilterOf(t, server)
			require.NoError(t, testkit.TalkToGo(t, f, false, config).Err)
			s := f.State()
			require.Equal(t, resumed, s.Resumed)
			require.Equal(t, resumed, s.Signature == "")
			require.Empty(t, s.PeerSignature)
			require.False(t, s.ClientCertRequested)
			require.Positive(t, s.SessionTimeout)
			require.Equal(t, resumed, strings.Contains(s.String(), " server resumed "), s)
		}
	})
}

// A client that resumes a session reports the same as its server.
func TestStateResumedClient(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server, client := testkit.Ctx(t, testkit.Server(testkit.UpTo(v))), testkit.Ctx(t, testkit.Client())
		first := testkit.PairOf(t, server, client)
		require.NoError(t, first.Handshake())
		sessions := first.Client.Sessions()
		require.NotEmpty(t, sessions)
		p := testkit.PairOf(t, server, client)
		require.NoError(t, p.Client.SetSession(sessions[len(sessions)-1]))
		require.NoError(t, p.Handshake())
		for _, s := range []sslfilter.State{p.Server.State(), p.Client.State()} {
			require.True(t, s.Resumed)
			require.Empty(t, s.Signature)
			require.Empty(t, s.PeerSignature)
			require.False(t, s.ClientCertRequested)
			require.True(t, s.ExtendedMasterSecret)
			require.True(t, s.SecureRenegotiation)
			require.Positive(t, s.SessionTimeout)
		}
		require.True(t, p.Client.State().Ticket)
		require.Equal(t, first.Client.State().SessionTimeout, p.Client.State().SessionTimeout)
	})
}

// The State of a client says whether the server has sent a ticket.
func TestStateTicket(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, n := range []int{0, -1} {
			p := testkit.Connect(t, testkit.Server(testkit.UpTo(v), func(o *sslfilter.Options) { o.NumTickets = n }), testkit.Client())
			s := p.Client.State()
			require.Equal(t, n == 0, s.Ticket)
			require.Equal(t, n == 0, s.TicketLifetime > 0)
			require.LessOrEqual(t, s.TicketLifetime, 7*24*time.Hour)
			require.False(t, p.Server.State().Ticket)
		}
	})
}

// Before the handshake State has few facts, and after Close it has none.
func TestStateBeforeAndAfter(t *testing.T) {
	for _, o := range []sslfilter.Options{testkit.Server(), testkit.Client()} {
		f := testkit.Filter(t, o)
		role := map[bool]string{false: "server", true: "client"}[o.Client]
		fips := ""
		if sslfilter.FIPSEnabled() {
			fips = " fips"
		}
		require.Equal(t, sslfilter.State{Client: o.Client, FIPS: sslfilter.FIPSEnabled(), ServerName: f.State().ServerName}, f.State())
		require.Equal(t, "- - - "+role+" handshaking"+fips+" received=0 sent=0", f.State().String())
		require.NoError(t, f.Close())
		require.Zero(t, f.State())
	}
	f := sslfilter.NewServerFilter(func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return nil, nil })
	defer f.Close()
	require.Equal(t, sslfilter.State{FIPS: sslfilter.FIPSEnabled()}, f.State())
	require.Zero(t, new(sslfilter.Filter).State())
}

// The counters include every byte on the wire, up to the close_notify of each side.
func TestStateCountsBytes(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			p := testkit.NewPair(t, testkit.Asking(testkit.UpTo(v)), testkit.Showing("client.crt", "client.key"))
			p.Cut = cut
			equal := func(when string) {
				t.Helper()
				server, client := p.Server.State(), p.Client.State()
				require.Equal(t, server.BytesSent, client.BytesReceived, when)
				require.Equal(t, client.BytesSent, server.BytesReceived, when)
			}
			require.NoError(t, p.Handshake())
			equal("handshake")
			before := p.Client.State()
			data := testkit.Bytes(40000, 1)
			require.NoError(t, p.Client.Send(data))
			wire := p.Client.Outgoing(nil)
			require.Equal(t, before.BytesSent+uint64(len(wire)), p.Client.State().BytesSent)
			p.Server.Deliver(wire)
			p.Transfer()
			equal("data")
			require.NoError(t, p.Client.CloseWrite())
			p.Transfer()
			require.NoError(t, p.Server.CloseWrite())
			p.Transfer()
			equal("closed")
		})
	})
}

// The methods that return a single fact agree with State at every moment of a connection.
// Resumed, which a server may call after each handshake, allocates nothing.
func TestStateSingleFacts(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		alpn := func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }
		server, client := testkit.Ctx(t, testkit.Server(alpn)), testkit.Ctx(t, testkit.Client(alpn, testkit.UpTo(v)))
		var session *sslfilter.Session
		for _, resumed := range []bool{false, true} {
			p := testkit.PairOf(t, server, client)
			equal := func(when string) {
				for _, f := range []*sslfilter.Filter{p.Server.Filter, p.Client.Filter} {
					s := f.State()
					require.Equal(t, s.Resumed, f.Resumed(), when)
					require.Equal(t, s.Cipher, strings.TrimSuffix(f.Cipher(), "(NONE)"), when)
					require.Equal(t, s.Version != 0, f.Version() != "(NONE)", when)
					require.Equal(t, []any{s.CipherSuite, s.Bits, s.Group, s.ALPN, s.ServerName},
						[]any{f.CipherSuite(), f.Bits(), f.Group(), f.ALPN(), f.ServerName()}, when)
					require.Zero(t, testing.AllocsPerRun(100, func() { f.Resumed() }), when)
				}
			}
			require.NoError(t, p.Client.SetSession(session))
			equal("new")
			require.NoError(t, p.Client.Handshake())
			p.Cut = func(wire []byte) [][]byte { equal("a flight is under way"); return testkit.Whole(wire) }
			p.Transfer()
			require.True(t, p.Client.HandshakeDone())
			equal("connected")
			require.Equal(t, resumed, p.Server.Resumed())
			require.Equal(t, resumed, p.Client.Resumed())
			for _, s := range p.Client.Sessions() {
				session = s
			}
			p.Server.Deliver([]byte("this is not TLS"))
			require.Error(t, p.Server.Err)
			equal("failed")
			require.NoError(t, p.Client.CloseWrite())
			equal("closing")
			p.Close()
			equal("closed")
			require.False(t, p.Server.Resumed())
		}
	})
}

// Resumed asks OpenSSL for one fact, and State asks for all of them.
func BenchmarkResumed(b *testing.B) {
	p := testkit.Connect(b, testkit.Server(), testkit.Client())
	for name, ask := range map[string]func(){"Resumed": func() { p.Server.Resumed() }, "State": func() { p.Server.State() }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}

// A name that the peer can choose is quoted and cut, so that it is one word of one line.
func TestStateString(t *testing.T) {
	s := sslfilter.State{
		HandshakeDone: true, Version: sslfilter.VersionTLS12, Cipher: "ECDHE-RSA-AES256-SHA", Group: 0x11ec,
		Resumed: true, FIPS: true, ClientCertRequested: true, Ticket: true, Renegotiations: 2, DHBits: 2048, Signature: "a", PeerSignature: "b",
		Shown: &sslfilter.ShownIdentity{Index: 1, Certificate: sslfilter.Certificate{Serial: []byte{1, 0xab}}}, ServerName: "xn--a.test", ALPN: "http/1.1", BytesReceived: 12, BytesSent: 34,
	}
	require.Equal(t, "TLSv1.2 ECDHE-RSA-AES256-SHA 0x11ec server resumed fips no-ems no-secure-renegotiation client-cert-requested ticket "+
		"renegotiations=2 dh-bits=2048 signature=a peer-signature=b shown=01:AB sni=xn--a.test alpn=http/1.1 received=12 sent=34", s.String())
	s.ServerName, s.ALPN = "a sni=b\n\x00\"\x1b[0m\xff", strings.Repeat("\x01", 1<<20)
	require.Contains(t, s.String(), ` sni="a\x20sni=b\n\x00\"\x1b[0m\xff" alpn="`)
	require.Regexp(t, stateLine, s.String())
	require.Less(t, len(s.String()), 10<<10)
}
