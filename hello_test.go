package sslfilter_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// extension is one extension of a ClientHello.
type extension struct {
	kind uint16
	body []byte
}

// vector returns b after its length, which takes n bytes.
func vector(n int, b []byte) []byte {
	size := binary.BigEndian.AppendUint64(nil, uint64(len(b)))
	return append(size[8-n:], b...)
}

func words(list ...uint16) (b []byte) {
	for _, n := range list {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b
}

func sni(name string) extension {
	return extension{0, vector(2, append([]byte{0}, vector(2, []byte(name))...))}
}

// clientHello returns the record of a ClientHello. Without extensions it has no list of
// them.
func clientHello(version uint16, session []byte, ciphers []uint16, extensions ...extension) []byte {
	body := append(words(version), make([]byte, 32)...)
	body = append(body, vector(1, session)...)
	body = append(body, vector(2, words(ciphers...))...)
	body = append(body, 1, 0)
	if extensions != nil {
		var list []byte
		for _, e := range extensions {
			list = append(append(list, words(e.kind)...), vector(2, e.body)...)
		}
		body = append(body, vector(2, list)...)
	}
	return tlsRecord(typeHandshake, message(1, body...)...)
}

func readHello(t testing.TB, wire []byte) *sslfilter.ClientHello {
	t.Helper()
	hello, err := sslfilter.ReadClientHello(wire)
	require.NoError(t, err)
	require.NotNil(t, hello)
	return hello
}

// The fields are those that crypto/tls reads from the same ClientHello. The list of
// extensions, which crypto/tls has too, is in the order of the message.
func TestHelloFields(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		c := testkit.Filter(t, testkit.Client(testkit.UpTo(v), func(o *sslfilter.Options) { o.ALPN = []string{"h2", "http/1.1"} }))
		require.NoError(t, c.Handshake())
		wire := c.Outgoing(nil)
		hello := readHello(t, wire)
		require.Equal(t, wire[5:], hello.Raw)

		var theirs *tls.ClientHelloInfo
		config := &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			theirs = info
			return nil, errors.New("seen")
		}}
		ours, far := testkit.Pipe()
		testkit.Say(t, far, string(wire))
		require.Error(t, tls.Server(ours, config).Handshake())

		require.Equal(t, theirs.ServerName, hello.ServerName)
		require.Equal(t, theirs.SupportedProtos, hello.ALPN)
		require.Equal(t, theirs.CipherSuites, hello.CipherSuites)
		require.Equal(t, theirs.Extensions, hello.Extensions)
		var groups []uint16
		for _, g := range theirs.SupportedCurves {
			groups = append(groups, uint16(g))
		}
		require.Equal(t, groups, hello.Groups)
		var schemes []uint16
		for _, s := range theirs.SignatureSchemes {
			schemes = append(schemes, uint16(s))
		}
		require.Equal(t, schemes, hello.SignatureAlgorithms)
		require.Contains(t, hello.Versions, v)
		require.Equal(t, v, slices.Max(hello.Versions))
	})
}

// A ClientHello is found as soon as its last byte has come, in records of any size, and
// never before. The bytes after it do not matter.
func TestHelloNeedsAllBytes(t *testing.T) {
	whole := clientHello(0x0303, nil, []uint16{0xc02f}, sni("name.example"))
	small := []byte{}
	for _, b := range whole[5:] {
		small = append(small, tlsRecord(typeHandshake, b)...)
	}
	for _, wire := range [][]byte{whole, small} {
		for n := range wire {
			hello, err := sslfilter.ReadClientHello(wire[:n])
			require.NoError(t, err)
			require.Nil(t, hello, "after %d bytes of %d", n, len(wire))
		}
		hello := readHello(t, wire)
		require.Equal(t, "name.example", hello.ServerName)
		require.Equal(t, whole[5:], hello.Raw)
		require.Equal(t, hello, readHello(t, append(slices.Clone(wire), "anything"...)))
	}
}

func TestHelloErrors(t *testing.T) {
	_, err := sslfilter.ReadClientHello([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.True(t, testkit.As[*sslfilter.Error](t, err).PlainHTTP())
	_, err = sslfilter.ReadClientHello(tlsRecord(typeHandshake, message(1, 3, 3)...))
	testkit.As[*sslfilter.Error](t, err)
	_, err = sslfilter.ReadClientHello(tlsRecord(typeAlert, 2, 40))
	testkit.As[*sslfilter.Error](t, err)

	padding := extension{21, make([]byte, 40<<10)}
	long := message(1, clientHello(0x0303, nil, []uint16{0xc02f}, padding, padding)[9:]...)
	var wire []byte
	for piece := range slices.Chunk(long, 16<<10) {
		wire = append(wire, tlsRecord(typeHandshake, piece...)...)
	}
	hello, err := sslfilter.ReadClientHello(wire[:sslfilter.MaxClientHello])
	require.NoError(t, err)
	require.Nil(t, hello)
	_, err = sslfilter.ReadClientHello(wire[:sslfilter.MaxClientHello+1])
	require.ErrorIs(t, err, sslfilter.ErrBufferFull)
}

// Everything that names a session is listed: the session id, the ticket of TLS 1.2 and the
// identities of TLS 1.3.
func TestHelloSessionIDs(t *testing.T) {
	psk := slices.Concat(vector(2, []byte("first")), make([]byte, 4), vector(2, []byte("second")), make([]byte, 4))
	identities := extension{41, append(vector(2, psk), vector(2, vector(1, make([]byte, 32)))...)}
	ticket := extension{35, []byte("a ticket")}
	for _, c := range []struct {
		name       string
		session    string
		extensions []extension
		want       []string
	}{
		{"nothing", "", []extension{{35, nil}}, nil},
		{"id", "an id", nil, []string{"an id"}},
		{"all", "an id", []extension{ticket, identities}, []string{"an id", "a ticket", "first", "second"}},
		{"malformed identities", "", []extension{ticket, {41, vector(2, vector(2, []byte("x")))}}, []string{"a ticket"}},
	} {
		var got []string
		for _, id := range readHello(t, clientHello(0x0303, []byte(c.session), []uint16{0x1301}, c.extensions...)).SessionIDs {
			got = append(got, string(id))
		}
		require.Equal(t, c.want, got, c.name)
	}
}

// Only what can name a stored session is looked for: the session id in TLS 1.2, and the
// identities of pre_shared_key in TLS 1.3, if they have the length of an id.
func TestHelloStoredIDs(t *testing.T) {
	name := func(b byte) string { return string(bytes.Repeat([]byte{b}, 32)) }
	var psk []byte
	for _, id := range []string{name(1), "short", name(2), name(3), name(4), name(5), name(6)} {
		psk = append(append(psk, vector(2, []byte(id))...), 0, 0, 0, 0)
	}
	tls13 := extension{43, vector(1, []byte{3, 4, 3, 3})}
	identities := extension{41, append(vector(2, psk), vector(2, vector(1, make([]byte, 32)))...)}
	stateful := func(o *sslfilter.Options) { o.StatefulSessions = true }
	both, old := testkit.Ctx(t, testkit.Server(stateful)), testkit.Ctx(t, testkit.Server(stateful, testkit.TLS12))
	for _, c := range []struct {
		name       string
		ctx        *sslfilter.Ctx
		session    string
		extensions []extension
		want       []string
	}{
		{"tickets", testkit.Ctx(t, testkit.Server()), name(9), nil, nil},
		{"TLS 1.2, no id", both, "", nil, nil},
		{"TLS 1.2, short id", both, "short", nil, nil},
		{"TLS 1.2", both, name(9), []extension{{35, []byte(name(8))}}, []string{name(9)}},
		{"TLS 1.3, random id", both, name(9), []extension{tls13}, nil},
		{"TLS 1.3", both, name(9), []extension{tls13, identities}, []string{name(1), name(2), name(3), name(4)}},
		{"TLS 1.3, no id", both, "", []extension{tls13, identities}, []string{name(1), name(2), name(3), name(4)}},
		{"TLS 1.3, and a server without it", old, name(9), []extension{tls13, identities}, []string{name(9)}},
	} {
		var got []string
		hello := readHello(t, clientHello(0x0303, []byte(c.session), []uint16{0x1301}, c.extensions...))
		for _, id := range c.ctx.StoredIDs(hello) {
			got = append(got, string(id))
		}
		require.Equal(t, c.want, got, c.name)
		require.Nil(t, c.ctx.StoredIDs(nil))
		hello.SessionIDs = nil
		require.Empty(t, c.ctx.StoredIDs(hello))
	}
}

// A malformed extension leaves its field empty, and the others as they are.
func TestHelloMalformedExtensions(t *testing.T) {
	good := clientHello(0x0303, nil, []uint16{0xc02f}, sni("name.example"), extension{16, vector(2, vector(1, []byte("h2")))},
		extension{10, vector(2, words(29))}, extension{13, vector(2, words(0x0403))}, extension{43, vector(1, words(0x0304))})
	hello := readHello(t, good)
	require.Equal(t, []string{"h2"}, hello.ALPN)
	require.Equal(t, []uint16{29}, hello.Groups)
	require.Equal(t, []uint16{0x0403}, hello.SignatureAlgorithms)
	require.Equal(t, []sslfilter.Version{sslfilter.VersionTLS13}, hello.Versions)

	for _, body := range [][]byte{nil, {0}, {0, 9, 1}, {0, 0, 1}, {0, 1, 9}, bytes.Repeat([]byte{0}, 7), bytes.Repeat([]byte{255}, 300)} {
		hello := readHello(t, clientHello(0x0303, nil, []uint16{0xc02f}, extension{0, body}, extension{16, body}, extension{10, body},
			extension{13, body}, extension{43, body}, extension{35, []byte("ticket")}))
		require.Empty(t, hello.ServerName, "%x", body)
		require.Empty(t, hello.ALPN, "%x", body)
		require.Empty(t, hello.Groups, "%x", body)
		require.Empty(t, hello.SignatureAlgorithms, "%x", body)
		require.Equal(t, []sslfilter.Version{sslfilter.VersionTLS12}, hello.Versions, "%x", body)
		require.Equal(t, [][]byte{[]byte("ticket")}, hello.SessionIDs, "%x", body)
		require.Equal(t, []uint16{0, 16, 10, 13, 43, 35}, hello.Extensions)
	}
	for _, name := range []string{strings.Repeat("n", 256), "a\x00b"} { // OpenSSL rejects them
		require.Empty(t, readHello(t, clientHello(0x0303, nil, []uint16{0xc02f}, sni(name))).ServerName)
	}
	two := append([]byte{0}, vector(2, []byte("one"))...)
	require.Empty(t, readHello(t, clientHello(0x0303, nil, []uint16{0xc02f}, extension{0, vector(2, slices.Concat(two, two))})).ServerName)
}

// Extensions that OpenSSL does not know, and GREASE values, are listed.
func TestHelloUnknownExtensions(t *testing.T) {
	hello := readHello(t, clientHello(0x0303, nil, []uint16{0x0a0a, 0xc02f}, extension{0x1a1a, nil}, extension{17513, []byte{1}}, sni("a"), extension{0xfafa, []byte{0}}))
	require.Equal(t, []uint16{0x1a1a, 17513, 0, 0xfafa}, hello.Extensions)
	require.Equal(t, []uint16{0x0a0a, 0xc02f}, hello.CipherSuites)
}

// OpenSSL before 4.0 accepts a ClientHello in the format of SSL 2.0.
func TestHelloOfSSL2(t *testing.T) {
	body := slices.Concat([]byte{1, 3, 3, 0, 9, 0, 0, 0, 16}, []byte{1, 0, 0x80, 0, 0xc0, 0x2f, 0, 0, 0xff}, make([]byte, 16))
	hello, err := sslfilter.ReadClientHello(append([]byte{0x80, byte(len(body))}, body...))
	if sslfilter.OpenSSLNumber() >= 4<<28 {
		require.Error(t, err)
		return
	}
	require.NoError(t, err)
	require.Equal(t, []uint16{0xc02f, 0x00ff}, hello.CipherSuites)
	require.Equal(t, []sslfilter.Version{sslfilter.VersionTLS12}, hello.Versions)
	require.Empty(t, hello.Extensions)
	require.Equal(t, body, hello.Raw)
	require.NotEmpty(t, hello.JA3())
	require.NotEmpty(t, hello.JA4())
}

// The examples of https://github.com/salesforce/ja3, built from their fields, with GREASE
// values that do not count.
func TestHelloJA3(t *testing.T) {
	const grease = 0x2a2a
	numbers := func(list string) (numbers []uint16) {
		for n := range strings.SplitSeq(list, "-") {
			if n, err := strconv.Atoi(n); err == nil {
				numbers = append(numbers, uint16(n))
			}
		}
		return numbers
	}
	for _, c := range []struct{ fields, ja3 string }{
		{"769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0", "ada70206e40642a3e4461f35503241d5"},
		{"769,4-5-10-9-100-98-3-6-19-18-99,,,", "de350869b8c85de67a350c8d186f11e6"},
	} {
		fields := strings.Split(c.fields, ",")
		var extensions []extension
		for _, kind := range numbers(fields[2]) {
			e := extension{kind: kind}
			switch kind {
			case 0:
				e = sni("name.example")
			case 10:
				e.body = vector(2, words(append([]uint16{grease}, numbers(fields[3])...)...))
			case 11:
				e.body = vector(1, []byte{0})
			}
			extensions = append(extensions, e)
		}
		if extensions != nil {
			extensions = append(extensions, extension{kind: grease})
		}
		version := numbers(fields[0])[0]
		hello := readHello(t, clientHello(version, nil, append([]uint16{grease}, numbers(fields[1])...), extensions...))
		require.Equal(t, c.ja3, hello.JA3(), c.fields)
	}
}

// Fingerprints and raw fingerprints of real clients, as the test data of
// https://github.com/FoxIO-LLC/ja4 gives them (JA4 and JA4_ro: parts in their original
// order). The ClientHello is built from the raw one, with GREASE values that do not count.
func TestHelloJA4(t *testing.T) {
	const grease = 0x3a3a
	for _, c := range []struct{ ja4, raw string }{
		{"t13d1615h2_46e7e9700bed_45f260be83e2", "t13d1615h2_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035,000a_0000,0017,ff01,000a,000b,0023,0010,0005,000d,0012,0033,002d,002b,001b,0015_0403,0804,0401,0503,0805,0501,0806,0601,0201"},
		{"t13d1516h2_8daaf6152771_e5627efa2ab1", "t13d1516h2_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_000d,0000,000a,0005,000b,002b,001b,ff01,0033,4469,002d,0023,0017,0012,0010,0015_0403,0804,0401,0503,0805,0501,0806,0601"},
		{"t13d1516h1_8daaf6152771_e5627efa2ab1", "t13d1516h1_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_000d,0033,0000,ff01,002b,0023,002d,0005,0012,000b,0017,4469,0010,001b,000a,0015_0403,0804,0401,0503,0805,0501,0806,0601"},
		{"t13d151400_8daaf6152771_de4a06bb82e3", "t13d151400_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_0033,002b,001b,0000,0012,002d,000d,000a,0005,0023,0017,ff01,000b,0015_0403,0804,0401,0503,0805,0501,0806,0601"},
		{"t13d1517h1_8daaf6152771_6cdcb247c39b", "t13d1517h1_1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_0000,0017,0005,002b,0012,0023,000a,0033,0010,002d,001b,4469,000b,000d,ff01,0015,0029_0403,0804,0401,0503,0805,0501,0806,0601"},
		{"t12d190800_d83cc789557e_7af1ed941c26", "t12d190800_c02c,c02b,c030,c02f,c024,c023,c028,c027,c00a,c009,c014,c013,009d,009c,003d,003c,0035,002f,000a_0000,0005,000a,000b,000d,0023,0017,ff01_0804,0805,0806,0401,0501,0201,0403,0503,0203,0202,0601,0603"},
		{"t12d4605h2_85626a9a5f7f_aaf95bb78ec9", "t12d4605h2_c030,c02c,c028,c024,c014,c00a,009f,006b,0039,cca9,cca8,ccaa,ff85,00c4,0088,0081,009d,003d,0035,00c0,0084,c02f,c02b,c027,c023,c013,c009,009e,0067,0033,00be,0045,009c,003c,002f,00ba,0041,c011,c007,0005,0004,c012,c008,0016,000a,00ff_0000,000b,000a,000d,0010_0601,0603,efef,0501,0503,0401,0403,eeee,eded,0301,0303,0201,0203"},
		{"t10d230100_6a57a6f57151_000000000000", "t10d230100_0039,0038,0035,0016,0013,000a,0033,0032,002f,009a,0099,0096,0005,0004,0015,0012,0009,0014,0011,0008,0006,0003,00ff_0000"},
	} {
		parts := append(strings.Split(c.raw, "_"), "")
		numbers := func(list string) (numbers []uint16) {
			for n := range strings.SplitSeq(list, ",") {
				if n, err := strconv.ParseUint(n, 16, 16); err == nil {
					numbers = append(numbers, uint16(n))
				}
			}
			return numbers
		}
		version := map[string]uint16{"13": 0x0303, "12": 0x0303, "10": 0x0301}[parts[0][1:3]]
		extensions := []extension{{kind: grease}}
		for _, kind := range numbers(parts[2]) {
			e := extension{kind: kind}
			switch kind {
			case 0:
				e = sni("name.example")
			case 13:
				e.body = vector(2, words(append([]uint16{grease}, numbers(parts[3])...)...))
			case 16:
				first := map[string]string{"h1": "http/1.1", "h2": "h2"}[parts[0][8:]]
				e.body = vector(2, slices.Concat(vector(1, []byte(first)), vector(1, []byte("spdy/1"))))
			case 43:
				e.body = vector(1, words(0xfafa, 0x0303, 0x0304))
			}
			extensions = append(extensions, e)
		}
		hello := readHello(t, clientHello(version, nil, append([]uint16{grease}, numbers(parts[1])...), extensions...))
		require.Equal(t, c.ja4, hello.JA4())
	}
	for protocol, want := range map[string]string{ // the examples of its technical_details/JA4.md
		"\xab": "ab", " ": "20", "\xab\xcd": "ad", " a": "21", "0\xab": "3b", "a ": "60", "01\xab\xcd": "3d", "0\xab\xcd1": "01", "h": "hh",
	} {
		hello := readHello(t, clientHello(0x0303, nil, []uint16{0xc02f}, extension{16, vector(2, vector(1, []byte(protocol)))}))
		require.Equal(t, fmt.Sprintf("t12i0101%s_", want), hello.JA4()[:11], "%q", protocol)
	}
	for want, protocols := range map[string][]string{"h2": {"\x0a\x0a", "h2"}, "h1": {"\xfa\xfa", "\x1a\x1a", "http/1.1"}, "00": {"\x0a\x0a"}, "0a": {"\x0a\x1a"}} {
		var list []byte
		for _, p := range protocols {
			list = append(list, vector(1, []byte(p))...)
		}
		hello := readHello(t, clientHello(0x0303, nil, []uint16{0xc02f}, extension{16, vector(2, list)}))
		require.Equal(t, protocols, hello.ALPN)
		require.Equal(t, fmt.Sprintf("t12i0101%s_", want), hello.JA4()[:11], "%q", protocols)
	}
}
