package sslfilter_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/evptest"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// opensslCommands returns the openssl commands that are installed, by their versions: that
// of the system, and those of scripts/mkssl.sh.
func opensslCommands(t *testing.T) map[string]string {
	t.Helper()
	dir := os.Getenv("SSLFILTER_OPENSSL")
	if dir == "" {
		dir = ".openssl"
	}
	found, err := filepath.Glob(filepath.Join(dir, "*", "openssl"))
	require.NoError(t, err)
	if system, err := exec.LookPath("openssl"); err == nil {
		found = append(found, system)
	}
	commands := make(map[string]string)
	for _, path := range found {
		path, err = filepath.Abs(path)
		require.NoError(t, err)
		if out, err := exec.Command(path, "version").Output(); err == nil {
			commands[strings.Join(strings.Fields(string(out))[1:2], "")] = path
		}
	}
	if len(commands) == 0 {
		peers.SkipWithout(t, "openssl", "the openssl command")
	}
	return commands
}

// runEnc runs "openssl enc" over in.
func runEnc(t *testing.T, command string, in []byte, args ...string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command(command, append([]string{"enc"}, args...)...)
	cmd.Env = peers.ForeignEnv()
	cmd.Stdin = bytes.NewReader(in)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, complaint.String())
	}
	return out, err
}

// encrypt returns what a Cipher makes of data, which is sent in pieces.
func encrypt(t *testing.T, o sslfilter.CipherOptions, data []byte, cut testkit.Cut) (wire []byte) {
	t.Helper()
	c := newCipher(t, o)
	for _, piece := range cut(data) {
		require.NoError(t, c.Send(piece))
		wire = c.Outgoing(wire)
	}
	require.NoError(t, c.CloseWrite())
	wire = c.Outgoing(wire)
	require.True(t, c.Flushed())
	require.NoError(t, c.Err())
	return wire
}

// decrypt returns what a Cipher makes of wire, and the error at its end.
func decrypt(t *testing.T, o sslfilter.CipherOptions, wire []byte, cut testkit.Cut) (plain []byte, end error) {
	t.Helper()
	c := newCipher(t, o)
	for _, piece := range cut(wire) {
		if plain, end = c.Receive(plain, piece); end != nil {
			return plain, end
		}
	}
	if end = c.ReceiveEOF(); end == io.EOF {
		last, err := c.Finish(plain)
		require.NoError(t, err)
		return last, end
	}
	return plain, end
}

// "openssl enc" of every version reads what a Cipher writes, and the other way round: block
// and stream modes, passphrases, and keys with an IV.
func TestCipherEncSameAsOpenSSL(t *testing.T) {
	modes := []struct {
		name    string
		key, iv int
	}{
		{"aes-256-cbc", 32, 16}, {"aes-128-ctr", 16, 16}, {"aes-192-cfb", 24, 16}, {"aes-256-ofb", 32, 16}, {"aes-128-ecb", 16, 0}, {"aes-256-cfb8", 32, 16},
		{"camellia-256-cbc", 32, 16}, {"chacha20", 32, 16}, {"des-ede3-cbc", 24, 8},
	}
	commands := opensslCommands(t)
	for version := range commands {
		if testing.Short() && len(commands) > 1 { // any one of them is enough
			delete(commands, version)
		}
	}
	for version, command := range commands {
		for _, m := range modes {
			if sslfilter.FIPSEnabled() && !strings.HasPrefix(m.name, "aes") {
				continue
			}
			t.Run(version+"/"+m.name, func(t *testing.T) {
				key, iv := testkit.Bytes(m.key, 5), testkit.Bytes(m.iv, 6)
				raw := []string{"-" + m.name, "-K", hex.EncodeToString(key)}
				if m.iv > 0 {
					raw = append(raw, "-iv", hex.EncodeToString(iv))
				} else {
					iv = nil
				}
				for name, c := range map[string]struct {
					o    sslfilter.CipherOptions
					args []string
				}{
					"passphrase":            {sslfilter.CipherOptions{Passphrase: phrase("correct horse")}, []string{"-" + m.name, "-pbkdf2", "-pass", "pass:correct horse"}},
					"digest and iterations": {sslfilter.CipherOptions{Passphrase: phrase("x"), Digest: "SHA512", Iterations: 1234}, []string{"-" + m.name, "-pbkdf2", "-md", "sha512", "-iter", "1234", "-pass", "pass:x"}},
					"key":                   {sslfilter.CipherOptions{Key: key, IV: iv}, raw},
				} {
					if c.o.Iterations > 0 && m.name != "aes-256-cbc" {
						continue
					}
					c.o.Format, c.o.Cipher = sslfilter.CipherEnc, m.name
					for i, size := range []int{0, 16, 20_001} {
						data, cut := testkit.Bytes(size, uint64(size)), testkit.Random(uint64(size))
						if i%2 == 0 {
							cut = testkit.Whole
						}
						wire := encrypt(t, c.o, data, cut)
						got, err := runEnc(t, command, wire, append([]string{"-d"}, c.args...)...)
						require.NoError(t, err, "%s, %d bytes", name, size)
						require.True(t, bytes.Equal(data, got), "%s, %d bytes", name, size)
						theirs, err := runEnc(t, command, data, c.args...)
						require.NoError(t, err)
						require.Len(t, wire, len(theirs))
						if c.o.Key != nil {
							require.True(t, bytes.Equal(theirs, wire), "%s, %d bytes", name, size)
						}
						got, err = decrypt(t, c.o, theirs, cut)
						require.Equal(t, io.EOF, err, "%s, %d bytes", name, size)
						require.True(t, bytes.Equal(data, got), "%s, %d bytes", name, size)
					}
				}
			})
		}
	}
}

// A wrong passphrase and damaged data are errors at the end, as far as the format can tell,
// and not before.
func TestCipherEncDamage(t *testing.T) {
	o := sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Passphrase: phrase("right")}
	data := testkit.Bytes(100, 1)
	defer sslfilter.SetSalts(func(b []byte) { clear(b) })() // a wrong passphrase is noticed with 255 of 256 salts
	wire := encrypt(t, o, data, testkit.Whole)
	got, err := decrypt(t, o, wire[:len(wire)-1], testkit.Size(7))
	require.ErrorContains(t, err, "wrong final block length")
	require.ErrorContains(t, err, "the data were damaged or cut")
	require.Equal(t, data[:96], got, "what came before was returned already")
	wrong := o
	wrong.Passphrase = phrase("wrong")
	_, err = decrypt(t, wrong, wire, testkit.Whole)
	require.ErrorContains(t, err, "bad decrypt")
	require.NotErrorIs(t, err, io.EOF)
	testkit.As[*sslfilter.Error](t, err)
	for n := range 16 {
		_, err = decrypt(t, o, wire[:n], testkit.Size(3))
		cut := testkit.As[*sslfilter.TruncatedError](t, err)
		require.True(t, cut.InHandshake)
		require.Equal(t, n > 0, cut.InsideRecord)
	}
	_, err = decrypt(t, o, []byte("Salten__12345678"), testkit.Size(1))
	require.ErrorContains(t, err, `does not begin with "Salted__"`)

	o.Cipher = "aes-256-ctr" // nothing is noticed
	wire = encrypt(t, o, data, testkit.Whole)
	wrong.Cipher = o.Cipher
	got, err = decrypt(t, wrong, wire[:len(wire)-10], testkit.Whole)
	require.Equal(t, io.EOF, err)
	require.Len(t, got, 90)
}

// A key and an IV encrypt one text: a Cipher that has decrypted with them encrypts nothing,
// and the other way round. With a passphrase both directions are independent.
func TestCipherEncDirections(t *testing.T) {
	o := sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-ctr", Key: staticKey, IV: make([]byte, 16)}
	c := newCipher(t, o)
	_, err := c.Receive(nil, []byte("x"))
	require.NoError(t, err)
	testkit.As[*sslfilter.UsageError](t, c.Send([]byte("x")))
	require.NoError(t, c.CloseWrite())
	require.Empty(t, c.Outgoing(nil))
	c = newCipher(t, o)
	require.NoError(t, c.Send([]byte("x")))
	require.Len(t, c.Outgoing(nil), 1)
	_, err = c.Receive(nil, []byte("x"))
	testkit.As[*sslfilter.UsageError](t, err)
	require.NoError(t, c.Err())
	require.Equal(t, io.EOF, c.ReceiveEOF(), "an end of the input does not matter to a side that encrypts")

	o = sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Passphrase: phrase("x")}
	a, b := newCipher(t, o), newCipher(t, o)
	require.NoError(t, a.Send(make([]byte, 40)))
	require.NoError(t, b.Send(make([]byte, 50)))
	up, down := exchange(t, a, b, testkit.Size(1))
	require.Len(t, up, 16, "the last block waits for the end")
	require.Len(t, down, 32)
	require.NoError(t, a.CloseWrite())
	got, err := b.Receive(up, a.Outgoing(nil))
	require.NoError(t, err)
	require.Equal(t, io.EOF, b.ReceiveEOF())
	got, err = b.Finish(got)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 40), got)
	_, err = b.Receive(nil, []byte("x"))
	testkit.As[*sslfilter.UsageError](t, err)
	_, err = b.Detach()
	testkit.As[*sslfilter.UsageError](t, err)
	require.False(t, b.Fresh())
}

// With a raw key, what Send accepted is sent whatever is called next, and a side that
// decrypts has nothing to flush.
func TestCipherEncKeepsWhatWasSent(t *testing.T) {
	o := sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Key: staticKey, IV: make([]byte, 16)}
	want := encrypt(t, o, []byte("hello"), testkit.Whole)
	for name, call := range map[string]func(c *sslfilter.Cipher){
		"Receive": func(c *sslfilter.Cipher) {
			_, err := c.Receive(nil, make([]byte, 16))
			testkit.As[*sslfilter.UsageError](t, err)
		},
		"ReceiveEOF": func(c *sslfilter.Cipher) { require.Equal(t, io.EOF, c.ReceiveEOF()) },
	} {
		c := newCipher(t, o)
		require.NoError(t, c.Send([]byte("hello")))
		call(c)
		require.NoError(t, c.CloseWrite())
		require.Equal(t, want, c.Outgoing(nil), name)
		require.True(t, c.Flushed())

		c = newCipher(t, o) // an empty text
		require.NoError(t, c.CloseWrite())
		call(c)
		require.Len(t, c.Outgoing(nil), 16, name)
		require.True(t, c.Flushed())
	}

	c := newCipher(t, o)
	_, err := c.Receive(nil, want)
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	require.True(t, c.Flushed())
	require.Empty(t, c.Outgoing(nil))
	require.Equal(t, io.EOF, c.ReceiveEOF())
	got, err := c.Finish(nil)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
}

// Every cipher that NewCipher accepts for CipherEnc encrypts a stream, however it is cut.
func TestCipherEncCiphersAreStreams(t *testing.T) {
	accepted, stealing := 0, 0
	for _, name := range evptest.Names() {
		o := sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: name, Passphrase: phrase("x"), Iterations: 1000}
		c, err := sslfilter.NewCipher(o)
		if strings.HasSuffix(name, "-CTS") {
			require.ErrorContains(t, err, "uses ciphertext stealing (CTS)")
			stealing++
		}
		if err != nil {
			continue
		}
		c.Close()
		accepted++
		for _, size := range []int{0, 1, 16, 33, 1000} {
			data := testkit.Bytes(size, uint64(size))
			wire := encrypt(t, o, data, testkit.Size(7))
			for _, cut := range []testkit.Cut{testkit.Whole, testkit.Size(13)} {
				got, err := decrypt(t, o, wire, cut)
				require.Equal(t, io.EOF, err, "%s, %d bytes", name, size)
				require.True(t, bytes.Equal(data, got), "%s, %d bytes", name, size)
			}
		}
	}
	require.Greater(t, accepted, 10)
	if since(0x30000000) {
		require.NotZero(t, stealing)
	}
}
