package sslfilter_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// rewritten returns a function that changes the session in a ticket of key, as a server that has the
// key could.
func rewritten(t *testing.T, key [80]byte, change func(session []byte)) func([]byte) []byte {
	return func(ticket []byte) []byte {
		block, err := aes.NewCipher(key[48:])
		require.NoError(t, err)
		iv, text := ticket[16:32], ticket[32:len(ticket)-32]
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(text, text)
		change(text)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
		mac := hmac.New(sha256.New, key[16:48])
		mac.Write(ticket[:len(ticket)-32])
		return mac.Sum(ticket[:len(ticket)-32])
	}
}

// older returns a function that makes the session in a ticket of key older.
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

// provedBefore returns a function that sets the time at which the client of a ticket of key has proved
// its private key: it is the first item of the data that the library adds to the session.
func provedBefore(t *testing.T, key [80]byte, by time.Duration) func([]byte) []byte {
	return rewritten(t, key, func(session []byte) {
		_, proved, found := bytes.Cut(session, []byte{1, 0, 0, 8, 0, 0, 0, 0})
		require.True(t, found)
		at := time.Unix(int64(binary.BigEndian.Uint32(proved)), 0)
		require.WithinDuration(t, time.Now(), at, time.Minute+testkit.Patience)
		binary.BigEndian.PutUint32(proved, uint32(at.Add(-by).Unix()))
	})
}

// living returns a function that sets the lifetime of the session in a ticket of key, which is [2]
// INTEGER of the SSL_SESSION and 7,200 seconds.
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

// In TLS 1.2, a session continues the keys of a handshake that this context itself would not make, if
// only DHCert or FIPS differ. docs/sessions.md says so.
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
