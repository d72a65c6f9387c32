package sslfilter_test

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// dhParams is the ASN.1 structure of PKCS #3 parameters, and the beginning of that of
// X9.42.
type dhParams struct{ P, G *big.Int }

func parseDH(t testing.TB, name string) (params dhParams) {
	t.Helper()
	var parts []*big.Int
	_, err := asn1.Unmarshal(testkit.DER(t, testkit.PKIBytes(t, name)), &parts)
	require.NoError(t, err)
	return dhParams{parts[0], parts[1]}
}

func (p dhParams) pem(t testing.TB) []byte {
	t.Helper()
	der, err := asn1.Marshal(p)
	require.NoError(t, err)
	return testkit.PEM("DH PARAMETERS", der)
}

// brokenDH returns dh2048 with a number that is not prime.
func brokenDH(t testing.TB) []byte {
	params := parseDH(t, "dh2048.pem")
	params.P.Sub(params.P, big.NewInt(2))
	return params.pem(t)
}

const dhSuite = "DHE-RSA-AES256-GCM-SHA384"

// dhServer returns options of a server that offers only DHE, at a security level.
func dhServer(level string, change func(*sslfilter.Options)) sslfilter.Options {
	return testkit.Server(testkit.Cipher(dhSuite+":@SECLEVEL="+level), testkit.TLS12, change)
}

// sentPrime returns dh_p of the ServerKeyExchange (RFC 5246 section 7.4.3).
func sentPrime(t testing.TB, raw []byte) *big.Int {
	t.Helper()
	var messages []byte
	for len(raw) >= 5 && raw[0] == 22 { // handshake records, until the first that is encrypted
		n := 5 + int(binary.BigEndian.Uint16(raw[3:]))
		messages = append(messages, raw[5:n]...)
		raw = raw[n:]
	}
	for len(messages) >= 4 {
		n := 4 + int(binary.BigEndian.Uint32(messages)&0xffffff)
		if messages[0] == 12 {
			size := int(binary.BigEndian.Uint16(messages[4:]))
			return new(big.Int).SetBytes(messages[6 : 6+size])
		}
		messages = messages[n:]
	}
	require.Fail(t, "no ServerKeyExchange")
	return nil
}

// dhClient accepts all parameters that its security level allows. It offers no group of
// RFC 7919, which OpenSSL 4.0 would prefer to the server's parameters.
func dhClient(level string) sslfilter.Options {
	client := testkit.Client(testkit.Cipher(dhSuite + ":@SECLEVEL=" + level))
	client.Groups = "P-256"
	return client
}

// connectDH connects server and a client with the lowest security level, and returns the
// prime that was used.
func connectDH(t testing.TB, server sslfilter.Options) *big.Int {
	t.Helper()
	p := testkit.NewPair(t, server, dhClient("0"))
	p.Record = true
	require.NoError(t, p.Handshake())
	require.Equal(t, dhSuite, p.Client.Cipher())
	require.NoError(t, p.Client.Send([]byte("over DHE")))
	p.Transfer()
	require.Equal(t, "over DHE", string(p.Server.Got))
	return sentPrime(t, p.Server.Raw)
}

// The security level decides which parameters are accepted, and these are used.
func TestDHE(t *testing.T) {
	for name, levels := range map[string]string{ // the levels that allow it
		"dh512.pem": "", "dh1024.pem": "01", "dh2048.pem": "012", "dhx2048.pem": "012", "dh3072.pem": "0123",
	} {
		for _, level := range []string{"0", "1", "2", "3"} {
			t.Run(name+" at level "+level, func(t *testing.T) {
				admitted := slices.Contains([]byte(levels), level[0])
				if admitted && (name == "dhx2048.pem" || name == "dh1024.pem") && !served(t, "own DH") {
					refuse(t, dhServer(level, func(o *sslfilter.Options) { o.DHCert, o.FIPS = testkit.PKI(name), true }), "DHCert", testkit.PKI(name))
					return
				}
				server := dhServer(level, func(o *sslfilter.Options) { o.DHCert = testkit.PKI(name) })
				if level == "3" { // which does not allow RSA-2048
					server.Cipher = "ECDHE-ECDSA-AES256-GCM-SHA384:" + server.Cipher
					server.Crt, server.Key = testkit.PKI("server-ec.crt"), testkit.PKI("server-ec.key")
				}
				if !admitted {
					refuse(t, server, "DHCert", testkit.PKI(name))
					return
				}
				if level == "3" {
					require.NoError(t, accepted(server))
					return
				}
				require.Zero(t, parseDH(t, name).P.Cmp(connectDH(t, server)))
			})
		}
	}
}

// Without DHCert there is no DHE before OpenSSL 4.0.
func TestDHNoneWithoutDHCert(t *testing.T) {
	if since(openssl40) {
		require.Equal(t, dhSuite, testkit.Connect(t, dhServer("2", nil), testkit.Client()).Client.Cipher())
		return
	}
	require.ErrorContains(t, refuse(t, dhServer("2", nil), "Cipher", ""), "DHE suites need DHCert")
	// other suites can still be negotiated
	both := testkit.Server(testkit.Cipher(dhSuite+":AES256-SHA"), testkit.TLS12)
	require.Equal(t, "AES256-SHA", testkit.Connect(t, both, testkit.Client()).Server.Cipher())
}

// If the client offers groups of RFC 7919, as 3.0 and later do, OpenSSL 4.0 uses one of
// them and ignores DHCert.
func TestDHCertAndNamedGroups(t *testing.T) {
	needsUnserved(t, "own DH")
	p := testkit.NewPair(t, dhServer("2", func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dhx2048.pem") }), testkit.Client(testkit.Cipher(dhSuite)))
	p.Record = true
	require.NoError(t, p.Handshake())
	ours := parseDH(t, "dhx2048.pem").P
	require.Equal(t, !since(openssl40), ours.Cmp(sentPrime(t, p.Server.Raw)) == 0)
}

// The client's security level decides which parameters of a server it accepts.
func TestDHClientRefusesWeak(t *testing.T) {
	needsUnserved(t, "own DH")
	server := dhServer("0", func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh1024.pem") })
	for level, admitted := range map[string]bool{"0": true, "1": true, "2": false} {
		p := testkit.NewPair(t, server, dhClient(level))
		err := p.Handshake()
		require.Equal(t, admitted, err == nil, "level %s: %v", level, err)
		if !admitted {
			require.ErrorContains(t, p.Client.Filter.Err(), "dh key too small")
			require.Equal(t, alertHandshakeFailure, testkit.As[sslfilter.AlertError](t, p.Server.Filter.Err()))
		}
	}
}

// DHCertMem accepts several forms of files, and rejects numbers that are not valid
// parameters.
func TestDHForms(t *testing.T) {
	good := parseDH(t, "dh2048.pem")
	for name, data := range map[string][]byte{
		"as it is":              testkit.PKIBytes(t, "dh2048.pem"),
		"text around":           around(t, "dh2048.pem"),
		"CRLF":                  crlf(t, "dh2048.pem"),
		"after other blocks":    joinFiles(t, "server.crt", "server-enc.key", "dh2048.pem"),
		"the first of two":      joinFiles(t, "dh2048.pem", "dh1024.pem"),
		"made by ourselves":     good.pem(t),
		"a broken one after it": slices.Concat(testkit.PKIBytes(t, "dh2048.pem"), brokenDH(t)),
		"a private key after":   joinFiles(t, "dh2048.pem", "server.key"),
	} {
		t.Run(name, func(t *testing.T) {
			server := dhServer("2", func(o *sslfilter.Options) { o.DHCertMem = data })
			require.Zero(t, good.P.Cmp(connectDH(t, server)))
		})
	}
	// As from "openssl dhparam -dsaparam": the prime is not a safe prime, which does not matter if keys are used once.
	if served(t, "own DH") {
		prime, err := rand.Prime(rand.Reader, 1024)
		require.NoError(t, err)
		unsafe := dhParams{prime, big.NewInt(2)}.pem(t)
		require.Zero(t, prime.Cmp(connectDH(t, dhServer("1", func(o *sslfilter.Options) { o.DHCertMem = unsafe }))))
	}

	one, even := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 2047)
	for name, params := range map[string]dhParams{
		"P is even":      {even, good.G},
		"P is not prime": {new(big.Int).Sub(good.P, big.NewInt(2)), good.G},
		"P is negative":  {new(big.Int).Neg(good.P), good.G},
		"G is 1":         {good.P, one},
		"G is P-1":       {good.P, new(big.Int).Sub(good.P, one)},
		"both are 0":     {new(big.Int), new(big.Int)},
		"P is 2^20 bits": {new(big.Int).Add(new(big.Int).Lsh(one, 1<<20), one), good.G},
		"P is a square":  {new(big.Int).Mul(good.P, good.P), good.G},
		"P is 1 and G 2": {one, big.NewInt(2)},
	} {
		t.Run(name, func(t *testing.T) {
			refuse(t, dhServer("0", func(o *sslfilter.Options) { o.DHCertMem = params.pem(t) }), "DHCertMem", "")
		})
	}
	broken := brokenDH(t)
	for range 2 { // rejected parameters are checked again
		refuse(t, dhServer("0", func(o *sslfilter.Options) { o.DHCertMem = broken }), "DHCertMem", "")
	}
}

// Each DHE connection of a context generates its own key.
func TestDHEKeysAreUsedOnce(t *testing.T) {
	server := testkit.Ctx(t, dhServer("2", func(o *sslfilter.Options) { o.DHCert = testkit.PKI("dh2048.pem") }))
	client := testkit.Ctx(t, testkit.Client(testkit.Cipher(dhSuite)))
	var flights []string
	for range 2 {
		p := testkit.PairOf(t, server, client)
		p.Record = true
		require.NoError(t, p.Handshake())
		flights = append(flights, string(dhPublic(t, p.Server.Raw)))
	}
	require.NotEqual(t, flights[0], flights[1])
}

// dhPublic returns dh_Ys of the ServerKeyExchange.
func dhPublic(t testing.TB, raw []byte) []byte {
	t.Helper()
	prime := sentPrime(t, raw).Bytes()
	_, rest, found := bytes.Cut(raw, prime)
	require.True(t, found)
	g := int(binary.BigEndian.Uint16(rest))
	rest = rest[2+g:]
	return rest[2 : 2+binary.BigEndian.Uint16(rest)]
}
