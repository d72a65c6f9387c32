package interop_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// sealedPy returns a command that runs testdata/sealed.py, which follows
// docs/direct-cipher.md and shares no code with the library.
func sealedPy(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	python := peers.FindFor(t, "testdata/sealed.py", "python3-cryptography", "/usr/bin/python3")
	cmd := exec.Command(python, append([]string{"testdata/sealed.py"}, args...)...)
	cmd.Env = peers.ForeignEnv()
	return cmd
}

// sealedCases are options, and the arguments of sealed.py for the same.
func sealedCases() map[string]struct {
	o    sslfilter.CipherOptions
	args []string
} {
	key := testkit.Bytes(32, 14)
	type c = struct {
		o    sslfilter.CipherOptions
		args []string
	}
	withKey := func(name string) c {
		return c{sslfilter.CipherOptions{Cipher: name, Key: key}, []string{"key:" + hex.EncodeToString(key), name}}
	}
	passphrase := func() ([]byte, error) { return []byte("correct horse"), nil }
	cases := map[string]c{
		"AES-256-GCM": withKey("AES-256-GCM"), "AES-128-CCM": withKey("AES-128-CCM"),
		"PBKDF2": {sslfilter.CipherOptions{Passphrase: passphrase, Digest: "SHA512", Iterations: 100_000}, []string{"sha512,100000:correct horse", "AES-256-GCM"}},
	}
	if !sslfilter.FIPSEnabled() {
		cases["CHACHA20-POLY1305"] = withKey("CHACHA20-POLY1305")
		cases["AES-256-OCB"] = withKey("AES-256-OCB")
		cases["scrypt"] = c{sslfilter.CipherOptions{Passphrase: passphrase}, []string{"scrypt:correct horse", "AES-256-GCM"}}
	}
	return cases
}

// The peer, which shares no code with the library, reads the test vectors of the
// document, and writes them byte for byte.
func TestCipherSealedVectors(t *testing.T) {
	out, err := sealedPy(t, "vectors", "../docs/direct-cipher.md").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "3 conversations\n", string(out))
}

// A sealed file passes between this library and the peer, in both directions, and an
// altered or truncated one does not.
func TestCipherSealedFiles(t *testing.T) {
	data := testkit.Bytes(50_000, 1)
	for name, c := range sealedCases() {
		t.Run(name, func(t *testing.T) {
			server, err := sslfilter.NewCipher(c.o)
			require.NoError(t, err)
			defer server.Close()
			c.o.Client = true
			client, err := sslfilter.NewCipher(c.o)
			require.NoError(t, err)
			defer client.Close()
			require.NoError(t, client.Send(data))
			require.NoError(t, client.CloseWrite())
			wire := client.Outgoing(nil)
			open := func(wire []byte) (string, error) {
				cmd := sealedPy(t, append([]string{"open"}, c.args...)...)
				cmd.Stdin = bytes.NewReader(wire)
				out, err := cmd.Output()
				if failed, ok := err.(*exec.ExitError); ok {
					return string(failed.Stderr), err
				}
				return string(out), err
			}
			got, err := open(wire)
			require.NoError(t, err, got)
			require.True(t, got == string(data))
			if name == "AES-256-GCM" {
				got, err = open(wire[:len(wire)-20])
				require.Error(t, err)
				require.Contains(t, got, "the stream was cut")
				wire[len(wire)/2] ^= 1
				got, err = open(wire)
				require.Error(t, err)
				require.Contains(t, got, "not authentic")
			}

			cmd := sealedPy(t, append([]string{"seal"}, c.args...)...)
			cmd.Stdin = bytes.NewReader(data)
			theirs, err := cmd.Output()
			require.NoError(t, err)
			plain, err := server.Receive(nil, theirs)
			require.Equal(t, io.EOF, err)
			require.True(t, bytes.Equal(data, plain))
		})
	}
}

// A conversation with the peer works in both roles, and both sides join the keys.
func TestCipherSealedConversation(t *testing.T) {
	data := testkit.Bytes(50_000, 2)
	for name, c := range sealedCases() {
		t.Run(name, func(t *testing.T) {
			conn := func(raw net.Conn, client bool) *sslnet.CipherConn {
				c.o.Client = client
				cipher, err := sslfilter.NewCipher(c.o)
				require.NoError(t, err)
				cc := sslnet.NewCipherConn(raw, cipher)
				t.Cleanup(func() { cc.Close() })
				return cc
			}
			t.Run("we are the client", func(t *testing.T) {
				cmd := sealedPy(t, append([]string{"serve"}, c.args...)...)
				out, err := cmd.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, cmd.Start())
				defer cmd.Process.Kill()
				lines := bufio.NewReader(out)
				port, err := lines.ReadString('\n')
				require.NoError(t, err)
				raw, err := net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(port))
				require.NoError(t, err)
				client := conn(raw, true)
				_, err = client.Write(data[:100])
				require.NoError(t, err)
				back := make([]byte, 100)
				_, err = io.ReadFull(client, back)
				require.NoError(t, err)
				require.True(t, client.Fresh())
				go func() {
					client.Write(data[100:])
					client.CloseWrite()
				}()
				rest, err := io.ReadAll(client)
				require.NoError(t, err)
				require.True(t, bytes.Equal(data, append(back, rest...)))
				fresh, err := lines.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, "fresh\n", fresh)
				require.NoError(t, cmd.Wait())
			})
			t.Run("we are the server", func(t *testing.T) {
				listener := testkit.Listen(t)
				_, port, err := net.SplitHostPort(listener.Addr().String())
				require.NoError(t, err)
				cmd := sealedPy(t, append(append([]string{"connect"}, c.args...), port)...)
				cmd.Stdin = bytes.NewReader(data)
				var out, complaint bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &complaint
				require.NoError(t, cmd.Start())
				defer cmd.Process.Kill()
				raw, err := listener.Accept()
				require.NoError(t, err)
				server := conn(raw, false)
				_, err = io.Copy(server, server)
				require.NoError(t, err)
				require.True(t, server.Fresh())
				require.NoError(t, server.CloseWrite())
				require.NoError(t, cmd.Wait(), complaint.String())
				require.True(t, bytes.Equal(data, out.Bytes()))
			})
		})
	}
}
