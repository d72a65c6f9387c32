package sslfilter_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// passphrase is that of server-enc.key.
const passphrase = "secret"

// asked is a KeyPassphrase that counts its calls.
type asked struct {
	times int
	given []byte
	err   error
}

func (a *asked) passphrase() ([]byte, error) {
	a.times++
	return a.given, a.err
}

func TestPEMKeyPassphrase(t *testing.T) {
	broken := errors.New("the vault is closed")
	combined := joinFiles(t, "server.crt", "server-enc.key")
	for _, c := range []struct {
		name   string
		key    func(*sslfilter.Options) // nil is server-enc.key
		given  string
		err    error
		option string // empty if it succeeds
		file   string
		times  int
	}{
		{name: "right", given: passphrase, times: 1},
		{name: "right, KeyMem", key: func(o *sslfilter.Options) { o.KeyMem = testkit.PKIBytes(t, "server-enc.key") }, given: passphrase, times: 1},
		{name: "right, key in Chain", key: func(o *sslfilter.Options) { o.Crt, o.Key, o.ChainMem = "", "", combined }, given: passphrase, times: 1},
		{name: "right, key after a certificate", key: func(o *sslfilter.Options) { o.KeyMem = combined }, given: passphrase, times: 1},
		{name: "right, old form", key: func(o *sslfilter.Options) { o.KeyMem = oldForm(t, "server-pkcs1.key", passphrase) }, given: passphrase, times: 1},
		{name: "wrong", given: "Secret", option: "Key", file: testkit.PKI("server-enc.key"), times: 1},
		{name: "wrong, KeyMem", key: func(o *sslfilter.Options) { o.KeyMem = testkit.PKIBytes(t, "server-enc.key") }, given: "Secret", option: "KeyMem", times: 1},
		{name: "wrong, key in Chain", key: func(o *sslfilter.Options) { o.Crt, o.Key, o.ChainMem = "", "", combined }, given: "Secret", option: "ChainMem", times: 1},
		{name: "wrong, old form", key: func(o *sslfilter.Options) { o.KeyMem = oldForm(t, "server-pkcs1.key", passphrase) }, given: "Secret", option: "KeyMem", times: 1},
		{name: "too short", given: "secre", option: "Key", file: testkit.PKI("server-enc.key"), times: 1},
		{name: "one byte too long", given: passphrase + "s", option: "Key", file: testkit.PKI("server-enc.key"), times: 1},
		{name: "empty", given: "", option: "Key", file: testkit.PKI("server-enc.key"), times: 1},
		{name: "longer than OpenSSL's buffer", given: strings.Repeat("x", 1025), option: "Key", file: testkit.PKI("server-enc.key"), times: 1},
		{name: "much longer", given: strings.Repeat(passphrase, 1<<18), option: "Key", file: testkit.PKI("server-enc.key"), times: 1},
		{name: "failing", given: "", err: broken, option: "KeyPassphrase", times: 1},
		{name: "key is not encrypted", key: func(o *sslfilter.Options) { o.Key = testkit.PKI("server.key") }, given: passphrase},
		{name: "no key at all", key: func(o *sslfilter.Options) { o.Key = testkit.PKI("server.crt") }, given: passphrase, option: "Key", file: testkit.PKI("server.crt")},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &asked{given: []byte(c.given), err: c.err}
			o := testkit.Server(func(o *sslfilter.Options) { o.Key, o.KeyPassphrase = testkit.PKI("server-enc.key"), a.passphrase })
			o = testkit.With(o, c.key)
			if c.name == "right, old form" && !served(t, "MD5") { // its key derivation uses MD5
				return
			}
			if c.option == "" {
				require.NoError(t, testkit.Connect(t, o, testkit.Client()).Client.Filter.Err())
			} else {
				err := refuse(t, o, c.option, c.file)
				if c.given != "" {
					require.NotContains(t, strings.TrimPrefix(err.Error(), "sslfilter: option "+c.option+" ("+c.file+")"), c.given)
				}
				if c.err != nil {
					require.ErrorIs(t, err, c.err)
				}
			}
			require.Equal(t, c.times, a.times)
			if c.times > 0 {
				require.Equal(t, make([]byte, len(c.given)), a.given, "overwritten")
			}
		})
	}
}

// A nil slice is an empty passphrase.
func TestPEMNilPassphrase(t *testing.T) {
	a := new(asked)
	err := refuse(t, testkit.Server(func(o *sslfilter.Options) {
		o.Key, o.KeyPassphrase = testkit.PKI("server-enc.key"), a.passphrase
	}),

		"Key", testkit.PKI("server-enc.key"))
	require.ErrorContains(t, err, "is KeyPassphrase right?")
	require.Equal(t, 1, a.times)
}

// oldForm encrypts a key as OpenSSL did before PKCS #8: with Proc-Type and DEK-Info in the
// PEM header, and a key that MD5 derives.
func oldForm(t testing.TB, name, passphrase string) []byte {
	t.Helper()
	block, _ := pem.Decode(testkit.PKIBytes(t, name))
	iv := []byte("0123456789abcdef")
	var key, sum []byte
	for len(key) < 32 {
		d := md5.Sum(append(append(sum, passphrase...), iv[:8]...))
		sum = d[:]
		key = append(key, sum...)
	}
	aead, err := aes.NewCipher(key)
	require.NoError(t, err)
	padding := aes.BlockSize - len(block.Bytes)%aes.BlockSize
	text := append(block.Bytes, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(aead, iv).CryptBlocks(text, text)
	return encryptedBlock(block.Type, text, iv)
}

func encryptedBlock(kind string, text, iv []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: text, Headers: map[string]string{
		"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC," + strings.ToUpper(hex.EncodeToString(iv)),
	}})
}

// An encrypted key never causes a prompt. OpenSSL's default asks on the terminal, or on
// standard input: a server that restarts at night would wait forever.
func TestPEMNothingPrompts(t *testing.T) {
	const typed = passphrase + "\n" + passphrase + "\n"
	child, _ := inChild(t, typed)
	if !child {
		return
	}
	encrypted := func(kind string) []byte { return encryptedBlock(kind, make([]byte, 64), make([]byte, 16)) }
	for _, c := range []struct {
		option, file string
		change       func(*sslfilter.Options)
	}{
		{"Key", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.Key = testkit.PKI("server-enc.key") }},
		{"Key", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.Key, o.KeyPassphrase = testkit.PKI("server-enc.key"), saying("wrong") }},
		{"KeyPassphrase", "", func(o *sslfilter.Options) {
			o.Key, o.KeyPassphrase = testkit.PKI("server-enc.key"), func() ([]byte, error) { return nil, io.ErrUnexpectedEOF }
		}},
		{"KeyMem", "", func(o *sslfilter.Options) { o.KeyMem = encrypted("RSA PRIVATE KEY") }},
		{"KeyMem", "", func(o *sslfilter.Options) { o.KeyMem = encrypted("CERTIFICATE") }},
		{"Chain", testkit.PKI("server-inter.crt"), func(o *sslfilter.Options) { o.Crt, o.Key, o.Chain = "", "", testkit.PKI("server-inter.crt") }},
		{"ChainMem", "", func(o *sslfilter.Options) {
			o.Crt, o.Key, o.ChainMem = "", "", joinFiles(t, "server.crt", "server-enc.key")
		}},
		{"Crt", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.Crt = testkit.PKI("server-enc.key") }},
		{"CrtMem", "", func(o *sslfilter.Options) { o.CrtMem = encrypted("CERTIFICATE") }},
		{"CACrt", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.CACrt = testkit.PKI("server-enc.key") }},
		{"CACrtMem[0]", "", func(o *sslfilter.Options) { o.CACrtMem = [][]byte{encrypted("TRUSTED CERTIFICATE")} }},
		{"CACRL", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.CACRL = testkit.PKI("server-enc.key") }},
		{"DHCert", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.DHCert = testkit.PKI("server-enc.key") }},
		{"DHCertMem", "", func(o *sslfilter.Options) { o.DHCertMem = encrypted("DH PARAMETERS") }},
		{"DHCertMem", "", func(o *sslfilter.Options) { o.DHCertMem = encrypted("X9.42 DH PARAMETERS") }},
		{"DHCertMem", "", func(o *sslfilter.Options) { o.DHCertMem = encrypted("PRIVATE KEY") }},
	} {
		refuse(t, testkit.Server(c.change), c.option, c.file)
	}
	left, err := io.ReadAll(os.Stdin)
	require.NoError(t, err)
	require.Equal(t, typed, string(left), "something was read")
}

// KeyPassphrase may return an empty passphrase, or nil.
func TestPEMEmptyPassphrase(t *testing.T) {
	for name, answer := range map[string][]byte{"nil": nil, "empty": {}, "wrong": []byte("wrong")} {
		_, err := sslfilter.NewCtx(sslfilter.Options{
			Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server-enc.key"), KeyPassphrase: func() ([]byte, error) { return answer, nil },
		})
		require.ErrorContains(t, err, "cannot be decrypted", name)
	}
}
