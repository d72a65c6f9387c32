package openssl_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/spacemonkeygo/openssl"
)

// Signatures and keys agree with those of crypto/x509 and its packages.
func TestKeysOfTheStandardLibrary(t *testing.T) {
	data, sum := []byte("data"), sha256.Sum256([]byte("data"))
	key := must[openssl.PrivateKey](t)(openssl.GenerateRSAKey(2048))
	std := must[*rsa.PrivateKey](t)(x509.ParsePKCS1PrivateKey(must[[]byte](t)(key.MarshalPKCS1PrivateKeyDER())))
	if std.E != 65537 {
		t.Errorf("exponent %d", std.E)
	}
	sig := must[[]byte](t)(key.SignPKCS1v15(openssl.SHA256_Method, data))
	ok(t, rsa.VerifyPKCS1v15(&std.PublicKey, crypto.SHA256, sum[:], sig))
	ok(t, key.VerifyPKCS1v15(openssl.SHA256_Method, data, must[[]byte](t)(rsa.SignPKCS1v15(nil, std, crypto.SHA256, sum[:]))))
	for name, err := range map[string]error{
		"damaged":      key.VerifyPKCS1v15(openssl.SHA256_Method, data, append([]byte{sig[0] ^ 1}, sig[1:]...)),
		"other data":   key.VerifyPKCS1v15(openssl.SHA256_Method, data[1:], sig),
		"other digest": key.VerifyPKCS1v15(openssl.SHA512_Method, data, sig),
		"empty":        key.VerifyPKCS1v15(openssl.SHA256_Method, data, nil),
		"no method":    key.VerifyPKCS1v15(nil, data, sig),
	} {
		if err == nil {
			t.Errorf("signature accepted: %s", name)
		}
	}
	if key.KeyType() != openssl.KeyTypeRSA || key.BaseType() != openssl.KeyTypeRSA {
		t.Errorf("type %d", key.KeyType())
	}

	ec := must[openssl.PrivateKey](t)(openssl.GenerateECKey(openssl.Secp384r1))
	ecStd := must[*ecdsa.PrivateKey](t)(x509.ParseECPrivateKey(must[[]byte](t)(ec.MarshalPKCS1PrivateKeyDER())))
	if !ecdsa.VerifyASN1(&ecStd.PublicKey, sum[:], must[[]byte](t)(ec.SignPKCS1v15(openssl.SHA256_Method, data))) {
		t.Error("crypto/ecdsa refuses the signature")
	}
	if _, err := openssl.DeriveSharedSecret(ec, key); err == nil {
		t.Error("a secret of an EC and an RSA key")
	}
	ed := must[openssl.PrivateKey](t)(openssl.GenerateED25519Key())
	if _, err := ed.SignPKCS1v15(openssl.SHA256_Method, data); err == nil {
		t.Error("Ed25519 with a digest")
	}
	for _, bits := range []int{0, -1, 100, 1 << 20} {
		if _, err := openssl.GenerateRSAKey(bits); err == nil {
			t.Errorf("RSA key of %d bits", bits)
		}
	}
	for _, exponent := range []int{0, 1, 4, -3} {
		if _, err := openssl.GenerateRSAKeyWithExponent(2048, exponent); err == nil {
			t.Errorf("RSA exponent %d", exponent)
		}
	}
}

// A key that is encrypted needs its password, and nothing prompts.
func TestKeyPassword(t *testing.T) {
	if inFIPSMode {
		t.Skip("the key of this form of encryption is derived with MD5, which is not approved")
	}
	key := must[openssl.PrivateKey](t)(openssl.GenerateECKey(openssl.Prime256v1))
	block, _ := pem.Decode(must[[]byte](t)(key.MarshalPKCS1PrivateKeyPEM()))
	//lint:ignore SA1019 the only encrypted form that the standard library writes
	locked := must[*pem.Block](t)(x509.EncryptPEMBlock(strings.NewReader(strings.Repeat("x", 64)), block.Type, block.Bytes, []byte("password"), x509.PEMCipherAES256))
	text := pem.EncodeToMemory(locked)
	for _, load := range []func([]byte, string) (openssl.PrivateKey, error){openssl.LoadPrivateKeyFromPEMWithPassword, openssl.LoadPrivateKeyFromPEMWidthPassword} {
		got := must[openssl.PrivateKey](t)(load(text, "password"))
		if !bytes.Equal(must[[]byte](t)(got.MarshalPKCS1PrivateKeyDER()), block.Bytes) {
			t.Error("another key")
		}
		for _, wrong := range []string{"", "Password", strings.Repeat("x", 5000)} {
			if _, err := load(text, wrong); err == nil {
				t.Errorf("password %.20q is accepted", wrong)
			}
		}
	}
	if _, err := openssl.LoadPrivateKeyFromPEM(text); err == nil {
		t.Error("an encrypted key is read without a password")
	}
	for _, junk := range [][]byte{nil, {}, []byte("junk"), text[:len(text)/2]} {
		if _, err := openssl.LoadPrivateKeyFromPEM(junk); err == nil || !strings.HasPrefix(err.Error(), "openssl: private key: ") {
			t.Errorf("%.20q: %v", junk, err)
		}
		if _, err := openssl.LoadPrivateKeyFromDER(junk); err == nil {
			t.Errorf("DER %.20q is accepted", junk)
		}
		if _, err := openssl.LoadPublicKeyFromPEM(junk); err == nil {
			t.Errorf("public %.20q is accepted", junk)
		}
		if _, err := openssl.LoadPublicKeyFromDER(junk); err == nil {
			t.Errorf("public DER %.20q is accepted", junk)
		}
		if _, err := openssl.LoadCertificateFromPEM(junk); err == nil {
			t.Errorf("certificate %.20q is accepted", junk)
		}
		if _, err := openssl.LoadDHParametersFromPEM(junk); err == nil {
			t.Errorf("DH parameters %.20q are accepted", junk)
		}
	}
}

// ffdhe2048 is the group of RFC 7919.
const ffdhe2048 = `-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
`

func TestDHParameters(t *testing.T) {
	dh := must[*openssl.DH](t)(openssl.LoadDHParametersFromPEM([]byte(ffdhe2048)))
	key := must[openssl.PrivateKey](t)(openssl.GenerateRSAKey(2048))
	cert := must[*openssl.Certificate](t)(openssl.NewCertificate(&openssl.CertificateInfo{Serial: big.NewInt(1), Expires: time.Hour, CommonName: "x"}, key))
	ok(t, cert.Sign(key, openssl.EVP_SHA256))
	server := (&identity{cert, key}).ctx(t)
	ok(t, server.SetDHParameters(dh))
	ok(t, server.SetCipherList("DHE-RSA-AES256-GCM-SHA384"))
	server.SetOptions(0x20000000) // SSL_OP_NO_TLSv1_3
	conn := must[*openssl.Conn](t)(openssl.Dial("tcp", serve(t, server), nil, openssl.InsecureSkipHostVerification))
	defer conn.Close()
	ok(t, answered(conn))
	if name := must[string](t)(conn.CurrentCipher()); name != "DHE-RSA-AES256-GCM-SHA384" {
		t.Error(name)
	}
	ec := must[[]byte](t)(must[openssl.PrivateKey](t)(openssl.GenerateECKey(openssl.Prime256v1)).MarshalPKCS1PrivateKeyPEM())
	if _, err := openssl.LoadDHParametersFromPEM(ec); err == nil {
		t.Error("an EC key is accepted")
	}
}

// Digests and HMACs agree with the standard library, in one call and in pieces.
func TestDigests(t *testing.T) {
	data := []byte("the quick brown fox")
	if !inFIPSMode {
		if got := must[[16]byte](t)(openssl.MD5(data)); got != md5.Sum(data) {
			t.Error("MD5")
		}
	}
	if got := must[[32]byte](t)(openssl.SHA256(nil)); got != sha256.Sum256(nil) {
		t.Error("SHA256 of nothing")
	}
	h := must[*openssl.SHA256Hash](t)(openssl.NewSHA256Hash())
	for range 3 {
		for _, b := range data {
			if n, err := h.Write([]byte{b}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		if got := must[[32]byte](t)(h.Sum()); got != sha256.Sum256(data) {
			t.Error("SHA256 in pieces")
		}
	}
	if got := must[[32]byte](t)(h.Sum()); got != sha256.Sum256(nil) {
		t.Error("Sum has not started a new digest")
	}
	must[int](t)(h.Write([]byte("thrown away")))
	ok(t, h.Reset())
	must[int](t)(h.Write(data))
	if got := must[[32]byte](t)(h.Sum()); got != sha256.Sum256(data) {
		t.Error("SHA256 after Reset")
	}
	h.Close()
	h.Close()
	if _, err := h.Write(data); err == nil {
		t.Error("Write after Close")
	}
	if _, err := h.Sum(); err == nil {
		t.Error("Sum after Close")
	}
	if h.Reset() == nil {
		t.Error("Reset after Close")
	}
	for _, key := range [][]byte{nil, []byte("k"), bytes.Repeat([]byte("k"), 500)} {
		m := must[*openssl.HMAC](t)(openssl.NewHMAC(key, openssl.EVP_SHA512))
		want := hmac.New(sha512.New, key)
		want.Write(data)
		for range 2 {
			must[int](t)(m.Write([]byte("thrown away")))
			ok(t, m.Reset())
			must[int](t)(m.Write(data[:4]))
			must[int](t)(m.Write(data[4:]))
			if got := must[[]byte](t)(m.Final()); !hmac.Equal(got, want.Sum(nil)) {
				t.Errorf("HMAC with a key of %d bytes: %x", len(key), got)
			}
		}
		m.Close()
		if _, err := m.Final(); err == nil {
			t.Error("Final after Close")
		}
	}
	for _, md := range []openssl.EVP_MD{-1, openssl.EVP_SHA, 99} {
		if _, err := openssl.NewHMAC(nil, md); err == nil {
			t.Errorf("digest %d exists", md)
		}
	}
	for name, want := range map[string]bool{"sha256": true, "SHA512": true, "nonsense": false} {
		if _, err := openssl.GetDigestByName(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	must[*openssl.Digest](t)(openssl.GetDigestByNid(openssl.NID_sha1))
	if _, err := openssl.GetDigestByNid(-5); err == nil {
		t.Error("digest -5 exists")
	}
}

// beside returns b as a slice of an object that also has a Go pointer.
func beside(b []byte) []byte {
	object := &struct {
		data    [4096]byte
		pointer *[]byte
	}{pointer: &b}
	n := copy(object.data[:], b)
	return object.data[:n:n]
}

// A slice can be a part of an object with Go pointers: only its bytes are passed to C.
func TestSlicesBesidePointers(t *testing.T) {
	data := beside([]byte("data"))
	if got := must[[32]byte](t)(openssl.SHA256(data)); got != sha256.Sum256(data) {
		t.Error("SHA256")
	}
	h := must[*openssl.SHA256Hash](t)(openssl.NewSHA256Hash())
	must[int](t)(h.Write(data))
	m := must[*openssl.HMAC](t)(openssl.NewHMAC(data, openssl.EVP_SHA256))
	must[int](t)(m.Write(data))

	key, iv := beside(make([]byte, 32)), beside(make([]byte, 12))
	enc := must[openssl.AuthenticatedEncryptionCipherCtx](t)(openssl.NewGCMEncryptionCipherCtx(256, nil, key, iv))
	ok(t, enc.ExtraData(data))
	sealed := beside(must[[]byte](t)(enc.EncryptUpdate(data)))
	must[[]byte](t)(enc.EncryptFinal())
	dec := must[openssl.AuthenticatedDecryptionCipherCtx](t)(openssl.NewGCMDecryptionCipherCtx(256, nil, key, iv))
	ok(t, dec.ExtraData(data))
	ok(t, dec.SetTag(beside(must[[]byte](t)(enc.GetTag()))))
	if got := must[[]byte](t)(dec.DecryptUpdate(sealed)); !bytes.Equal(got, data) {
		t.Errorf("decrypted %q", got)
	}
	must[[]byte](t)(dec.DecryptFinal())

	id := issue(t, nil, "name", "IP:192.0.2.1", false)
	cert, private := id.pem(t)
	must[openssl.PrivateKey](t)(openssl.LoadPrivateKeyFromPEM(beside(private)))
	must[openssl.PrivateKey](t)(openssl.LoadPrivateKeyFromPEMWithPassword(beside(private), "x"))
	must[openssl.PrivateKey](t)(openssl.LoadPrivateKeyFromDER(beside(must[[]byte](t)(id.key.MarshalPKCS1PrivateKeyDER()))))
	must[openssl.PublicKey](t)(openssl.LoadPublicKeyFromPEM(beside(must[[]byte](t)(id.key.MarshalPKIXPublicKeyPEM()))))
	must[openssl.PublicKey](t)(openssl.LoadPublicKeyFromDER(beside(must[[]byte](t)(id.key.MarshalPKIXPublicKeyDER()))))
	must[*openssl.Certificate](t)(openssl.LoadCertificateFromPEM(beside(cert)))
	must[*openssl.DH](t)(openssl.LoadDHParametersFromPEM(beside([]byte(ffdhe2048))))
	ok(t, must[*openssl.CertificateStore](t)(openssl.NewCertificateStore()).LoadCertificatesFromPEM(beside(cert)))
	sig := must[[]byte](t)(id.key.SignPKCS1v15(openssl.SHA256_Method, data))
	ok(t, id.key.VerifyPKCS1v15(openssl.SHA256_Method, data, beside(sig)))
	ok(t, id.cert.CheckIP(net.IP(beside([]byte{192, 0, 2, 1})), 0))

	below, out := pipe(t)
	conn := must[*openssl.Conn](t)(openssl.Server(below, id.ctx(t)))
	done := echo(conn)
	client := must[*openssl.Conn](t)(openssl.Client(out, (*identity)(nil).ctx(t)))
	must[int](t)(client.Write(data))
	got := beside(make([]byte, len(data)))
	must[int](t)(io.ReadFull(client, got))
	if !bytes.Equal(got, data) {
		t.Errorf("%q comes back", got)
	}
	client.Close()
	<-done
}

// Ciphers agree with the standard library, and refuse sizes that are wrong.
func TestCiphers(t *testing.T) {
	key, iv, data := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16), bytes.Repeat([]byte("data"), 1000)
	c := must[*openssl.Cipher](t)(openssl.GetCipherByName("aes-256-ctr"))
	enc := must[openssl.EncryptionCipherCtx](t)(openssl.NewEncryptionCipherCtx(c, nil, key, iv))
	got := must[[]byte](t)(enc.EncryptUpdate(data))
	got = append(got, must[[]byte](t)(enc.EncryptFinal())...)
	block := must[cipher.Block](t)(aes.NewCipher(key))
	want := make([]byte, len(data))
	cipher.NewCTR(block, iv).XORKeyStream(want, data)
	if !bytes.Equal(got, want) {
		t.Error("aes-256-ctr differs from that of crypto/aes")
	}
	if c.KeySize() != 32 || c.IVSize() != 16 || c.BlockSize() != 1 || must[string](t)(c.ShortName()) != "AES-256-CTR" {
		t.Errorf("sizes %d, %d, %d", c.KeySize(), c.IVSize(), c.BlockSize())
	}
	byNid := must[*openssl.Cipher](t)(openssl.GetCipherByNid(c.Nid()))
	if byNid.Nid() != c.Nid() || enc.Cipher() != c || enc.KeySize() != 32 {
		t.Error("another cipher")
	}
	for _, wrong := range []struct{ key, iv []byte }{{nil, iv}, {key[1:], iv}, {key, nil}, {key, iv[1:]}} {
		if _, err := openssl.NewEncryptionCipherCtx(c, nil, wrong.key, wrong.iv); err == nil {
			t.Errorf("key of %d and IV of %d bytes", len(wrong.key), len(wrong.iv))
		}
		if _, err := openssl.NewDecryptionCipherCtx(c, nil, wrong.key, wrong.iv); err == nil {
			t.Errorf("key of %d and IV of %d bytes", len(wrong.key), len(wrong.iv))
		}
	}
	sealed := must[openssl.AuthenticatedEncryptionCipherCtx](t)(openssl.NewGCMEncryptionCipherCtx(256, nil, key, iv[:12]))
	ok(t, sealed.ExtraData([]byte("extra")))
	got = must[[]byte](t)(sealed.EncryptUpdate(data))
	got = append(got, must[[]byte](t)(sealed.EncryptFinal())...)
	got = append(got, must[[]byte](t)(sealed.GetTag())...)
	if !bytes.Equal(got, must[cipher.AEAD](t)(cipher.NewGCM(block)).Seal(nil, iv[:12], data, []byte("extra"))) {
		t.Error("AES-GCM differs from that of crypto/cipher")
	}
	if again := must[[]byte](t)(sealed.GetTag()); !bytes.Equal(again, got[len(data):]) {
		t.Error("the second GetTag returns another tag")
	}
	if _, err := sealed.EncryptFinal(); err == nil || sealed.ExtraData(data) == nil {
		t.Error("a context of GCM can be used after EncryptFinal")
	}
	if _, err := sealed.EncryptUpdate(data); err == nil {
		t.Error("EncryptUpdate after EncryptFinal")
	}
	if _, err := must[openssl.AuthenticatedEncryptionCipherCtx](t)(openssl.NewGCMEncryptionCipherCtx(256, nil, key, iv[:12])).GetTag(); err == nil {
		t.Error("GetTag before EncryptFinal")
	}
	open := must[openssl.AuthenticatedDecryptionCipherCtx](t)(openssl.NewGCMDecryptionCipherCtx(256, nil, key, iv[:12]))
	if open.SetTag(nil) == nil || open.SetTag(make([]byte, 17)) == nil {
		t.Error("a tag of a wrong length is accepted")
	}
	must[[]byte](t)(open.DecryptUpdate(data))
	if _, err := open.DecryptFinal(); err == nil {
		t.Error("data without a tag are accepted")
	}
	if _, err := open.DecryptFinal(); err == nil || open.SetTag(make([]byte, 16)) == nil {
		t.Error("a context of GCM can be used after DecryptFinal")
	}
	if _, err := openssl.NewGCMEncryptionCipherCtx(256, nil, key, nil); err == nil {
		t.Error("GCM without an IV")
	}
	if _, err := openssl.GetCipherByName("nonsense"); err == nil {
		t.Error("the cipher nonsense exists")
	}
}

// Names in certificates are compared as OpenSSL does.
func TestCertificateNames(t *testing.T) {
	san := issue(t, nil, "common.example", "DNS:*.host.example,IP:192.0.2.1,IP:2001:db8::1,email:a@mail.example", false).cert
	plain := issue(t, nil, "common.example", "", false).cert
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"wildcard", san.VerifyHostname("www.host.example"), true},
		{"no wildcards", san.CheckHost("www.host.example", openssl.NoWildcards), false},
		{"common name beside a subjectAltName", san.CheckHost("common.example.com", 0), false},
		{"common name alone", plain.VerifyHostname("common.example"), true},
		{"IPv4", san.VerifyHostname("192.0.2.1"), true},
		{"IPv6", san.VerifyHostname("[2001:db8::1]"), true},
		{"other address", san.CheckIP(net.IPv4(192, 0, 2, 2), 0), false},
		{"no address", san.CheckIP(nil, 0), false},
		{"email", san.CheckEmail("a@mail.example", 0), true},
		{"other email", san.CheckEmail("b@mail.example", 0), false},
		{"empty host", san.CheckHost("", 0), false},
		{"host with a NUL", san.CheckHost("www.host.example\x00.evil", 0), false},
	} {
		if (c.err == nil) != c.want {
			t.Errorf("%s: %v", c.name, c.err)
		}
		if c.err != nil && c.err != openssl.ValidationError && !strings.Contains(c.name, "NUL") {
			t.Errorf("%s: %v is not a ValidationError", c.name, c.err)
		}
	}
	var zero openssl.Certificate
	if _, err := zero.MarshalPEM(); err == nil {
		t.Error("a certificate that nobody made is written")
	}
	if _, err := zero.PublicKey(); err == nil || zero.GetVersion() != openssl.X509_V1 || zero.GetSerialNumberHex() != "" {
		t.Error("a certificate that nobody made has values")
	}
	if err := plain.AddExtension(openssl.NID_basic_constraints, "nonsense"); err == nil {
		t.Error("a nonsensical extension is accepted")
	}
	if err := plain.SetIssuer(nil); err == nil {
		t.Error("a nil issuer is accepted")
	}
	if err := plain.Sign(issue(t, nil, "x", "", false).key, openssl.EVP_MD5); err == nil {
		t.Error("a signature with MD5 is made")
	}
	ed := must[openssl.PrivateKey](t)(openssl.GenerateED25519Key())
	cert := must[*openssl.Certificate](t)(openssl.NewCertificate(&openssl.CertificateInfo{Expires: time.Hour}, ed))
	ok(t, cert.Sign(ed, openssl.EVP_NULL))
	public := must[openssl.PublicKey](t)(cert.PublicKey())
	if public.KeyType() != openssl.KeyTypeED25519 {
		t.Errorf("key type %d", public.KeyType())
	}
	name := must[*openssl.Name](t)(openssl.NewName())
	ok(t, name.AddTextEntries(map[string]string{"CN": "Jürgen", "O": "x"}))
	if cn, _ := name.GetEntry(openssl.NID_commonName); cn != "Jürgen" {
		t.Errorf("common name %q", cn)
	}
	if name.AddTextEntry("nonsense", "x") == nil {
		t.Error("the field nonsense exists")
	}
}

func TestSplitPEM(t *testing.T) {
	a, b := "-----BEGIN A-----\nAAAA\n-----END A-----\n", "-----BEGIN B-----\nBBBB\n-----END B-----"
	got := openssl.SplitPEM([]byte("text\n" + a + "between\n-----BEGIN C-----\ncut off\n" + b))
	if len(got) != 2 || string(got[0]) != a || string(got[1]) != b {
		t.Errorf("%q", got)
	}
	if got := openssl.SplitPEM([]byte("-----END A-----\nno block")); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestCertificateStore(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	pem, key := ca.pem(t)
	store := must[*openssl.CertificateStore](t)(openssl.NewCertificateStore())
	ok(t, store.LoadCertificatesFromPEM(bytes.Join([][]byte{pem, key, pem}, nil)))
	ok(t, store.AddCertificate(ca.cert))
	for _, bad := range [][]byte{nil, key, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")} {
		if store.LoadCertificatesFromPEM(bad) == nil {
			t.Errorf("%.40q is accepted", bad)
		}
	}
	if store.AddCertificate(new(openssl.Certificate)) == nil {
		t.Error("a certificate that nobody made is accepted")
	}
}

// MD4 works without making the legacy provider available to others.
func TestMD4LeavesTheProcessAlone(t *testing.T) {
	got, err := openssl.MD4([]byte("abc"))
	if err != nil {
		t.Skipf("this OpenSSL has no MD4: %v", err)
	}
	if hex.EncodeToString(got[:]) != "a448017aaf21d8525fc10ae87aa6729d" {
		t.Errorf("%x", got)
	}
}

// An engine that does not exist, or an OpenSSL without engines, is an error.
func TestEngines(t *testing.T) {
	if e, err := openssl.EngineById("nonsense"); err == nil || !strings.HasPrefix(err.Error(), "openssl: engine nonsense: ") {
		t.Errorf("%v, %v", e, err)
	}
	e, err := openssl.EngineById("rdrand")
	if err != nil {
		t.Skipf("this OpenSSL or this processor has no engine rdrand: %v", err)
	}
	if _, err := openssl.NewSHA256HashWithEngine(e); err == nil {
		t.Error("rdrand has no SHA-256")
	}
	runtime.KeepAlive(e)
}

// inFIPSMode reports that OpenSSL's configuration sets FIPS mode.
var inFIPSMode = sslfilter.FIPSEnabled()

// FIPSModeSet either works, so that MD5 is refused, or changes nothing.
func TestFIPSMode(t *testing.T) {
	err := openssl.FIPSModeSet(true)
	_, md5Err := openssl.MD5(nil)
	switch {
	case err == nil && md5Err == nil:
		t.Error("MD5 in FIPS mode")
	case err != nil && md5Err != nil:
		t.Errorf("FIPS mode fails (%v), and MD5 too: %v", err, md5Err)
	}
	if err != nil {
		t.Skip(err)
	}
	must[[32]byte](t)(openssl.SHA256(nil))
	if inFIPSMode {
		return // the configuration sets it, and has no other provider
	}
	ok(t, openssl.FIPSModeSet(false))
	must[[16]byte](t)(openssl.MD5(nil))
}
