package sslfilter_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Any bytes go into a Cipher whose key the sender does not have. No plaintext comes out,
// the result does not depend on how the bytes are cut, a sealed side answers nothing, and
// a side that has failed returns the same error again.
func FuzzCipher(f *testing.F) {
	client, err := sslfilter.NewCipher(sslfilter.CipherOptions{Client: true, Key: testkit.Bytes(32, 99)})
	require.NoError(f, err)
	defer client.Close()
	require.NoError(f, client.Send([]byte("hello")))
	require.NoError(f, client.CloseWrite())
	f.Add(client.Outgoing(nil), uint64(1), false)
	f.Add([]byte("sslfseal\x01\x02\x00\x00\x00\x00\x00"), uint64(2), true)
	f.Add([]byte("Salted__"), uint64(3), true)
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64, client bool) {
		receive := func(cut testkit.Cut) (plain []byte, err error) {
			c := newCipher(t, sslfilter.CipherOptions{Client: client, Key: staticKey})
			defer c.Close()
			for _, piece := range cut(wire) {
				plain, err = c.Receive(plain, piece)
				if err != nil {
					break
				}
			}
			require.NotErrorIs(t, err, io.EOF)
			require.Equal(t, err, c.Err())
			end := c.ReceiveEOF()
			require.NotErrorIs(t, end, io.EOF)
			if err == nil {
				require.ErrorIs(t, end, io.ErrUnexpectedEOF)
				err = end
			}
			_, again := c.Receive(nil, wire)
			require.Equal(t, err, again)
			if !client {
				require.Empty(t, c.Outgoing(nil))
			}
			return plain, err
		}
		whole, wholeErr := receive(testkit.Whole)
		require.Empty(t, whole)
		cut, cutErr := receive(testkit.Random(seed))
		require.Empty(t, cut)
		require.EqualError(t, cutErr, wholeErr.Error())
	})
}

// A peer that has the key sends two conversations, in which arbitrary bytes are changed,
// dropped or repeated. The plaintext is a prefix of what was sent, and the end is reported
// only after all of it.
func FuzzCipherKeyed(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add([]byte{100, 1, 7, 0, 200, 3}, uint64(2))
	f.Fuzz(func(t *testing.T, script []byte, seed uint64) {
		o := sslfilter.CipherOptions{Client: true, Key: staticKey, Cipher: []string{"", "AES-128-CCM"}[seed%2]}
		client := newCipher(t, o)
		o.Client = false
		server := newCipher(t, o)
		defer client.Close()
		defer server.Close()
		var sent, wire []byte
		for i := range seed % 5 {
			text := testkit.Bytes(int(seed>>(8*i))&0xfff, seed+i)
			sent = append(sent, text...)
			require.NoError(t, client.Send(text))
			wire = client.Outgoing(wire)
		}
		require.NoError(t, client.CloseWrite())
		wire = client.Outgoing(wire)
		altered := bytes.Clone(wire)
		for len(script) >= 3 && len(altered) > 0 {
			at := (int(script[0])<<8 | int(script[1])) % len(altered)
			switch n := min(1+int(script[2]>>2), len(altered)-at); script[2] & 3 {
			case 0:
				altered[at] ^= script[2]
			case 1:
				altered = append(altered[:at:at], altered[at+n:]...)
			case 2:
				altered = append(altered[:at+n:at+n], altered[at:]...)
			case 3:
				altered = altered[:at]
			}
			script = script[3:]
		}
		var got []byte
		var err error
		for _, piece := range testkit.Random(seed)(altered) {
			if got, err = server.Receive(got, piece); err != nil {
				break
			}
		}
		require.True(t, bytes.HasPrefix(sent, got))
		if errors.Is(err, io.EOF) {
			require.True(t, bytes.Equal(sent, got))
			require.True(t, bytes.HasPrefix(altered, wire))
		} else {
			require.NotEqual(t, io.EOF, server.ReceiveEOF())
		}
	})
}

// Any bytes are decrypted as the output of "openssl enc". Each result is an error or
// plaintext, which is not longer than the input, and does not depend on how the bytes are
// cut.
func FuzzCipherEnc(f *testing.F) {
	f.Add([]byte("Salted__12345678"+strings.Repeat("x", 32)), uint64(1))
	f.Add([]byte("Salted_"), uint64(2))
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64) {
		o := sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: []string{"aes-128-cbc", "aes-256-ctr", "aes-128-ecb"}[seed%3], Iterations: 1000}
		if seed%2 == 0 {
			o.Passphrase = phrase("a passphrase")
		} else {
			o.Iterations, o.Key, o.IV = 0, staticKey[:map[uint64]int{0: 16, 1: 32, 2: 16}[seed%3]], make([]byte, 16)
			if seed%3 == 2 {
				o.IV = nil
			}
		}
		receive := func(cut testkit.Cut) (plain []byte, err error) {
			c := newCipher(t, o)
			defer c.Close()
			for _, piece := range cut(wire) {
				if plain, err = c.Receive(plain, piece); err != nil {
					return plain, err
				}
			}
			if err = c.ReceiveEOF(); err == io.EOF {
				last, failed := c.Finish(plain)
				require.NoError(t, failed)
				return last, err
			}
			return plain, err
		}
		whole, wholeErr := receive(testkit.Whole)
		require.Error(t, wholeErr)
		require.LessOrEqual(t, len(whole), len(wire))
		cut, cutErr := receive(testkit.Random(seed))
		require.True(t, bytes.Equal(whole, cut))
		require.EqualError(t, cutErr, wholeErr.Error())
	})
}
