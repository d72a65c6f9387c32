package sslfilter_test

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Keys with the passphrase "right" that are used only here.
const (
	keyRC2 = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGxMBwGCiqGSIb3DQEMAQYwDgQIv4ZaWpx1sUkCAggABIGQMqxFGlyErVL3B89x
RgP3gVU0K+kbyEEprcUzKeZe4RrmjKdk9ji5JqsH7abtlDjwbXV+bWHKtBFrdBdK
gp9PW2gwl6D4k4ADdmhKFdbOyzETfV/cifmxW75lEBI1pF1KbbzOvIamo66Pd7dV
IAqyJoPPMcurQ5h87VS1aWGhYQo5bDzMZS4tNY0RZIy/Smnc
-----END ENCRYPTED PRIVATE KEY-----
`
	keyDES = `-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: DES-CBC,AD7C389D4A4A378A

T5JjjdA/2j+d8NshSKDwcA4LB7xxCmJrcqp9E+34+/qZtXlsxJpMBSAOZSCaxcRW
nhd+y3jk0+NB/Nd3NkODiaTRPeiqkTB3nerh4ivXYT5UV8BPg94a/z2xhygSiACF
EJz4kcI3/vI1RQ/RbCIlKqnHgJHxNmpDtDctmhHKfA4=
-----END EC PRIVATE KEY-----
`
)

// If the providers do not have the encryption of a key, the error names the algorithm. It
// mentions the passphrase only if that may be wrong.
func TestPEMKeyEncryptionIsNamed(t *testing.T) {
	keys := map[string]string{"RC2-40-CBC": keyRC2, "DES-CBC": keyDES}
	if sslfilter.FIPSEnabled() { // the key derivation is missing, too, and is needed first
		keys = map[string]string{"PKCS12KDF": keyRC2, "MD5": keyDES}
	}
	for algorithm, key := range keys {
		for _, passphrase := range []string{"right", "wrong"} {
			err := accepted(sslfilter.Options{Crt: testkit.PKI("server-ec.crt"), KeyMem: []byte(key), KeyPassphrase: saying(passphrase)})
			switch {
			case since(openssl30):
				require.ErrorContains(t, err, "an algorithm that the loaded providers do not have ("+algorithm+")")
				require.NotContains(t, err.Error(), "KeyPassphrase right?")
			case passphrase == "right":
				require.ErrorContains(t, err, "does not match the certificate", "1.1.1 has the algorithm")
			default:
				require.ErrorContains(t, err, "is KeyPassphrase right?")
			}
		}
	}
	err := refuse(t, testkit.Server(func(o *sslfilter.Options) { o.Key, o.KeyPassphrase = testkit.PKI("server-enc.key"), saying("wrong") }), "Key", testkit.PKI("server-enc.key"))
	require.ErrorContains(t, err, "is KeyPassphrase right?")
}

// If a file is not a PEM certificate or key, the error says what it is, and gives the
// command that converts it.
func TestPEMOtherFormsAreNamed(t *testing.T) {
	block := func(kind string) []byte {
		return testkit.PEM(kind, []byte("0\x03\x02\x01\x03"))
	}
	der := func(v any) []byte {
		text, err := asn1.Marshal(v)
		require.NoError(t, err)
		return text
	}
	data := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	p12 := der(struct {
		Version int
		Safe    struct{ Kind asn1.ObjectIdentifier }
	}{3, struct{ Kind asn1.ObjectIdentifier }{data}})
	p7b := der(struct{ Kind asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}})
	for _, c := range []struct {
		name     string
		data     []byte
		crt, key string
	}{
		{"PKCS #7", block("PKCS7"), `"openssl pkcs7 -print_certs -in FILE"`, "PKCS #7"},
		{"PKCS #7 in DER", p7b, `"openssl pkcs7 -inform DER -print_certs -in FILE"`, "PKCS #7"},
		{"PKCS #12", p12, `"openssl pkcs12 -nodes -in FILE"`, `"openssl pkcs12 -nodes -in FILE"`},
		{"request", block("CERTIFICATE REQUEST"), `"openssl x509 -req -in FILE`, "certificate request"},
		{"OpenSSH", block("OPENSSH PRIVATE KEY"), "OpenSSH", `"ssh-keygen -p -m PKCS8 -f FILE"`},
		{"public key", block("PUBLIC KEY"), "a public key", "a public key"},
		{"DER", testkit.DER(t, testkit.PKIBytes(t, "server.crt")), `"openssl x509 -inform DER -in FILE"`, `"openssl pkey -inform DER -in FILE"`},
	} {
		require.ErrorContains(t, refuse(t, testkit.Server(func(o *sslfilter.Options) { o.CrtMem = c.data }), "CrtMem", ""), c.crt, c.name)
		require.ErrorContains(t, refuse(t, testkit.Server(func(o *sslfilter.Options) { o.KeyMem = c.data }), "KeyMem", ""), c.key, c.name)
		require.ErrorContains(t, refuse(t, testkit.Client(func(o *sslfilter.Options) { o.CACrtMem = [][]byte{c.data} }), "CACrtMem[0]", ""), c.crt, c.name)
	}
	require.ErrorContains(t, refuse(t, testkit.Server(func(o *sslfilter.Options) { o.Crt = testkit.PKI("server.key") }), "Crt", testkit.PKI("server.key")), "no PEM certificate in it, but PRIVATE KEY")
}

// Files of any size are read completely, also those that do not report their size.
func TestPEMFilesOfAnySize(t *testing.T) {
	crt, key := testkit.PKIBytes(t, "server.crt"), testkit.PKIBytes(t, "server.key")
	for _, n := range []int{0, 511, 512, 513, 1 << 16} {
		padded := append(bytes.Repeat([]byte("\n"), n), crt...)
		testkit.Ctx(t, sslfilter.Options{Crt: testkit.TempFile(t, "crt", padded), KeyMem: key})
		r, w, err := os.Pipe()
		require.NoError(t, err)
		go func() {
			defer w.Close()
			w.Write(padded)
		}()
		testkit.Ctx(t, sslfilter.Options{Crt: fmt.Sprintf("/dev/fd/%d", r.Fd()), KeyMem: key})
		require.NoError(t, r.Close())
	}
}
