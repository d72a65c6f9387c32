package openssl_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/spacemonkeygo/openssl"
)

// No function asks for the password of data that is encrypted. The child process has no
// terminal, so OpenSSL would ask on its standard output or standard error, and read the
// password on its standard input.
func TestNoPrompt(t *testing.T) {
	const child = "SSLFILTER_COMPAT_CHILD"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoPrompt$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		cmd.Stdin = strings.NewReader(strings.Repeat("password\n", 100))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(strings.ToLower(string(out)), "enter pass") || strings.Contains(string(out), "pass phrase") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	locked := func(text []byte) []byte {
		block, _ := pem.Decode(text)
		//lint:ignore SA1019 the only encrypted form that the standard library writes
		block = must[*pem.Block](t)(x509.EncryptPEMBlock(strings.NewReader(strings.Repeat("x", 64)), block.Type, block.Bytes, []byte("password"), x509.PEMCipherAES256))
		return pem.EncodeToMemory(block)
	}
	id := issue(t, nil, "server", "", false)
	cert, key := id.pem(t)
	pkcs8, _ := pem.Decode([]byte(encryptedPKCS8))
	dir := t.TempDir()
	certFile, keyFile := write(t, dir, "cert.pem", cert), write(t, dir, "key.pem", locked(key))
	for what, load := range map[string]func() error{
		"private key":       func() error { _, err := openssl.LoadPrivateKeyFromPEM(locked(key)); return err },
		"empty password":    func() error { _, err := openssl.LoadPrivateKeyFromPEMWithPassword(locked(key), ""); return err },
		"PKCS #8":           func() error { _, err := openssl.LoadPrivateKeyFromPEM([]byte(encryptedPKCS8)); return err },
		"PKCS #8, no label": func() error { _, err := openssl.LoadPrivateKeyFromDER(pkcs8.Bytes); return err },
		"public key": func() error {
			_, err := openssl.LoadPublicKeyFromPEM(locked(must[[]byte](t)(id.key.MarshalPKIXPublicKeyPEM())))
			return err
		},
		"private key as public": func() error { _, err := openssl.LoadPublicKeyFromPEM(locked(key)); return err },
		"PKCS #8 as public":     func() error { _, err := openssl.LoadPublicKeyFromPEM([]byte(encryptedPKCS8)); return err },
		"PKCS #8 as public DER": func() error { _, err := openssl.LoadPublicKeyFromDER(pkcs8.Bytes); return err },
		"certificate":           func() error { _, err := openssl.LoadCertificateFromPEM(locked(cert)); return err },
		"DH parameters":         func() error { _, err := openssl.LoadDHParametersFromPEM(locked([]byte(ffdhe2048))); return err },
		"PKCS #8 as DH":         func() error { _, err := openssl.LoadDHParametersFromPEM([]byte(encryptedPKCS8)); return err },
		"private key as DH":     func() error { _, err := openssl.LoadDHParametersFromPEM(locked(key)); return err },
		"CAs": func() error {
			return must[*openssl.CertificateStore](t)(openssl.NewCertificateStore()).LoadCertificatesFromPEM(locked(cert))
		},
		"files": func() error { _, err := openssl.NewCtxFromFiles(certFile, keyFile); return err },
		"other file": func() error {
			_, err := openssl.NewCtxFromFiles(write(t, dir, "locked.pem", locked(cert)), keyFile)
			return err
		},
	} {
		if load() == nil {
			t.Errorf("%s: encrypted data are read without a password", what)
		}
	}
}

// encryptedPKCS8 is a key of Ed25519 with the password "password".
const encryptedPKCS8 = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiXTqnvmnGN3gICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEENY5Q9WTx/PMphUAZC+PbVQEQIvL
uHV5KehsHyPDyLCclz4TCu2RJdS+9Z83qsYjL/njINvps76PGCvvdXk4ZXQfhRZC
4/CJhBiD+Ji5fjw1svo=
-----END ENCRYPTED PRIVATE KEY-----
`
