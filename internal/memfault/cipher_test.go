package memfault_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/evptest"
	"github.com/seed-014b8713/sslfilter/internal/memfault"
)

// A direct cipher that gets no memory fails with an error, or carries exactly what was sent.
func TestCipher(t *testing.T) {
	data := marked(40_000)
	for name, o := range map[string]sslfilter.CipherOptions{
		"sealed": {Key: make([]byte, 32)},
		// scrypt; each iteration of PBKDF2 allocates, and "enc" has few of them
		"passphrase": {Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil }},
		"enc": {
			Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Iterations: 1000,
			Passphrase: func() ([]byte, error) { return []byte("correct horse"), nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "passphrase" && sslfilter.FIPSEnabled() {
				t.Skip("FIPS has no scrypt")
			}
			if name == "passphrase" && testing.Short() {
				t.Skip("takes seconds, because scrypt is slow")
			}
			texts := make(said)
			defer texts.log(t)
			sweep(t, func(t *testing.T, heal func() int) {
				o.Client = false
				server, err := sslfilter.NewCipher(o)
				if err != nil {
					requireNoMemory(t, err)
					texts.errors(err)
					return
				}
				defer server.Close()
				o.Client = true
				client, err := sslfilter.NewCipher(o)
				if err != nil {
					requireNoMemory(t, err)
					texts.errors(err)
					return
				}
				defer client.Close()
				if err := client.Send(data); err == nil {
					texts.errors(client.CloseWrite())
				}
				wire := client.Outgoing(nil)
				require.NotContains(t, string(wire), "plaintext that must never")
				got, err := server.Receive(nil, wire)
				if err == nil {
					if err = server.ReceiveEOF(); err == io.EOF {
						if got, err = server.Finish(got); err == nil {
							err = io.EOF
						}
					}
				}
				heal()
				texts.errors(client.Err(), err)
				require.True(t, bytes.HasPrefix(data, got))
				if err == io.EOF && client.Err() == nil {
					require.True(t, bytes.Equal(data, got))
				}
			})
		})
	}
}

// requireNoMemory requires that a failure of NewCipher is not blamed on the options, which
// are right.
func requireNoMemory(t *testing.T, err error) {
	t.Helper()
	var option *sslfilter.OptionError
	require.False(t, errors.As(err, &option), "%v", err)
}

// A direct cipher frees all memory, with each AEAD and although its keys change.
func TestCipherFreesItsKeys(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	played := 0
	for _, name := range evptest.Names() {
		o := sslfilter.CipherOptions{Cipher: name, Key: make([]byte, 32)}
		server, err := sslfilter.NewCipher(o)
		if err != nil {
			continue // not an AEAD for records
		}
		server.Close()
		played++
		play := func() {
			o.Client = false
			server, err := sslfilter.NewCipher(o)
			require.NoError(t, err)
			defer server.Close()
			o.Client = true
			client, err := sslfilter.NewCipher(o)
			require.NoError(t, err)
			defer client.Close()
			require.NoError(t, client.Send([]byte("hello")))
			for range 2 {
				_, err = server.Receive(nil, client.Outgoing(nil))
				require.NoError(t, err)
				_, err = client.Receive(nil, server.Outgoing(nil))
				require.NoError(t, err)
			}
			require.True(t, server.Fresh(), "its keys have changed")
		}
		play() // for memory that OpenSSL never frees
		before, _ := memfault.Live()
		for range 3 {
			play()
		}
		require.LessOrEqual(t, settle(before), before, "%s", name)
	}
	require.Greater(t, played, 2)
}
