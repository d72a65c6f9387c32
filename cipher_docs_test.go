package sslfilter_test

import (
	"encoding/hex"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// cipherVector is a test vector of docs/direct-cipher.md.
type cipherVector struct {
	fields map[string]string // cipher, key, passphrase, PBKDF2, …
	steps  [][2]string       // for each line of the conversation: how it begins, and its value
}

// readVectors reads the blocks of vectors. A line that begins with a blank continues the
// one before.
func readVectors(t *testing.T) (list []cipherVector) {
	t.Helper()
	for _, text := range readPage(t, "docs/direct-cipher.md").fences("text") {
		v := cipherVector{fields: make(map[string]string)}
		for _, line := range strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "\n ", ""), "\n") {
			name, value, found := strings.Cut(line, ":")
			require.True(t, found, line)
			value = strings.TrimSpace(value)
			if name == "client" || name == "server" {
				value = strings.ReplaceAll(value, " ", "")
			}
			if strings.HasPrefix(name, "client") && !strings.HasSuffix(name, "salt") || strings.HasPrefix(name, "server") && !strings.HasSuffix(name, "salt") {
				v.steps = append(v.steps, [2]string{name, value})
			} else {
				v.fields[name] = value
			}
		}
		list = append(list, v)
	}
	return list
}

// options returns the options of the side that has this role.
func (v cipherVector) options(t *testing.T, client bool) sslfilter.CipherOptions {
	t.Helper()
	o := sslfilter.CipherOptions{Client: client, Cipher: v.fields["cipher"]}
	if text := v.fields["passphrase"]; text != "" {
		o.Passphrase = phrase(text)
		if n := v.fields["PBKDF2 iterations"]; n != "" {
			iterations, err := strconv.Atoi(n)
			require.NoError(t, err)
			o.Iterations, o.Digest = iterations, v.fields["PBKDF2 digest"]
		}
		return o
	}
	o.Key = unhex(t, v.fields["key"])
	return o
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	require.NoError(t, err)
	return b
}

// The test vectors of the document are what a client and a server send.
func TestCipherVectors(t *testing.T) {
	list := readVectors(t)
	require.Len(t, list, 3)
	for _, v := range list {
		t.Run(v.fields["cipher"], func(t *testing.T) {
			if sslfilter.FIPSEnabled() && (!aeadInFIPS(v.fields["cipher"]) || v.fields["passphrase"] != "" && v.fields["PBKDF2 digest"] == "") {
				t.Skip("not under FIPS: the cipher or scrypt")
			}
			salts := [][]byte{unhex(t, v.fields["client salt"]), unhex(t, v.fields["server salt"])}
			defer sslfilter.SetSalts(func(b []byte) { copy(b, salts[0]); salts = salts[1:] })()
			server := newCipher(t, v.options(t, false))
			client := newCipher(t, v.options(t, true))
			require.NoError(t, client.Send(nil))
			sent := ""
			for _, step := range v.steps {
				from, to := client, server
				if strings.HasPrefix(step[0], "server") {
					from, to = server, client
				}
				if strings.HasSuffix(step[0], "sends") {
					if sent = step[1]; sent == "(end)" {
						require.NoError(t, from.CloseWrite())
						sent = ""
					} else {
						require.NoError(t, from.Send([]byte(sent)))
					}
					continue
				}
				wire := from.Outgoing(nil)
				require.Equal(t, step[1], hex.EncodeToString(wire))
				got, err := to.Receive(nil, wire)
				if err != nil {
					require.Equal(t, io.EOF, err)
				}
				require.Equal(t, sent, string(got))
				sent = ""
			}
			require.Equal(t, io.EOF, server.ReceiveEOF())
		})
	}
}
