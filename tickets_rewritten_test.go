package sslfilter_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// openTicket decrypts a ticket of a server with this key. It returns the session, followed by padding.
func openTicket(t testing.TB, key [80]byte, ticket []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key[48:])
	require.NoError(t, err)
	text := bytes.Clone(ticket[32 : len(ticket)-32])
	cipher.NewCBCDecrypter(block, ticket[16:32]).CryptBlocks(text, text)
	return text
}

// sealTicket encrypts a session, to which padding was added, and returns the ticket. This needs only the key.
func sealTicket(t testing.TB, key [80]byte, text []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key[48:])
	require.NoError(t, err)
	ticket := slices.Concat(key[:16], make([]byte, 16), text)
	cipher.NewCBCEncrypter(block, ticket[16:32]).CryptBlocks(ticket[32:], text)
	mac := hmac.New(sha256.New, key[16:48])
	mac.Write(ticket)
	return mac.Sum(ticket)
}

// rewritten returns a function that changes the session in a ticket. This needs only the key.
func rewritten(t *testing.T, key [80]byte, change func(session []byte)) func([]byte) []byte {
	return func(ticket []byte) []byte {
		text := openTicket(t, key, ticket)
		change(text)
		return sealTicket(t, key, text)
	}
}

// older returns a function that makes the session in a ticket older.
func older(t *testing.T, key [80]byte, by time.Duration) func([]byte) []byte {
	return rewritten(t, key, func(session []byte) {
		now := time.Now().Unix()
		at := -1
		for ago := range int64(testkit.Patience/time.Second) + 60 { // the SSL_SESSION has its time as [1] INTEGER
			if at = bytes.Index(session, binary.BigEndian.AppendUint32([]byte{0xa1, 6, 2, 4}, uint32(now-ago))); at >= 0 {
				binary.BigEndian.PutUint32(session[at+4:], uint32(now-ago-int64(by/time.Second)))
				break
			}
		}
		require.GreaterOrEqual(t, at, 0, "the session has no time")
	})
}

// provedBefore returns a function that changes a ticket so that its client proved possession of its
// private key earlier. This time is the first item of the data that the library adds to the session.
func provedBefore(t *testing.T, key [80]byte, by time.Duration) func([]byte) []byte {
	return rewritten(t, key, func(session []byte) {
		_, proved, found := bytes.Cut(session, []byte{1, 0, 0, 8, 0, 0, 0, 0})
		require.True(t, found)
		at := time.Unix(int64(binary.BigEndian.Uint32(proved)), 0)
		require.WithinDuration(t, time.Now(), at, time.Minute+testkit.Patience)
		binary.BigEndian.PutUint32(proved, uint32(at.Add(-by).Unix()))
	})
}

// living returns a function that sets the lifetime of the session in a ticket: the [2] INTEGER
// of the SSL_SESSION, which is 7,200 seconds before the change.
func living(t *testing.T, key [80]byte, lifetime time.Duration) func([]byte) []byte {
	return rewritten(t, key, func(session []byte) {
		at := bytes.Index(session, []byte{0xa2, 4, 2, 2, 0x1c, 0x20})
		require.GreaterOrEqual(t, at, 0, "the session has no lifetime")
		binary.BigEndian.PutUint16(session[at+4:], uint16(lifetime/time.Second))
	})
}

// A session has the lifetime of the server that made it, for example the ssl_session_timeout of nginx.
func TestTicketsOfAnotherLifetime(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		one := ticketKey("one")
		ctx := testkit.Ctx(t, testkit.Server(sharing(ticketKeys(t, one))))
		for _, c := range []struct {
			lifetime, age time.Duration
			resumes       bool
		}{{9 * time.Hour, 8 * time.Hour, true}, {9 * time.Hour, 10 * time.Hour, false}, {5 * time.Minute, time.Hour, false}} {
			v := visiting(t, highest, "", "")
			require.False(t, v.visit(t, ctx))
			v.ticket(t, living(t, one, c.lifetime))
			v.ticket(t, older(t, one, c.age))
			require.Equal(t, c.resumes, v.visit(t, ctx), "%+v", c)
		}
	})
}

// In TLS 1.2, a session whose keys come from a handshake that this context would not make is resumed
// nevertheless, if the contexts differ only in DHCert or FIPS. docs/sessions.md says so.
func TestTicketsAreNotBound(t *testing.T) {
	dh := func(file string) testkit.Change {
		return func(o *sslfilter.Options) {
			o.Cipher, o.DHCert = dhSuite+":ECDHE-RSA-AES256-GCM-SHA384:@SECLEVEL=2", testkit.PKI(file)
		}
	}
	fips := func(o *sslfilter.Options) { *o = inFIPS(t, *o) }
	for name, c := range map[string]struct {
		client        string
		first, second testkit.Change
		fips          bool
	}{
		"DHCert": {client: dhSuite, first: dh("dh2048.pem"), second: dh("dhx2048.pem")},
		"FIPS":   {client: "ECDHE-RSA-AES256-GCM-SHA384", second: fips, fips: true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.fips {
				testkit.FIPSConfig(t)
			} else if !served(t, "own DH") {
				return
			}
			for _, certificate := range []bool{false, true} {
				k := ticketKeys(t, ticketKey("one"))
				server, crt := testkit.Server(sharing(k)), ""
				if certificate {
					server, crt = testkit.Requiring(resuming(k)), "client.crt"
				}
				g := &guest{ctx: testkit.Ctx(t, testkit.Showing(crt, "", testkit.TLS12, testkit.Cipher(c.client), func(o *sslfilter.Options) { o.Groups = "P-256" }))}
				require.False(t, shelf{}.visit(t, g, testkit.Ctx(t, testkit.With(server, c.first))).Resumed())
				second := testkit.Ctx(t, testkit.With(server, c.second))
				require.Equal(t, !certificate || !c.fips, shelf{}.visit(t, g, second).Resumed(), "certificate: %t", certificate)
			}
		})
	}
}

// padded returns b with the padding of CBC.
func padded(b []byte) []byte {
	n := aes.BlockSize - len(b)%aes.BlockSize
	return append(bytes.Clone(b), bytes.Repeat([]byte{byte(n)}, n)...)
}

// appData returns the application data in a session in DER form, and the session with other data.
func appData(t testing.TB, session, other []byte) (data, changed []byte) {
	t.Helper()
	var fields []asn1.RawValue
	_, err := asn1.Unmarshal(session, &fields)
	require.NoError(t, err)
	i := slices.IndexFunc(fields, func(v asn1.RawValue) bool { return v.Class == asn1.ClassContextSpecific && v.Tag == 18 })
	require.GreaterOrEqual(t, i, 0)
	_, err = asn1.Unmarshal(fields[i].Bytes, &data)
	require.NoError(t, err)
	fields[i].Bytes, err = asn1.Marshal(other)
	require.NoError(t, err)
	fields[i].FullBytes = nil
	changed, err = asn1.Marshal(fields)
	require.NoError(t, err)
	return data, changed
}

// Invariant: whatever is in an authentic ticket of a client with a certificate (data is the session,
// or only the data that this library adds to it), there is no panic, and a handshake that completes
// has a valid client.
func FuzzClientTicket(f *testing.F) {
	key := ticketKey("one")
	ctx := testkit.Ctx(f, testkit.Requiring(resuming(ticketKeys(f, key))))
	visitors, sessions := make(map[bool]*visitor), make(map[bool][]byte)
	for _, tls13 := range []bool{false, true} {
		v := visiting(f, map[bool]sslfilter.Version{false: sslfilter.VersionTLS12, true: sslfilter.VersionTLS13}[tls13], "client.crt", "client.key")
		require.False(f, v.visit(f, ctx))
		text := openTicket(f, key, v.ticket(f, nil))
		session := text[:len(text)-int(text[len(text)-1])]
		visitors[tls13], sessions[tls13] = v, session
		f.Add(tls13, true, session)
		good, _ := appData(f, session, nil)
		certs := good[1+3+8+3:]
		longer := bytes.Clone(good)
		longer[len(good)-len(certs)] = 0xff // the length of the first certificate
		for _, data := range [][]byte{nil, good, good[:1], good[:4], good[:12], good[:15], good[:len(good)-1], append(bytes.Clone(good), 0, 0, 0), longer,
			append(bytes.Clone(good[:15]), bytes.Repeat(certs, 12)...), append([]byte{1, 0, 0, 0, 0, 0, 0}, certs...)} {
			f.Add(tls13, false, data)
		}
	}
	f.Fuzz(func(t *testing.T, tls13, whole bool, data []byte) {
		session := data
		if !whole {
			_, session = appData(t, sessions[tls13], data)
		}
		if len(session) > 14<<10 { // has to fit into a ClientHello
			return
		}
		v := &visitor{config: visitors[tls13].config.Clone(), session: visitors[tls13].session}
		v.config.ClientSessionCache = v
		v.ticket(t, func([]byte) []byte { return sealTicket(t, key, padded(session)) })
		server, peer := v.meet(t, ctx)
		require.False(t, sslfilter.ErrorQueued())
		require.Equal(t, server.HandshakeDone(), server.ClientCertValid())
		if genuine, _ := appData(t, sessions[tls13], nil); !whole && !bytes.Equal(data, genuine) {
			require.NoError(t, peer.Err, "at worst, a full handshake")
			require.True(t, server.HandshakeDone())
		}
		if err := server.Err(); err != nil {
			landmark(err.Error())
		}
		landmark(server.State().NotResumed.String())
	})
}
