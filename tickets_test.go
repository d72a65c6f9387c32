package sslfilter_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// visitor is a client of crypto/tls that keeps the last session it was given.
type visitor struct {
	config  *tls.Config
	session *tls.ClientSessionState
}

// visiting returns a client with a certificate of the test PKI, or without one if crt is "".
func visiting(t testing.TB, highest sslfilter.Version, crt, key string) *visitor {
	t.Helper()
	v := new(visitor)
	v.config = testkit.GoClient(t, func(config *tls.Config) {
		config.MaxVersion, config.ClientSessionCache = uint16(highest), v
		if crt != "" {
			config.Certificates = []tls.Certificate{testkit.KeyPair(t, crt, key)}
		}
	})
	return v
}

func (v *visitor) Get(string) (*tls.ClientSessionState, bool) { return v.session, v.session != nil }

func (v *visitor) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		v.session = s
	}
}

// visit connects to a server of ctx, which must succeed, and reports whether the session was
// resumed.
func (v *visitor) visit(t testing.TB, ctx *sslfilter.Ctx) (resumed bool) {
	t.Helper()
	f := testkit.FilterOf(t, ctx)
	peer := testkit.TalkToGo(t, f, false, v.config)
	require.NoError(t, peer.Err)
	require.NoError(t, f.Err())
	require.Equal(t, "ping", peer.Got)
	require.Equal(t, peer.State.DidResume, f.Resumed())
	return f.Resumed()
}

// ticket returns the ticket of the session, and changes it if alter is given.
func (v *visitor) ticket(t testing.TB, alter func([]byte) []byte) []byte {
	t.Helper()
	ticket, state, err := v.session.ResumptionState()
	require.NoError(t, err)
	if alter != nil {
		encoded, err := state.Bytes()
		require.NoError(t, err)
		state, err = tls.ParseSessionState(encoded) // a copy, which NewResumptionState changes
		require.NoError(t, err)
		v.session, err = tls.NewResumptionState(alter(bytes.Clone(ticket)), state)
		require.NoError(t, err)
	}
	return ticket
}

func ticketKeys(t testing.TB, keys ...[80]byte) *sslfilter.TicketKeys {
	t.Helper()
	k, err := sslfilter.NewTicketKeys()
	require.NoError(t, err)
	if len(keys) > 0 {
		require.NoError(t, k.Set(keys...))
	}
	return k
}

// ticketKey returns a key with the name.
func ticketKey(name string) (key [80]byte) {
	copy(key[:], testkit.Bytes(len(key), uint64(name[0])))
	copy(key[:16], name+strings.Repeat(".", 16))
	return key
}

func sharing(k *sslfilter.TicketKeys) testkit.Change {
	return func(o *sslfilter.Options) { o.TicketKeys = k }
}

// Contexts that share their keys resume each other's sessions, if they have the same
// certificates. Otherwise a full handshake follows, which is never an error.
func TestTicketKeysAreShared(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t)
		first := testkit.Ctx(t, testkit.Server(sharing(k)))
		for name, c := range map[string]struct {
			second  sslfilter.Options
			resumes bool
		}{
			"the same":               {testkit.Server(sharing(k)), true},
			"another ALPN":           {testkit.Server(sharing(k), func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }), true},
			"keys of its own":        {testkit.Server(sharing(ticketKeys(t))), false},
			"keys of OpenSSL":        {testkit.Server(), false},
			"another certificate":    {testkit.ServerOf("server-inter", sharing(k)), false},
			"no tickets":             {testkit.Server(func(o *sslfilter.Options) { o.NumTickets = -1 }), false},
			"asks for a certificate": {testkit.Asking(), false},
			"requires a certificate": {testkit.Requiring(), false},
			"another version":        {testkit.Server(sharing(k), testkit.Only(sslfilter.VersionTLS12+sslfilter.VersionTLS13-highest)), false},
			"two certificates": {testkit.Server(sharing(k), func(o *sslfilter.Options) {
				o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")}}
			}), false},
		} {
			t.Run(name, func(t *testing.T) {
				crt, key := "", ""
				if c.second.RequireValidClientCert {
					crt, key = "client.crt", "client.key"
				}
				v := visiting(t, sslfilter.VersionTLS13, crt, key)
				v.config.MaxVersion = uint16(highest)
				require.False(t, v.visit(t, first))
				require.True(t, v.visit(t, first))
				if name == "another version" {
					v.config.MaxVersion = tls.VersionTLS13
				}
				second := testkit.Ctx(t, c.second)
				require.Equal(t, c.resumes, v.visit(t, second))
				require.Equal(t, c.second.NumTickets == 0 && !c.second.RequireValidClientCert && !c.second.ClientCert, v.visit(t, second), "the new ticket of the second context")
			})
		}
	})
}

// The session of another context does not bring back a suite that this one does not allow.
func TestTicketKeysBringNoSuiteBack(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t)
		v := visiting(t, highest, "", "")
		weak := testkit.Ctx(t, testkit.Server(sharing(k), testkit.Cipher("ECDHE-RSA-AES128-SHA"), func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_128_GCM_SHA256" }))
		require.False(t, v.visit(t, weak))
		require.True(t, v.visit(t, weak))
		strong := testkit.Ctx(t, testkit.Server(sharing(k), testkit.Cipher("ECDHE+AESGCM"), func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_256_GCM_SHA384" }))
		require.False(t, v.visit(t, strong))
		require.True(t, v.visit(t, strong))
	})
}

// Random keys encrypt for two hours and decrypt for two more.
func TestTicketKeysRotate(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t)
		ctx := testkit.Ctx(t, testkit.Server(sharing(k)))
		v := visiting(t, highest, "", "")
		require.False(t, v.visit(t, ctx))
		name := v.ticket(t, nil)[:16]

		sslfilter.AgeTicketKeys(k, 2*time.Hour-time.Minute)
		require.True(t, v.visit(t, ctx))
		require.Equal(t, name, v.ticket(t, nil)[:16])

		sslfilter.AgeTicketKeys(k, time.Minute)
		require.True(t, v.visit(t, ctx), "the key still decrypts")
		require.NotEqual(t, name, v.ticket(t, nil)[:16], "the new ticket has the new key")

		name = v.ticket(t, nil)[:16]
		sslfilter.AgeTicketKeys(k, 4*time.Hour)
		require.False(t, v.visit(t, ctx))
		require.NotEqual(t, name, v.ticket(t, nil)[:16])

		sslfilter.AgeTicketKeys(k, -time.Hour) // the clock was set back
		name = v.ticket(t, nil)[:16]
		require.False(t, v.visit(t, ctx))
		require.NotEqual(t, name, v.ticket(t, nil)[:16])
	})
}

// The first key of Set encrypts and all decrypt, in every object that has the same keys.
func TestTicketKeysSet(t *testing.T) {
	one, two := ticketKey("one"), ticketKey("two")
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t, one)
		ctx := testkit.Ctx(t, testkit.Server(sharing(k)))
		v := visiting(t, highest, "", "")
		require.False(t, v.visit(t, ctx))
		require.Equal(t, "one.............", string(v.ticket(t, nil)[:16]))
		require.True(t, v.visit(t, testkit.Ctx(t, testkit.Server(sharing(ticketKeys(t, one))))), "another server of the fleet")

		require.NoError(t, k.Set(two, one))
		require.True(t, v.visit(t, ctx))
		require.Equal(t, "two.............", string(v.ticket(t, nil)[:16]))
		sslfilter.AgeTicketKeys(k, 1000*time.Hour)
		require.True(t, v.visit(t, ctx), "these keys do not depend on time")

		require.NoError(t, k.Set(one))
		require.False(t, v.visit(t, ctx))
		wrong := two
		wrong[20]++
		require.NoError(t, k.Set(wrong, one))
		require.True(t, v.visit(t, ctx))
		require.False(t, v.visit(t, testkit.Ctx(t, testkit.Server(sharing(ticketKeys(t, two))))), "a key of this name with other bytes")
	})

	k := ticketKeys(t, one)
	var many [][80]byte
	for i := range 17 {
		many = append(many, ticketKey(string(rune('a'+i))))
	}
	require.NoError(t, k.Set(many[:16]...))
	for _, keys := range [][][80]byte{nil, many, {one, two, one}, {one, {}}} {
		testkit.As[*sslfilter.UsageError](t, k.Set(keys...))
	}
}

// Nothing is left in memory of a key that was replaced or is too old.
func TestTicketKeysAreOverwritten(t *testing.T) {
	var many [][80]byte
	for i := range 16 {
		many = append(many, ticketKey(string(rune('a'+i))))
	}
	k := ticketKeys(t, many...)
	require.Equal(t, 16, sslfilter.CountTicketKeys(k))
	for _, n := range []int{3, 1} {
		require.NoError(t, k.Set(many[16-n:]...))
		require.Equal(t, n, sslfilter.CountTicketKeys(k))
	}

	k = ticketKeys(t)
	require.Zero(t, sslfilter.CountTicketKeys(k))
	ctx, v := testkit.Ctx(t, testkit.Server(sharing(k))), visiting(t, sslfilter.VersionTLS13, "", "")
	for i, c := range []struct {
		age  time.Duration
		want int
	}{{0, 1}, {2 * time.Hour, 2}, {2 * time.Hour, 2}, {time.Hour, 2}, {4 * time.Hour, 1}, {2 * time.Hour, 2}, {-time.Hour, 3}, {-4 * time.Hour, 1}} {
		sslfilter.AgeTicketKeys(k, c.age)
		v.visit(t, ctx)
		require.Equal(t, c.want, sslfilter.CountTicketKeys(k), "%d", i)
	}
}

// A ticket that is forged, cut, too long or not a ticket leads to a full handshake.
func TestTicketKeysForeignTickets(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		ctx := testkit.Ctx(t, testkit.Server(sharing(ticketKeys(t))))
		v := visiting(t, highest, "", "")
		require.False(t, v.visit(t, ctx))
		ticket := v.ticket(t, nil)
		forged := map[string]func([]byte) []byte{
			"empty":    func([]byte) []byte { return []byte{} },
			"one byte": func(b []byte) []byte { return b[:1] },
			"its name": func(b []byte) []byte { return b[:16] },
			"no MAC":   func(b []byte) []byte { return b[:len(b)-32] },
			"longer":   func(b []byte) []byte { return append(b, 0) },
			"too long": func(b []byte) []byte { return append(b, make([]byte, 16<<10)...) },
			"random":   func(b []byte) []byte { return testkit.Bytes(len(b), 7) },
			"name of zeros": func(b []byte) []byte {
				clear(b[:16])
				return b
			},
		}
		for _, at := range []int{0, 15, 16, 31, 32, len(ticket) / 2, len(ticket) - 33, len(ticket) - 32, len(ticket) - 1} {
			forged["byte "+string(rune('A'+at%26))] = func(b []byte) []byte {
				b[at] ^= 1
				return b
			}
		}
		if highest == sslfilter.VersionTLS13 {
			delete(forged, "empty") // which is a malformed message
		}
		for name, alter := range forged {
			good := v.session
			v.ticket(t, alter)
			require.False(t, v.visit(t, ctx), name)
			require.True(t, v.visit(t, ctx), name)
			v.session = good
		}
		require.True(t, v.visit(t, ctx))
	})
}

// Under FIPS the provider encrypts and decrypts tickets, and contexts with and without it
// can share keys.
func TestTicketKeysFIPS(t *testing.T) {
	fips := inFIPS(t, testkit.Server())
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t)
		plain, strict := testkit.Ctx(t, testkit.Server(sharing(k))), testkit.Ctx(t, testkit.With(fips, sharing(k)))
		v := visiting(t, highest, "", "")
		require.False(t, v.visit(t, strict))
		require.True(t, v.visit(t, strict))
		require.True(t, v.visit(t, plain))
		sslfilter.AgeTicketKeys(k, 2*time.Hour)
		require.True(t, v.visit(t, plain))
		require.True(t, v.visit(t, strict))
	})
}

// A FIPS context that is made later, perhaps by a reload that then fails, does not prevent the
// other contexts from resuming their sessions. It does not use keys that another provider made.
func TestTicketKeysFIPSLater(t *testing.T) {
	fips := inFIPS(t, testkit.Server())
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t)
		plain := testkit.Ctx(t, testkit.Server(sharing(k)))
		before, v := visiting(t, highest, "", ""), visiting(t, highest, "", "")
		require.False(t, before.visit(t, plain))
		require.False(t, v.visit(t, plain))
		strict := testkit.Ctx(t, testkit.With(fips, sharing(k)))
		require.True(t, before.visit(t, plain))
		require.False(t, v.visit(t, strict))
		require.True(t, v.visit(t, plain))
		require.True(t, before.visit(t, strict), "the new ticket has the new key")
	})
}

// Keys outlive the contexts that use them, and the other way round.
func TestTicketKeysOutlive(t *testing.T) {
	k := ticketKeys(t)
	v := visiting(t, sslfilter.VersionTLS13, "", "")
	for i := range 3 {
		ctx, err := sslfilter.NewCtx(testkit.Server(sharing(k)))
		require.NoError(t, err)
		require.Equal(t, i > 0, v.visit(t, ctx))
		require.NoError(t, ctx.Close())
	}
	_, err := sslfilter.NewCtx(testkit.Server(sharing(k), func(o *sslfilter.Options) { o.CACrt = "missing" }))
	require.Error(t, err)
	ctx := testkit.Ctx(t, testkit.Server(sharing(new(sslfilter.TicketKeys))))
	v.visit(t, ctx)
	require.True(t, v.visit(t, ctx), "the zero value can be used")
}

func TestTicketKeysParse(t *testing.T) {
	a, b, c := ticketKey("a"), ticketKey("b"), ticketKey("c")
	line := func(keys ...[80]byte) (text []byte) {
		for _, key := range keys {
			copy(key[16:], slices.Concat(key[48:], key[16:48]))
			text = append(base64.StdEncoding.AppendEncode(text, key[:]), '\n')
		}
		return text
	}
	printable := [80]byte(bytes.Repeat([]byte("k"), 80))
	for name, x := range map[string]struct {
		file []byte
		want [][80]byte
		err  string
	}{
		"nginx":                {a[:], [][80]byte{a}, ""},
		"nginx, two":           {append(a[:80:80], b[:]...), [][80]byte{a, b}, ""},
		"printable":            {printable[:], [][80]byte{printable}, ""},
		"haproxy, one":         {line(a), [][80]byte{a}, ""},
		"haproxy, two":         {line(a, b), [][80]byte{a, b}, ""},
		"haproxy, three":       {line(a, b, c), [][80]byte{b, a, c}, ""},
		"haproxy, CRLF":        {bytes.ReplaceAll(line(a, b, c), []byte("\n"), []byte("\r\n")), [][80]byte{b, a, c}, ""},
		"empty":                {nil, nil, "the file has 0 bytes; a ticket key has 80"},
		"a blank line":         {[]byte("\n"), nil, "the file has 1 bytes; a ticket key has 80"},
		"AES-128":              {a[:48], nil, "the file has 48 bytes; a ticket key has 80"},
		"a line of AES-128":    {[]byte(base64.StdEncoding.EncodeToString(a[:48])), nil, "line 1 has a key of 48 bytes; a ticket key has 80"},
		"a line of other text": {append(line(a), "hello\n"...), nil, "line 2 is not in Base64"},
		"too many":             {bytes.Repeat(a[:], 17), nil, "the file has 17 ticket keys; 16 are possible"},
	} {
		got, err := sslfilter.ParseTicketKeys(x.file)
		if x.err != "" {
			require.EqualError(t, err, x.err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, x.want, got, name)
	}
}

func FuzzTicketKeys(f *testing.F) {
	key := ticketKey("a")
	f.Add(key[:])
	f.Add([]byte(base64.StdEncoding.EncodeToString(key[:]) + "\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		keys, err := sslfilter.ParseTicketKeys(file)
		if err != nil {
			require.Nil(t, keys)
			return
		}
		require.NotEmpty(t, keys)
		require.LessOrEqual(t, 80*len(keys), len(file))
		ticketKeys(t).Set(keys...)
	})
}

func TestTicketKeysErrors(t *testing.T) {
	k := ticketKeys(t)
	for text, o := range map[string]sslfilter.Options{
		"is for servers, and Client is set":                                                                    testkit.Client(sharing(k)),
		"is given, and NumTickets -1 means that no session is resumed":                                         testkit.Server(sharing(k), func(o *sslfilter.Options) { o.NumTickets = -1 }),
		"is given, but a server that asks for client certificates resumes sessions only with ResumeClientCert": testkit.Asking(sharing(k)),
	} {
		require.ErrorContains(t, refuse(t, o, "TicketKeys", ""), text)
	}
	clients := resuming(nil)
	for text, o := range map[string]sslfilter.Options{
		"is for servers, and Client is set":                            testkit.Client(clients),
		"is given, and NumTickets -1 means that no session is resumed": testkit.Asking(clients, func(o *sslfilter.Options) { o.NumTickets = -1 }),
		"needs ClientCert, BlockInvalidClientCert":                     testkit.Server(clients),
	} {
		require.ErrorContains(t, refuse(t, o, "ResumeClientCert", ""), text)
	}
	require.NoError(t, accepted(testkit.Asking(clients, func(o *sslfilter.Options) { o.NumTickets = 1 })))
	require.NoError(t, accepted(testkit.Asking(clients, conf("NumTickets", "1", "Options", "SessionTicket"))))
}

// trustingMem returns a change that trusts CAs, in this order.
func trustingMem(t *testing.T, files ...string) testkit.Change {
	return func(o *sslfilter.Options) {
		o.CACrt, o.CACrtMem = "", nil
		for _, file := range files {
			o.CACrtMem = append(o.CACrtMem, testkit.PKIBytes(t, file))
		}
	}
}

// State says why a session was not resumed.
func TestTicketsNotResumed(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		one := ticketKey("one")
		k := ticketKeys(t, one)
		weak := func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_128_GCM_SHA256" }
		strong := func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_256_GCM_SHA384" }
		both := func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256" }
		var otherHash sslfilter.NotResumed // in TLS 1.2 the suite of the session is used
		if highest == sslfilter.VersionTLS13 {
			otherHash = sslfilter.NotResumedCipher
		}
		revoked := testkit.TempFile(t, "crl.pem", testkit.CRL(t, testkit.Cert(t, "client.crt").SerialNumber.Int64()))
		for name, c := range map[string]struct {
			first, second sslfilter.Options
			crt, key      string
			alter         func([]byte) []byte
			want          sslfilter.NotResumed
			fails         bool
		}{
			"resumed":     {first: testkit.Server(sharing(k)), second: testkit.Server(sharing(k))},
			"unknown key": {first: testkit.Server(sharing(k)), second: testkit.Server(sharing(ticketKeys(t))), want: sslfilter.NotResumedUnknownKey},
			"forged": {first: testkit.Server(sharing(k)), second: testkit.Server(sharing(k)), want: sslfilter.NotResumedUnknownKey,
				alter: func(b []byte) []byte { return flipped(b, len(b)-1) }},
			"expired":             {first: testkit.Server(sharing(k)), second: testkit.Server(sharing(k)), want: sslfilter.NotResumedExpired, alter: older(t, one, 3*time.Hour)},
			"not expired":         {first: testkit.Server(sharing(k)), second: testkit.Server(sharing(k)), alter: older(t, one, time.Hour)},
			"another certificate": {first: testkit.Server(sharing(k)), second: testkit.ServerOf("server-inter", sharing(k)), want: sslfilter.NotResumedOtherContext},
			"another suite": {first: testkit.Server(sharing(k), testkit.Cipher("ECDHE-RSA-AES128-GCM-SHA256"), weak), second: testkit.Server(sharing(k), testkit.Cipher("ECDHE-RSA-AES256-GCM-SHA384"), strong),
				want: sslfilter.NotResumedCipher},
			"another hash":                     {first: testkit.Server(sharing(k), weak), second: testkit.Server(sharing(k), both), want: otherHash},
			"another hash, with a certificate": {first: testkit.Asking(resuming(k), weak), second: testkit.Asking(resuming(k), both), crt: "client.crt", key: "client.key", want: otherHash},
			"more suites":                      {first: testkit.Server(sharing(k), weak), second: testkit.Server(sharing(k), func(o *sslfilter.Options) { o.CipherSuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384" })},
			"another policy": {first: testkit.Asking(resuming(k)), second: testkit.Asking(resuming(k), depth(1)), crt: "client.crt", key: "client.key",
				want: sslfilter.NotResumedOtherContext},
			"CAs in another order": {first: testkit.Asking(resuming(k), trustingMem(t, "root.crt", "other.crt")), second: testkit.Asking(resuming(k), trustingMem(t, "other.crt", "root.crt")),
				crt: "client.crt", key: "client.key"},
			"another CA too": {first: testkit.Asking(resuming(k), trustingMem(t, "root.crt")), second: testkit.Asking(resuming(k), trustingMem(t, "root.crt", "other.crt")),
				crt: "client.crt", key: "client.key", want: sslfilter.NotResumedOtherContext},
			"certificate": {first: testkit.Asking(resuming(k)), second: testkit.Asking(resuming(k)), crt: "client.crt", key: "client.key"},
			"revoked": {first: testkit.Asking(resuming(k), crl(testkit.PKI("crl.pem"))), second: testkit.Asking(resuming(k), crl(revoked)), crt: "client.crt", key: "client.key",
				want: sslfilter.NotResumedClientCert},
			"revoked and refused": {first: testkit.Requiring(resuming(k), crl(testkit.PKI("crl.pem"))), second: testkit.Requiring(resuming(k), crl(revoked)), crt: "client.crt", key: "client.key",
				want: sslfilter.NotResumedClientCert, fails: true},
			"expired, with a certificate": {first: testkit.Asking(resuming(k)), second: testkit.Asking(resuming(k)), crt: "client.crt", key: "client.key",
				want: sslfilter.NotResumedExpired, alter: older(t, one, 3*time.Hour)},
			"old proof": {first: testkit.Asking(resuming(k)), second: testkit.Asking(resuming(k)), crt: "client.crt", key: "client.key",
				want: sslfilter.NotResumedOldProof, alter: provedBefore(t, one, 24*time.Hour+time.Minute)},
			"old proof, required": {first: testkit.Requiring(resuming(k)), second: testkit.Requiring(resuming(k)), crt: "client.crt", key: "client.key",
				want: sslfilter.NotResumedOldProof, alter: provedBefore(t, one, 1000*24*time.Hour)},
			"proof of today": {first: testkit.Asking(resuming(k)), second: testkit.Asking(resuming(k)), crt: "client.crt", key: "client.key",
				alter: provedBefore(t, one, 23*time.Hour)},
			"proof of the future": {first: testkit.Asking(resuming(k)), second: testkit.Asking(resuming(k)), crt: "client.crt", key: "client.key",
				want: sslfilter.NotResumedOldProof, alter: provedBefore(t, one, -24*time.Hour)},
			"no certificate": {first: testkit.Asking(resuming(k)), second: testkit.Asking(resuming(k)), want: sslfilter.NotResumedOther},
			"no keys known":  {first: testkit.Server(sharing(k)), second: testkit.Server()},
		} {
			t.Run(name, func(t *testing.T) {
				v := visiting(t, highest, c.crt, c.key)
				full, peer := v.meet(t, testkit.Ctx(t, c.first))
				require.NoError(t, peer.Err)
				require.Zero(t, full.State().NotResumed)
				if v.session == nil { // a ticket with nothing to resume
					return
				}
				if c.alter != nil {
					v.ticket(t, c.alter)
				}
				again, peer := v.meet(t, testkit.Ctx(t, c.second))
				require.Equal(t, c.fails, peer.Err != nil)
				state := again.State()
				require.Equal(t, c.want, state.NotResumed)
				require.Equal(t, c.want == 0 && name != "no keys known", state.Resumed)
				if c.want != 0 {
					require.Contains(t, state.String(), " not-resumed="+c.want.String())
				}
			})
		}
	})
	require.Len(t, sslfilter.NotResumedReasons(), 8)
	seen := make(map[string]bool)
	for _, reason := range sslfilter.NotResumedReasons() {
		require.Regexp(t, `^[a-z-]+$`, reason.String())
		require.False(t, seen[reason.String()])
		seen[reason.String()] = true
	}
	require.Equal(t, "reason-9", sslfilter.NotResumed(9).String())
	require.Empty(t, sslfilter.NotResumed(0).String())
}
