package sslfilter_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var staticKey = testkit.Bytes(32, 14)

// phrase returns the option for a passphrase.
func phrase(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

// newCipher makes a Cipher that is closed at the end of the test.
func newCipher(t testing.TB, o sslfilter.CipherOptions) *sslfilter.Cipher {
	t.Helper()
	c, err := sslfilter.NewCipher(o)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// sealedPair makes a client and a server with the same options.
func sealedPair(t testing.TB, o sslfilter.CipherOptions) (client, server *sslfilter.Cipher) {
	t.Helper()
	server = newCipher(t, o)
	o.Client = true
	return newCipher(t, o), server
}

// exchange moves bytes between two ciphers until nothing is left to send, and returns what
// each has received.
func exchange(t testing.TB, client, server *sslfilter.Cipher, cut testkit.Cut) (byServer, byClient []byte) {
	t.Helper()
	for moved := true; moved; {
		moved = false
		for _, way := range []struct {
			from, to *sslfilter.Cipher
			got      *[]byte
		}{{client, server, &byServer}, {server, client, &byClient}} {
			wire := way.from.Outgoing(nil)
			moved = moved || len(wire) > 0
			for _, piece := range cut(wire) {
				var err error
				if *way.got, err = way.to.Receive(*way.got, piece); err != nil {
					require.Equal(t, io.EOF, err)
				}
			}
			require.NoError(t, way.from.Err())
			require.True(t, way.from.Flushed() || len(wire) > 0)
		}
	}
	return byServer, byClient
}

// sealedCiphers lists AEADs of OpenSSL with the version that introduced them.
var sealedCiphers = []struct {
	name  string
	since uint64
}{
	{"", 0}, {"AES-128-GCM", 0}, {"aes-192-gcm", 0}, {"AES-256-GCM", 0}, {"AES-128-CCM", 0}, {"id-aes256-CCM", 0}, {"AES-128-OCB", 0}, {"AES-256-OCB", 0},
	{"ChaCha20-Poly1305", 0}, {"ARIA-256-GCM", 0}, {"ARIA-128-CCM", 0}, {"AES-128-GCM-SIV", openssl32}, {"AES-256-GCM-SIV", openssl32},
	{"SM4-GCM", openssl32}, {"SM4-CCM", openssl32},
}

// aeadInFIPS reports whether the name is one of the AEADs of the FIPS provider.
func aeadInFIPS(name string) bool {
	name = strings.ToUpper(name)
	return name == "" || strings.Contains(name, "AES") && !strings.Contains(name, "SIV") && !strings.Contains(name, "OCB")
}

// Both directions carry data with each AEAD, whichever way the bytes are cut, and end.
func TestCipherCarriesData(t *testing.T) {
	long := testkit.Bytes(300_000, 1)
	for _, c := range sealedCiphers {
		t.Run("cipher="+c.name, func(t *testing.T) {
			if !since(c.since) {
				_, err := sslfilter.NewCipher(sslfilter.CipherOptions{Cipher: c.name, Key: staticKey})
				needs := testkit.As[*sslfilter.VersionError](t, err)
				require.Equal(t, "3.2", needs.Needs)
				return
			}
			if sslfilter.FIPSEnabled() && !aeadInFIPS(c.name) {
				_, err := sslfilter.NewCipher(sslfilter.CipherOptions{Cipher: c.name, Key: staticKey})
				require.EqualError(t, err, fmt.Sprintf("sslfilter: option Cipher: this OpenSSL does not have %q in FIPS mode", c.name))
				return
			}
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				client, server := sealedPair(t, sslfilter.CipherOptions{Cipher: c.name, Key: staticKey})
				require.NoError(t, server.Send([]byte("banner")))
				require.Empty(t, server.Outgoing(nil), "a server waits for the client's first record")
				require.NoError(t, client.Send([]byte("hello")))
				up, down := exchange(t, client, server, cut)
				require.Equal(t, "hello", string(up))
				require.Equal(t, "banner", string(down))
				require.NoError(t, client.Send(long))
				require.NoError(t, server.Send([]byte("x")))
				require.NoError(t, server.Send(long))
				require.NoError(t, server.CloseWrite())
				up, down = exchange(t, client, server, cut)
				require.True(t, bytes.Equal(long, up))
				require.True(t, bytes.Equal(append([]byte("x"), long...), down))
				require.NoError(t, client.Send([]byte("after the end of the other side")))
				require.NoError(t, client.CloseWrite())
				up, _ = exchange(t, client, server, cut)
				require.Equal(t, "after the end of the other side", string(up))
				require.Equal(t, io.EOF, client.ReceiveEOF())
				require.Equal(t, io.EOF, server.ReceiveEOF())
			})
		})
	}
}

// A client's output alone, as in an encrypted file, is enough for a server.
func TestCipherOneWay(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	data := testkit.Bytes(100_000, 2)
	require.NoError(t, client.Send(data))
	require.NoError(t, client.CloseWrite())
	file := client.Outgoing(nil)
	require.True(t, client.Flushed())
	got, err := server.Receive(nil, file)
	require.Equal(t, io.EOF, err)
	require.True(t, bytes.Equal(data, got))
	require.False(t, server.Fresh(), "a file can be a recording")
	require.Equal(t, io.EOF, server.ReceiveEOF())

	client, server = sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.CloseWrite())
	got, err = server.Receive(nil, client.Outgoing(nil))
	require.Equal(t, io.EOF, err)
	require.Empty(t, got)
}

// Passphrases work with each function that derives a key from them, and another passphrase
// is noticed with the first record.
func TestCipherPassphrase(t *testing.T) {
	for name, o := range map[string]sslfilter.CipherOptions{
		"default": {}, "PBKDF2": {Iterations: sslfilter.MinCipherIterations}, "SHA-512": {Digest: "sha-512", Iterations: sslfilter.MinCipherIterations},
	} {
		t.Run(name, func(t *testing.T) {
			o.Passphrase = phrase("correct horse")
			server := newCipher(t, sslfilter.CipherOptions{Passphrase: o.Passphrase})
			client := newCipher(t, sslfilter.CipherOptions{Client: true, Passphrase: o.Passphrase, Digest: o.Digest, Iterations: o.Iterations})
			require.NoError(t, client.Send([]byte("hello")))
			up, _ := exchange(t, client, server, testkit.Whole)
			require.Equal(t, "hello", string(up))

			other := newCipher(t, sslfilter.CipherOptions{Passphrase: phrase("incorrect")})
			again := newCipher(t, sslfilter.CipherOptions{Client: true, Passphrase: o.Passphrase, Digest: o.Digest, Iterations: o.Iterations})
			require.NoError(t, again.Send([]byte("hello")))
			got, err := other.Receive(nil, again.Outgoing(nil))
			require.Empty(t, got)
			require.ErrorContains(t, err, "the peer has another passphrase")
			require.Empty(t, other.Outgoing(nil), "nothing is said to a peer that does not have the passphrase")
		})
	}
}

// The server knows that the client is not a recording when the client has answered its
// header, and not before.
func TestCipherFresh(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.Send([]byte("first flight")))
	first := client.Outgoing(nil)
	got, err := server.Receive(nil, first)
	require.NoError(t, err)
	require.Equal(t, "first flight", string(got))
	require.False(t, server.Fresh())
	require.False(t, client.Fresh())
	require.False(t, server.Flushed(), "the header waits")
	_, err = client.Receive(nil, server.Outgoing(nil))
	require.NoError(t, err)
	require.True(t, client.Fresh())
	require.False(t, client.Flushed(), "the answer to the header waits")
	answer := client.Outgoing(nil)
	_, err = server.Receive(nil, answer)
	require.NoError(t, err)
	require.True(t, server.Fresh())

	// A recording of the whole connection is accepted up to the answer.
	again := newCipher(t, sslfilter.CipherOptions{Key: staticKey})
	got, err = again.Receive(nil, first)
	require.NoError(t, err)
	require.Equal(t, "first flight", string(got))
	_, err = again.Receive(nil, answer)
	require.ErrorContains(t, err, "record 2 is not authentic")
	require.False(t, again.Fresh())
}

// cutRecords divides the output of a side that begins with a header into the header and
// its records.
func cutRecords(wire []byte) (records [][]byte) {
	at := 48 + int(wire[47])
	records = append(records, wire[:at])
	for at < len(wire) {
		end := at + 19 + int(wire[at+1])<<8 + int(wire[at+2])
		records, at = append(records, wire[at:end]), end
	}
	return records
}

// No alteration of the stream passes: records that are dropped, repeated, reordered or
// taken from another connection, each byte that is altered, each cut.
func TestCipherAlteredRecordsNeverPass(t *testing.T) {
	sent := func() [][]byte {
		client := newCipher(t, sslfilter.CipherOptions{Client: true, Key: staticKey})
		var wire []byte
		for _, text := range []string{"one", "two", "three"} {
			require.NoError(t, client.Send([]byte(text)))
			wire = client.Outgoing(wire)
		}
		require.NoError(t, client.CloseWrite())
		return cutRecords(client.Outgoing(wire))
	}
	records, others := sent(), sent()
	require.Len(t, records, 6) // header, begin, three, end
	receive := func(wire []byte) (string, *sslfilter.Cipher, error) {
		server := newCipher(t, sslfilter.CipherOptions{Key: staticKey})
		got, err := server.Receive(nil, wire)
		return string(got), server, err
	}
	got, _, err := receive(slices.Concat(records...))
	require.Equal(t, io.EOF, err)
	require.Equal(t, "onetwothree", got)
	for name, list := range map[string][][]byte{
		"dropped":                        {records[0], records[1], records[3], records[4], records[5]},
		"repeated":                       {records[0], records[1], records[2], records[2], records[3]},
		"reordered":                      {records[0], records[1], records[3], records[2]},
		"end too early":                  {records[0], records[1], records[2], records[5]},
		"of another connection":          {records[0], records[1], others[2]},
		"header of another connection":   {others[0], records[1]},
		"begin missing":                  {records[0], records[2]},
		"begin twice":                    {records[0], records[1], records[1]},
		"a type that does not exist":     {records[0], records[1], {9, 0, 1}},
		"too long":                       {records[0], records[1], {0, 0x40, 1}},
		"empty":                          {records[0], records[1], {0, 0, 0}},
		"an end of two bytes":            {records[0], records[1], {3, 0, 2}},
		"a change of keys by a stranger": {records[0], records[1], append([]byte{2, 0, 1}, make([]byte, 17)...)},
	} {
		t.Run(name, func(t *testing.T) {
			want, _, wantErr := receive(slices.Concat(list...))
			require.Error(t, wantErr)
			require.NotErrorIs(t, wantErr, io.EOF)
			require.True(t, strings.HasPrefix("onetwothree", want))
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				server := newCipher(t, sslfilter.CipherOptions{Key: staticKey})
				var all []byte
				for _, piece := range cut(slices.Concat(list...)) {
					all, err = server.Receive(all, piece)
				}
				require.Equal(t, want, string(all))
				require.EqualError(t, err, wantErr.Error(), "the error does not depend on how the input is cut")
				require.Equal(t, err, server.Err())
				require.Equal(t, err, server.Send([]byte("x")))
				require.Equal(t, err, server.ReceiveEOF())
			})
		})
	}
	wire := slices.Concat(records...)
	for i := range wire {
		for _, bit := range []byte{1, 0x80} {
			altered := slices.Clone(wire)
			altered[i] ^= bit
			got, server, err := receive(altered)
			if err == nil {
				err = server.ReceiveEOF()
			}
			require.NotErrorIs(t, err, io.EOF, "byte %d", i)
			require.Error(t, err, "byte %d", i)
			require.True(t, strings.HasPrefix("onetwothree", got), "byte %d", i)
		}
		got, server, err := receive(wire[:i])
		require.NoError(t, err)
		require.True(t, strings.HasPrefix("onetwothree", got))
		cut := testkit.As[*sslfilter.TruncatedError](t, server.ReceiveEOF())
		require.ErrorIs(t, cut, io.ErrUnexpectedEOF)
		inHandshake := i < len(records[0])+len(records[1])
		require.Equal(t, inHandshake, cut.InHandshake, "%d bytes", i)
	}
}

// A client that has ended its stream before it gets the server's first record sends
// nothing more: the bytes after the end belong to the next layer.
func TestCipherNothingAfterTheEnd(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.CloseWrite())
	_, err := server.Receive(nil, client.Outgoing(nil))
	require.Equal(t, io.EOF, err)
	require.NoError(t, server.Send([]byte("late")))
	require.NoError(t, server.CloseWrite())
	got, err := client.Receive(nil, server.Outgoing(nil))
	require.Equal(t, io.EOF, err)
	require.Equal(t, "late", string(got))
	require.True(t, client.Fresh())
	require.True(t, client.Flushed())
	require.Empty(t, client.Outgoing(nil))
	_, err = client.Detach()
	require.NoError(t, err)
	require.Empty(t, client.Outgoing(nil))
}

// The output of a side does not pass as that of its peer.
func TestCipherReflection(t *testing.T) {
	client := newCipher(t, sslfilter.CipherOptions{Client: true, Key: staticKey})
	require.NoError(t, client.Send([]byte("hello")))
	wire := client.Outgoing(nil)
	_, err := client.Receive(nil, wire)
	require.ErrorContains(t, err, "both sides are clients")

	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.Send([]byte("hello")))
	wire = client.Outgoing(nil)
	_, err = server.Receive(nil, wire)
	require.NoError(t, err)
	header := server.Outgoing(nil)
	reflected := append(slices.Clone(header[:48+int(header[47])]), wire[48+int(wire[47]):]...)
	_, err = client.Receive(nil, reflected)
	require.ErrorContains(t, err, "another key")
}

// A header that cannot be used is refused with its reason, whichever way it is cut, and
// before the key of a passphrase is computed.
func TestCipherHeaders(t *testing.T) {
	client := newCipher(t, sslfilter.CipherOptions{Client: true, Key: staticKey})
	require.NoError(t, client.Send(nil))
	good := client.Outgoing(nil)
	with := func(at int, b ...byte) []byte {
		h := slices.Clone(good)
		copy(h[at:], b)
		return h
	}
	for name, c := range map[string]struct {
		wire       []byte
		client     bool
		passphrase bool
		want       string
	}{
		"not a stream":       {[]byte("GET / HTTP/1.1\r\n\r\n"), false, false, "not a sealed stream"},
		"the other format":   {[]byte("Salted__12345678"), false, false, "CipherEnc, not CipherSealed"},
		"version":            {with(8, 2), false, false, "version of the sealed stream is 2"},
		"role":               {with(9, 7), false, false, "the role 7 is unknown"},
		"both servers":       {with(9, 2), false, false, "both are servers"},
		"unknown KDF":        {with(10, 9, 0, 0, 0, 1), false, true, "function 9"},
		"scrypt too cheap":   {with(10, 1, 0, 0, 0, 13), false, true, "cost 13"},
		"scrypt too dear":    {with(10, 1, 0, 0, 0, 18), false, true, "cost 18"},
		"PBKDF2 too cheap":   {with(10, 2, 0, 0, 0, 1), false, true, "cost 1 of"},
		"PBKDF2 too dear":    {with(10, 3, 0xff, 0xff, 0xff, 0xff), false, true, "cost 4294967295"},
		"cost without a KDF": {with(10, 0, 0, 0, 0, 1), false, false, "parameters of a passphrase"},
		"passphrase, no key": {with(10, 1, 0, 0, 0, 15), false, false, "the client uses a passphrase, and this side a key"},
		"key, no passphrase": {good, false, true, "the client uses a key, and this side a passphrase"},
		"KDF of a server":    {with(9, 2, 1, 0, 0, 0, 15), true, false, "parameters of a passphrase"},
		"no name":            {with(47, 0), false, false, "has 0 bytes"},
		"long name":          {with(47, 32), false, false, "has 32 bytes"},
		"another cipher":     {with(48, 'X', '\n'), false, false, `the peer uses the cipher "X\nS-256-GCM", and this side AES-256-GCM`},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				o := sslfilter.CipherOptions{Client: c.client, Key: staticKey}
				if c.passphrase {
					o.Key, o.Passphrase = nil, phrase("x")
				}
				side := newCipher(t, o)
				var err error
				for _, piece := range cut(c.wire) {
					_, err = side.Receive(nil, piece)
				}
				require.ErrorContains(t, err, c.want)
				require.Empty(t, side.Outgoing(nil))
			})
		})
	}
}

// A key is used for 2^20 records, and then the next one is derived.
func TestCipherKeysChange(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.Send(nil))
	exchange(t, client, server, testkit.Whole)
	count := 0
	var wire, plain []byte
	for i := range 1<<20 + 10 {
		require.NoError(t, client.Send([]byte{byte(i)}))
		wire = client.Outgoing(wire[:0])
		if len(wire) != 20 {
			t.Fatalf("%d bytes", len(wire))
		}
		var err error
		if plain, err = server.Receive(plain[:0], wire); err != nil || len(plain) != 1 || plain[0] != byte(i) {
			t.Fatalf("record %d: %q, %v", i, plain, err)
		}
		count++
	}
	require.NoError(t, client.CloseWrite())
	exchange(t, client, server, testkit.Whole)
	require.Equal(t, io.EOF, server.ReceiveEOF())
}

// Detach returns the bytes after the end, and Outgoing then ends the other direction.
func TestCipherDetach(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
		_, err := server.Detach()
		testkit.As[*sslfilter.UsageError](t, err)
		require.NoError(t, client.Send([]byte("secret")))
		exchange(t, client, server, cut)
		require.NoError(t, client.CloseWrite())
		wire := append(client.Outgoing(nil), "in plain text"...)
		for _, piece := range cut(wire) {
			_, err = server.Receive(nil, piece)
		}
		require.Equal(t, io.EOF, err)
		require.NoError(t, server.Send([]byte("last words")))
		rest, err := server.Detach()
		require.NoError(t, err)
		require.Equal(t, "in plain text", string(rest))
		got, err := client.Receive(nil, append(server.Outgoing(nil), "plain too"...))
		require.Equal(t, io.EOF, err)
		require.Equal(t, "last words", string(got))
		require.True(t, server.Flushed())
		rest, err = client.Detach()
		require.NoError(t, err)
		require.Equal(t, "plain too", string(rest))
		for _, call := range []func() error{
			func() error { return server.Send([]byte("x")) },
			func() error { _, err := server.Receive(nil, nil); return err },
			func() error { _, err := server.Detach(); return err },
		} {
			testkit.As[*sslfilter.UsageError](t, call())
		}
	})
}

// Pending data is bounded, and a call that would exceed a bound changes nothing.
func TestCipherBounds(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, server.Send(make([]byte, sslfilter.MaxPlaintext)))
	require.ErrorIs(t, server.Send([]byte("x")), sslfilter.ErrBufferFull)
	require.NoError(t, client.CloseWrite())
	wire := client.Outgoing(nil)
	_, err := server.Receive(nil, wire)
	require.Equal(t, io.EOF, err)
	_, err = server.Receive(nil, make([]byte, sslfilter.MaxTrailing))
	require.Equal(t, io.EOF, err)
	_, err = server.Receive(nil, []byte("x"))
	require.ErrorIs(t, err, sslfilter.ErrBufferFull)
	require.NoError(t, server.Err())
	down, err := client.Receive(nil, server.Outgoing(nil))
	require.NoError(t, err)
	require.Len(t, down, sslfilter.MaxPlaintext)
}

// After the transport was cut, what Send accepted is still encrypted.
func TestCipherTruncated(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.Send([]byte("hello")))
	exchange(t, client, server, testkit.Whole)
	require.NoError(t, server.Send([]byte("last words")))
	err := server.ReceiveEOF()
	require.EqualError(t, err, "sslfilter: the peer ended the connection without the record that ends its stream: unexpected EOF")
	require.Equal(t, &sslfilter.TruncatedError{}, func() error {
		e := *testkit.As[*sslfilter.TruncatedError](t, err)
		return &sslfilter.TruncatedError{InsideRecord: e.InsideRecord, InHandshake: e.InHandshake}
	}())
	got, receiveErr := client.Receive(nil, server.Outgoing(nil))
	require.NoError(t, receiveErr)
	require.Equal(t, "last words", string(got))
	_, receiveErr = server.Receive(nil, []byte("x"))
	require.Equal(t, err, receiveErr)
}

// Receive copies its input if dst shares memory with it.
func TestCipherOverlap(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.Send(nil))
	exchange(t, client, server, testkit.Whole)
	data := testkit.Bytes(100_000, 3)
	require.NoError(t, client.Send(data))
	wire := client.Outgoing(nil)
	got, err := server.Receive(wire[:0], wire)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
}

// Wrong options are errors of NewCipher that name the option.
func TestCipherOptions(t *testing.T) {
	failing := func() ([]byte, error) { return nil, errors.New("no terminal") }
	enc := sslfilter.CipherEnc
	for _, c := range []struct {
		o            sslfilter.CipherOptions
		option, want string
	}{
		{sslfilter.CipherOptions{}, "Key", "neither Key nor Passphrase"},
		{sslfilter.CipherOptions{Key: staticKey, Passphrase: failing}, "Passphrase", "set one of them"},
		{sslfilter.CipherOptions{Key: staticKey[:16]}, "Key", "a key of 32 random bytes, got 16"},
		{sslfilter.CipherOptions{Key: []byte{}}, "Key", "got 0"},
		{sslfilter.CipherOptions{Key: staticKey, Format: 7}, "Format", "got 7"},
		{sslfilter.CipherOptions{Key: staticKey, IV: make([]byte, 12)}, "IV", "makes its own nonces"},
		{sslfilter.CipherOptions{Key: staticKey, Digest: "SHA256"}, "Digest", "no effect"},
		{sslfilter.CipherOptions{Key: staticKey, Iterations: 100_000}, "Iterations", "no effect"},
		{sslfilter.CipherOptions{Passphrase: failing}, "Passphrase", "no terminal"},
		{sslfilter.CipherOptions{Passphrase: phrase("")}, "Passphrase", "empty"},
		{sslfilter.CipherOptions{Passphrase: phrase(strings.Repeat("x", 1025))}, "Passphrase", "1025 bytes; at most 1024"},
		{sslfilter.CipherOptions{Passphrase: phrase("x"), Iterations: 99_999}, "Iterations", "want 100000 to 2000000, got 99999"},
		{sslfilter.CipherOptions{Passphrase: phrase("x"), Iterations: 2_000_001}, "Iterations", "got 2000001"},
		{sslfilter.CipherOptions{Passphrase: phrase("x"), Digest: "MD5"}, "Digest", "want SHA256 or SHA512"},
		{sslfilter.CipherOptions{Key: staticKey, Cipher: "AES-256-CBC"}, "Cipher", "does not authenticate"},
		{sslfilter.CipherOptions{Key: staticKey, Cipher: "AES-256-CTR"}, "Cipher", "does not authenticate"},
		{sslfilter.CipherOptions{Key: staticKey, Cipher: "nonsense"}, "Cipher", `does not have "nonsense"`},
		{sslfilter.CipherOptions{Key: staticKey, Cipher: "AES-128-CBC-HMAC-SHA256"}, "Cipher", ""},
		{sslfilter.CipherOptions{Key: staticKey, Cipher: "AES-256-SIV"}, "Cipher", ""},
		{sslfilter.CipherOptions{Key: staticKey, Cipher: "AES-256-XTS"}, "Cipher", "does not authenticate"},
		{sslfilter.CipherOptions{Key: staticKey, Cipher: "id-aes256-wrap"}, "Cipher", "does not authenticate"},
		{sslfilter.CipherOptions{Format: enc, Key: staticKey}, "Cipher", "needs the name of a cipher"},
		{sslfilter.CipherOptions{Format: enc, Key: staticKey, Cipher: "aes-256-gcm"}, "Cipher", "does not have AEAD ciphers"},
		{sslfilter.CipherOptions{Format: enc, Key: staticKey, Cipher: "aes-256-xts"}, "Cipher", "does not have ciphers such as"},
		{sslfilter.CipherOptions{Format: enc, Key: staticKey, Cipher: "id-aes256-wrap"}, "Cipher", "does not have ciphers such as"},
		{sslfilter.CipherOptions{Format: enc, Key: staticKey[:31], Cipher: "aes-256-cbc"}, "Key", "a key of 32 bytes, got 31"},
		{sslfilter.CipherOptions{Format: enc, Key: staticKey, Cipher: "aes-256-cbc"}, "IV", "an IV of 16 bytes, got 0"},
		{sslfilter.CipherOptions{Format: enc, Passphrase: phrase("x"), IV: make([]byte, 16), Cipher: "aes-256-cbc"}, "IV", "derived from the passphrase"},
		{sslfilter.CipherOptions{Format: enc, Passphrase: phrase("x"), Cipher: "aes-256-cbc", Digest: "nonsense"}, "Digest", `does not have "nonsense"`},
		{sslfilter.CipherOptions{Format: enc, Passphrase: phrase("x"), Cipher: "aes-256-cbc", Digest: "SHAKE256"}, "Digest", "does not work"},
		{sslfilter.CipherOptions{Format: enc, Passphrase: phrase("x"), Cipher: "aes-256-cbc", Iterations: -1}, "Iterations", "got -1"},
	} {
		_, err := sslfilter.NewCipher(c.o)
		require.Error(t, err, "%+v", c.o.Cipher)
		option := testkit.As[*sslfilter.OptionError](t, err)
		require.Equal(t, c.option, option.Option, "%v", err)
		require.ErrorContains(t, err, c.want)
	}
}

// NewCipher overwrites the passphrase and does not keep the key.
func TestCipherSecrets(t *testing.T) {
	secret, key := []byte("correct horse"), slices.Clone(staticKey)
	newCipher(t, sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Passphrase: func() ([]byte, error) { return secret, nil }})
	require.Equal(t, make([]byte, len(secret)), secret)
	client := newCipher(t, sslfilter.CipherOptions{Client: true, Key: key})
	clear(key)
	require.NoError(t, client.Send([]byte("hello")))
	got, err := newCipher(t, sslfilter.CipherOptions{Key: staticKey}).Receive(nil, client.Outgoing(nil))
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
}

// Sending and receiving do not allocate.
func TestCipherDoesNotAllocate(t *testing.T) {
	if instrumented {
		t.Skip("the instrumentation allocates")
	}
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.Send(nil))
	exchange(t, client, server, testkit.Whole)
	message := make([]byte, 20_000)
	wire, plain := make([]byte, 0, 21_000), make([]byte, 0, 21_000)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		client.Send(message)
		wire = client.Outgoing(wire[:0])
		plain, _ = server.Receive(plain[:0], wire)
		if len(plain) != len(message) {
			panic("lost")
		}
	}))
}

// One message is sealed and opened. bench compares TLS in the same way.
func BenchmarkCipherMessage(b *testing.B) {
	for _, size := range []int{64, 16384, 262144} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			client, server := sealedPair(b, sslfilter.CipherOptions{Key: staticKey})
			require.NoError(b, client.Send(nil))
			exchange(b, client, server, testkit.Whole)
			message := make([]byte, size)
			wire, plain := make([]byte, 0, 2*size+1000), make([]byte, 0, 2*size+1000)
			b.SetBytes(int64(size))
			for b.Loop() {
				client.Send(message)
				wire = client.Outgoing(wire[:0])
				plain, _ = server.Receive(plain[:0], wire)
			}
			require.Len(b, plain, size)
		})
	}
}
