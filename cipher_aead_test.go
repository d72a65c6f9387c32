package sslfilter_test

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/evptest"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// sealedStream reads a stream of sealed records as docs/direct-cipher.md describes it. It
// can open the records in any order.
type sealedStream struct {
	cipher  string
	records [][]byte // the header comes first
	client  []byte   // salts
	server  []byte
	join    int // number of the first record with joined keys
}

func (s *sealedStream) open(number int) (kind byte, plain []byte, err error) {
	header, record := s.records[0], s.records[1+number]
	salts, phase := s.client, byte(1)
	if number >= s.join {
		salts, phase = slices.Concat(s.client, s.server), 2
	}
	info := append([]byte("sslfilter sealed v1"), header[9], phase)
	info = append(binary.BigEndian.AppendUint64(info, 0), s.cipher...)
	size := 32
	switch {
	case strings.Contains(s.cipher, "128"), strings.Contains(s.cipher, "SM4"):
		size = 16
	case strings.Contains(s.cipher, "192"):
		size = 24
	}
	derived, err := hkdf.Key(sha256.New, staticKey, salts, string(info), size+12)
	if err != nil {
		return 0, nil, err
	}
	key, nonce := derived[:size], derived[size:]
	for i := range 8 {
		nonce[4+i] ^= byte(uint64(number) >> (56 - 8*i))
	}
	extra := record[:3]
	if number == 0 {
		extra = slices.Concat(header, extra)
	}
	end := len(record) - 16
	plain, err = evptest.Open(s.cipher, key, nonce, extra, record[3:end], record[end:])
	return record[0], plain, err
}

// acceptedAEADs returns the ciphers of this OpenSSL that NewCipher accepts.
func acceptedAEADs(t *testing.T) (names []string) {
	t.Helper()
	for _, name := range evptest.Names() {
		if c, err := sslfilter.NewCipher(sslfilter.CipherOptions{Cipher: name, Key: staticKey}); err == nil {
			c.Close()
			names = append(names, name)
		}
	}
	for _, c := range sealedCiphers {
		name := strings.ToUpper(c.name)
		if name != "" && since(c.since) && (!sslfilter.FIPSEnabled() || aeadInFIPS(name)) && !strings.HasPrefix(name, "ID-") {
			require.Contains(t, names, name)
		}
	}
	return names
}

// With every AEAD that NewCipher accepts, each record of both streams can be opened alone,
// from the key and the document: no record depends on those before it.
func TestCipherRecordsStandAlone(t *testing.T) {
	for _, name := range acceptedAEADs(t) {
		t.Run(name, func(t *testing.T) {
			client, server := sealedPair(t, sslfilter.CipherOptions{Cipher: name, Key: staticKey})
			texts := []string{"a", "hello", strings.Repeat("long ", 100), strings.Repeat("b", 16384), "the last one"}
			var up, down []byte
			pass := func(from, to *sslfilter.Cipher, all *[]byte, text string) {
				t.Helper()
				require.NoError(t, from.Send([]byte(text)))
				wire := from.Outgoing(nil)
				*all = append(*all, wire...)
				got, err := to.Receive(nil, wire)
				require.NoError(t, err)
				require.Equal(t, text, string(got))
			}
			pass(client, server, &up, "the first flight")
			pass(client, server, &up, "the second flight")
			for _, text := range texts {
				pass(server, client, &down, text)
				pass(client, server, &up, text)
			}
			c, s := cutRecords(up), cutRecords(down)
			for _, stream := range []struct {
				sealedStream
				want []string // of the data records
			}{
				// begin, two texts, join, texts; and begin, texts
				{sealedStream{records: c, join: 3}, append([]string{"the first flight", "the second flight"}, texts...)},
				{sealedStream{records: s}, texts},
			} {
				stream.cipher = string(c[0][48:]) // OpenSSL 1.1.1 has other names for it too
				stream.client, stream.server = c[0][15:47], s[0][15:47]
				for number := len(stream.records) - 2; number >= 0; number-- {
					kind, plain, err := stream.open(number)
					require.NoError(t, err, "record %d", number)
					if kind != 0 {
						require.Equal(t, []byte{0}, plain)
						continue
					}
					last := len(stream.want) - 1
					require.Equal(t, stream.want[last], string(plain))
					stream.want = stream.want[:last]
				}
				require.Empty(t, stream.want)
			}
		})
	}
}

// A cipher of a provider that does not authenticate all of a record, or that lets a record
// depend on others, is refused, and a cipher of the same provider without a defect is not.
func TestCipherWithDefects(t *testing.T) {
	unload, ok := evptest.LoadToys()
	if !ok {
		t.Skip("this OpenSSL has no providers")
	}
	defer unload()
	var refused []string
	for _, name := range evptest.Names() {
		if !strings.HasPrefix(name, "TOY") {
			continue
		}
		o := sslfilter.CipherOptions{Cipher: name, Key: staticKey}
		if name == "TOY" {
			client, server := sealedPair(t, o)
			require.NoError(t, client.Send([]byte("hello")))
			up, _ := exchange(t, client, server, testkit.Whole)
			require.Equal(t, "hello", string(up))
			continue
		}
		_, err := sslfilter.NewCipher(o)
		require.Error(t, err, name)
		require.Equal(t, "Cipher", testkit.As[*sslfilter.OptionError](t, err).Option, name)
		if name == "TOY-THAT-FAILS" || name == "TOY-WITH-LONG-KEY" {
			require.ErrorContains(t, err, "does not work", name)
		} else {
			require.ErrorContains(t, err, "does not protect what CipherSealed relies on", name)
		}
		refused = append(refused, name)
	}
	require.Len(t, refused, 14)
}
