package memfault_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// A direct cipher without memory fails with an error, or carries exactly what was sent.
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
			texts := make(said)
			defer texts.log(t)
			sweep(t, func(t *testing.T, heal func() int) {
				o.Client = false
				server, err := sslfilter.NewCipher(o)
				if err != nil {
					texts.errors(err)
					return
				}
				defer server.Close()
				o.Client = true
				client, err := sslfilter.NewCipher(o)
				if err != nil {
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
