package sslfilter_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// refuse checks that NewCtx rejects o, and that the error names the option and the file.
func refuse(t testing.TB, o sslfilter.Options, option, file string) *sslfilter.OptionError {
	t.Helper()
	before := sslfilter.LiveHandles()
	ctx, err := sslfilter.NewCtx(o)
	require.Nil(t, ctx)
	refused := testkit.As[*sslfilter.OptionError](t, err)
	require.Equal(t, option, refused.Option, "%v", err)
	require.Equal(t, file, refused.File, "%v", err)
	require.Contains(t, err.Error(), "sslfilter: option "+option)
	require.Equal(t, 1, strings.Count(err.Error(), "sslfilter: "), "%v", err)
	require.Contains(t, err.Error(), file)
	require.Error(t, errors.Unwrap(refused))
	require.LessOrEqual(t, sslfilter.LiveHandles(), before, "the SSL_CTX is freed")
	return refused
}

// pemOption is an option that names a PEM file, for a valid server.
type pemOption struct {
	name    string
	memName string // as in errors; empty if there is none
	file    func(*sslfilter.Options, string)
	mem     func(*sslfilter.Options, []byte)
	good    string // a file of the test PKI that it accepts
	other   string // a PEM file with something else
}

func pemOptions(t testing.TB) []pemOption {
	root := testkit.PKIBytes(t, "root.crt")
	return []pemOption{
		{"Crt", "CrtMem", func(o *sslfilter.Options, f string) { o.Crt = f }, func(o *sslfilter.Options, b []byte) { o.CrtMem = b }, "server.crt", "server.key"},
		{"Key", "KeyMem", func(o *sslfilter.Options, f string) { o.Key = f }, func(o *sslfilter.Options, b []byte) { o.KeyMem = b }, "server.key", "server.crt"},
		{"Chain", "ChainMem", func(o *sslfilter.Options, f string) { o.Crt, o.Chain = "", f },
			func(o *sslfilter.Options, b []byte) { o.Crt, o.ChainMem = "", b }, "server.crt", "server.key"},
		{"CACrt", "CACrtMem[1]", func(o *sslfilter.Options, f string) { o.CACrt = f },
			func(o *sslfilter.Options, b []byte) { o.CACrtMem = [][]byte{root, b, root} }, "ca-both.pem", "crl.pem"},
		{"CACRL", "CACRLMem", func(o *sslfilter.Options, f string) { o.CACRL = f },
			func(o *sslfilter.Options, b []byte) { o.ClientCert, o.CACRLMem = true, b }, "crl.pem", "root.crt"},
		{"CRLFiles", "CRLMem[1]", func(o *sslfilter.Options, f string) {
			checking(sslfilter.CRLCheckLeaf, "crl-other.pem")(o)
			o.ClientCert, o.CACrtMem, o.CRLFiles = true, [][]byte{root}, append([]string{f}, o.CRLFiles...) // o.CRLFiles comes last, because the cache keeps the files that NewCtx read before the error
		}, func(o *sslfilter.Options, b []byte) {
			o.ClientCert, o.CACrtMem, o.CRLCheck, o.CRLMem = true, [][]byte{root}, sslfilter.CRLCheckLeaf, [][]byte{testkit.PKIBytes(t, "crl.pem"), b}
		}, "crl.pem", "root.crt"},
		{"DHCert", "DHCertMem", func(o *sslfilter.Options, f string) { o.DHCert = f }, func(o *sslfilter.Options, b []byte) { o.DHCertMem = b }, "dh2048.pem", "server.crt"},
	}
}

// badContents returns contents that no PEM option accepts.
func badContents(t testing.TB, o pemOption) map[string][]byte {
	t.Helper()
	good := testkit.PKIBytes(t, o.good)
	block, _ := pem.Decode(good)
	brokenBlock := &pem.Block{Type: block.Type, Bytes: []byte("0, but no ASN.1 follows")}
	bad := map[string][]byte{
		"empty":          {},
		"garbage":        testkit.PKIBytes(t, "garbage.pem"),
		"DER":            block.Bytes,
		"of other kind":  testkit.PKIBytes(t, o.other),
		"truncated":      good[:len(good)/2],
		"END missing":    good[:bytes.LastIndex(good, []byte("-----END"))],
		"DER cut":        testkit.PEM(block.Type, block.Bytes[:len(block.Bytes)-1]),
		"no DER inside":  pem.EncodeToMemory(brokenBlock),
		"BEGIN indented": append([]byte("  "), good...),
	}
	if block.Type == "CERTIFICATE" || block.Type == "X509 CRL" { // in keys and parameters OpenSSL ignores it
		bad["a byte after the DER"] = testkit.PEM(block.Type, append(bytes.Clone(block.Bytes), 0))
	}
	return bad
}

// Each kind of wrong file causes an error with a recorded text.
func TestOptionsBadFiles(t *testing.T) {
	texts := make(map[string]string)
	dir := t.TempDir()
	keep := func(name string, refused *sslfilter.OptionError) {
		texts[name] = strings.ReplaceAll(refused.Error(), dir+string(filepath.Separator), "")
	}
	for _, o := range pemOptions(t) {
		require.NoError(t, accepted(testkit.Server(func(s *sslfilter.Options) { o.file(s, testkit.PKI(o.good)) })), o.name)
		for kind, data := range badContents(t, o) {
			file := filepath.Join(dir, "file.pem")
			require.NoError(t, os.WriteFile(file, data, 0o600))
			refused := refuse(t, testkit.Server(func(s *sslfilter.Options) { o.file(s, file) }), o.name, file)
			keep(o.name+", "+kind, refused)
			if o.mem == nil {
				continue
			}
			inMemory := refuse(t, testkit.Server(func(s *sslfilter.Options) { o.mem(s, data) }), o.memName, "")
			require.Equal(t, refused.Err.Error(), inMemory.Err.Error(), "%s: %s", o.memName, kind)
		}
		missing := refuse(t, testkit.Server(func(s *sslfilter.Options) { o.file(s, filepath.Join(dir, "missing.pem")) }), o.name, filepath.Join(dir, "missing.pem"))
		require.ErrorIs(t, missing, fs.ErrNotExist)
		keep(o.name+", missing", missing)
		directory := refuse(t, testkit.Server(func(s *sslfilter.Options) { o.file(s, "testdata") }), o.name, "testdata")
		if o.name != "CACrt" { // which accepts a directory with certificates
			require.ErrorIs(t, directory, syscall.EISDIR)
		}
		keep(o.name+", a directory", directory)
		keep(o.name+", too large", refuse(t, testkit.Server(func(s *sslfilter.Options) { o.file(s, tooLarge(t, dir)) }), o.name, filepath.Join(dir, "large.pem")))
		refuse(t, testkit.Server(func(s *sslfilter.Options) { o.file(s, testkit.PKI(o.good)+"\x00") }), o.name, "")
	}
	golden(t, "files", texts)
}

// A context does not keep the contents in memory that NewCtx has parsed.
func TestOptionsContentsAreForgotten(t *testing.T) {
	for _, o := range pemOptions(t) {
		ctx := testkit.Ctx(t, testkit.Server(func(s *sslfilter.Options) { o.mem(s, testkit.PKIBytes(t, o.good)) }))
		require.False(t, sslfilter.KeepsSecrets(ctx), o.memName)
	}
}

// accepted returns the error of NewCtx.
func accepted(o sslfilter.Options) error {
	ctx, err := sslfilter.NewCtx(o)
	if err == nil {
		ctx.Close()
	}
	return err
}

// tooLarge returns a sparse file that is one byte larger than the bound.
func tooLarge(t testing.TB, dir string) string {
	t.Helper()
	file := filepath.Join(dir, "large.pem")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Truncate(file, sslfilter.MaxPEMFile+1))
	return file
}

// A file that cannot be read causes an error that names it. Root may read every file, so
// under root the thread temporarily uses the file system user ID of nobody.
func TestOptionsUnreadableFiles(t *testing.T) {
	const nobody = 65534
	file := testkit.TempFile(t, "secret.pem", testkit.PKIBytes(t, "chain-with-key.pem"))
	require.NoError(t, os.Chmod(file, 0))
	server := sslfilter.Options{CrtMem: testkit.PKIBytes(t, "server.crt"), KeyMem: testkit.PKIBytes(t, "server.key")}
	for _, o := range pemOptions(t) {
		options := testkit.With(server, func(s *sslfilter.Options) {
			switch o.name {
			case "Crt":
				s.CrtMem = nil
			case "Key":
				s.KeyMem = nil
			case "Chain":
				s.CrtMem = nil
			}
			o.file(s, file)
		})

		t.Run(o.name, func(t *testing.T) {
			var refused *sslfilter.OptionError
			func() {
				if os.Geteuid() == 0 {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0)
					defer syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
				}
				refused = refuse(t, options, o.name, file)
			}()
			require.ErrorIs(t, refused, fs.ErrPermission)
		})
	}
}

// Each wrong value causes an error that names the option.
func TestOptionsBadValues(t *testing.T) {
	texts := make(map[string]string)
	for _, c := range badValues(t) {
		t.Run(c.name, func(t *testing.T) {
			require.NotContains(t, texts, c.name)
			base := testkit.Server()
			if c.client {
				base = testkit.Client()
			}
			texts[c.name] = refuse(t, testkit.With(base, c.change), c.option, c.file).Error()
		})
	}
	golden(t, "options", texts)
}

// badValue is one wrong value for a server or client that is otherwise valid.
type badValue struct {
	name   string
	client bool
	option string
	file   string
	change func(*sslfilter.Options)
}

func badValues(t testing.TB) []badValue {
	list := []badValue{
		{"CAVerifyDepth below 0", false, "CAVerifyDepth", "", func(o *sslfilter.Options) { o.CAVerifyDepth = -1 }},
		{"IgnoreVerifyErrors below 0", false, "IgnoreVerifyErrors", "", func(o *sslfilter.Options) { o.IgnoreVerifyErrors = []sslfilter.VerifyCode{10, -1} }},

		{"BlockInvalidClientCert on a client", true, "BlockInvalidClientCert", "", func(o *sslfilter.Options) { o.BlockInvalidClientCert = true }},
		{"BlockInvalidClientCert without a CA", false, "BlockInvalidClientCert", "", func(o *sslfilter.Options) { o.BlockInvalidClientCert = true }},
		{"RequireValidClientCert on a client", true, "RequireValidClientCert", "", func(o *sslfilter.Options) { o.RequireValidClientCert = true }},
		{"RequireValidClientCert without a CA", false, "RequireValidClientCert", "", func(o *sslfilter.Options) { o.RequireValidClientCert = true }},
		{"RequireValidClientCert with an empty CACrtMem", false, "RequireValidClientCert", "", func(o *sslfilter.Options) {
			o.RequireValidClientCert, o.CACrt, o.CACrtMem = true, testkit.PKI("root.crt"), [][]byte{}
		}},
		{"InsecureSkipVerify on a server", false, "InsecureSkipVerify", "", func(o *sslfilter.Options) { o.InsecureSkipVerify = true }},
		{"ServerName on a server", false, "ServerName", "", testkit.ServerName("localhost")},

		{"CACRLMem on a server that does not ask", false, "CACRLMem", "", func(o *sslfilter.Options) { o.CACRLMem = testkit.PKIBytes(t, "crl.pem") }},
		{"CRLCheck on a server that does not ask", false, "CRLCheck", "", func(o *sslfilter.Options) {
			checking(sslfilter.CRLCheckLeaf, "crl.pem")(o)
			o.CACrt = testkit.PKI("root.crt")
		}},
		{"CRLCheck without a CRL", true, "CRLCheck", "", checking(sslfilter.CRLCheckLeaf)},
		{"CRLCheck without a CA", false, "CRLCheck", "", func(o *sslfilter.Options) {
			checking(sslfilter.CRLCheckLeaf, "crl.pem")(o)
			o.ClientCert = true
		}},
		{"CRLCheck without a CA on a client", true, "CRLCheck", "", func(o *sslfilter.Options) {
			checking(sslfilter.CRLCheckChain, "crl.pem")(o)
			o.CACrt, o.InsecureSkipVerify = "", true
		}},
		{"CRLCheck below 0", true, "CRLCheck", "", checking(-1, "crl.pem")},
		{"CRLCheck beyond Chain", true, "CRLCheck", "", checking(3, "crl.pem")},
		{"CRLFiles without CRLCheck", true, "CRLFiles", "", checking(sslfilter.CRLCheckOff, "crl.pem")},
		{"CRLMem without CRLCheck", true, "CRLMem", "", func(o *sslfilter.Options) { o.CRLMem = [][]byte{testkit.PKIBytes(t, "crl.pem")} }},
		{"AllowMissingCRL without CRLCheck", true, "AllowMissingCRL", "", allowMissing},
		{"AllowExpiredCRL without CRLCheck", true, "AllowExpiredCRL", "", allowExpired},
		{"CRLFiles with an empty name", true, "CRLFiles", "", func(o *sslfilter.Options) {
			checking(sslfilter.CRLCheckLeaf, "crl.pem")(o)
			o.CRLFiles = append(o.CRLFiles, "")
		}},
		{"CRLFiles with too many", true, "CRLFiles", "", func(o *sslfilter.Options) {
			o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, slices.Repeat([]string{testkit.PKI("crl.pem")}, 257)
		}},
		{"delta CRL", true, "CRLMem[0]", "", ofList(t, deltaIndicator)},
		{"indirect CRL", true, "CRLMem[0]", "", ofList(t, issuingPoint(4, 0xff))},
		{"CRL of some reasons", true, "CRLMem[0]", "", ofList(t, issuingPoint(3, 6, 0x40))},

		{"SNI of 256 bytes", true, "SNI", "", func(o *sslfilter.Options) { o.SNI = strings.Repeat("x", 256) }},
		{"SNI of 256 bytes on a server", false, "SNI", "", func(o *sslfilter.Options) { o.SNI = strings.Repeat("x", 256) }},
		{"SNI of 256 bytes, not verified", true, "SNI", "", func(o *sslfilter.Options) {
			o.SNI, o.ServerName, o.InsecureSkipVerify = strings.Repeat("x", 256), "", true
		}},
		{"SNI that cannot be verified", true, "SNI", "", func(o *sslfilter.Options) { o.SNI, o.ServerName = "a b", "" }},
		{"ServerName of 256 bytes", true, "ServerName", "", func(o *sslfilter.Options) { o.ServerName = strings.Repeat("x", 256) }},
		{"ServerName with a space", true, "ServerName", "", testkit.ServerName("local host")},
		{"ServerName with a line feed", true, "ServerName", "", testkit.ServerName("localhost\n")},
		{"ServerName with a leading dot", true, "ServerName", "", testkit.ServerName(".localhost")},
		{"ServerName that is a dot", true, "ServerName", "", testkit.ServerName(".")},
		{"ServerName with a space, not verified", true, "ServerName", "", func(o *sslfilter.Options) { o.ServerName, o.InsecureSkipVerify = "local host", true }},
		{"ServerName with a space beside SNI", true, "ServerName", "", func(o *sslfilter.Options) { o.ServerName, o.SNI = "local host", "localhost" }},

		{"ALPN with an empty name", true, "ALPN", "", func(o *sslfilter.Options) { o.ALPN = []string{"h2", ""} }},
		{"ALPN with a name of 256 bytes", true, "ALPN", "", func(o *sslfilter.Options) { o.ALPN = []string{strings.Repeat("x", 256)} }},
		{"ALPN too long", true, "ALPN", "", func(o *sslfilter.Options) { o.ALPN = longALPN(sslfilter.MaxALPN + 1) }},
		{"ALPN too long on a server", false, "ALPN", "", func(o *sslfilter.Options) { o.ALPN = longALPN(sslfilter.MaxALPN + 1) }},

		{"MinVersion SSL 3.0", false, "MinVersion", "", func(o *sslfilter.Options) { o.MinVersion = 0x0300 }},
		{"MaxVersion TLS 1.4", false, "MaxVersion", "", func(o *sslfilter.Options) { o.MaxVersion = 0x0305 }},
		{"MinVersion 1.3 with TLS12", false, "MinVersion", "", func(o *sslfilter.Options) { o.TLS12, o.MinVersion = true, sslfilter.VersionTLS13 }},
		{"MaxVersion 1.3 with TLS12", false, "MaxVersion", "", func(o *sslfilter.Options) { o.TLS12, o.MaxVersion = true, sslfilter.VersionTLS13 }},
		{"MinVersion 1.1 with TLS", false, "MinVersion", "", func(o *sslfilter.Options) { o.TLS, o.MinVersion = true, sslfilter.VersionTLS11 }},
		{"MaxVersion 1.0 with TLS", false, "MaxVersion", "", func(o *sslfilter.Options) { o.TLS, o.MaxVersion = true, sslfilter.VersionTLS10 }},
		{"MaxVersion 1.1 alone", false, "MaxVersion", "", func(o *sslfilter.Options) { o.MaxVersion = sslfilter.VersionTLS11 }},
		{"MinVersion above MaxVersion", false, "MinVersion", "", func(o *sslfilter.Options) {
			o.MinVersion, o.MaxVersion = sslfilter.VersionTLS13, sslfilter.VersionTLS12
		}},

		{"Cipher unknown", false, "Cipher", "", testkit.Cipher("NO-SUCH-CIPHER")},
		{"Cipher without a cipher", false, "Cipher", "", testkit.Cipher("ALL:!ALL")},
		{"Cipher with a bad command", false, "Cipher", "", testkit.Cipher("@badcommand")}, // the original then uses the default list
		{"Cipher with a bad command after a list", false, "Cipher", "", testkit.Cipher("HIGH:@badcommand")},
		{"Cipher with a bad level", false, "Cipher", "", testkit.Cipher("HIGH:@SECLEVEL=9")},
		{"Cipher with a TLS 1.3 suite alone", false, "Cipher", "", testkit.Cipher("TLS_AES_128_GCM_SHA256")},
		{"CipherSuites unknown", false, "CipherSuites", "", func(o *sslfilter.Options) { o.CipherSuites = "TLS_NO_SUCH_SUITE" }},
		{"CipherSuites unknown beside a known one", false, "CipherSuites", "", func(o *sslfilter.Options) {
			o.CipherSuites = "TLS_AES_128_GCM_SHA256:TLS_NO_SUCH_SUITE:TLS_NOR_THIS"
		}},
		{"CipherSuites with a TLS 1.2 suite", false, "CipherSuites", "", func(o *sslfilter.Options) { o.CipherSuites = "ECDHE-RSA-AES128-GCM-SHA256" }},
		{"CipherSuites below the security level", false, "CipherSuites", "", func(o *sslfilter.Options) {
			o.CipherSuites, o.Cipher, o.Crt, o.Key = "TLS_AES_128_GCM_SHA256", "DEFAULT:@SECLEVEL=5", testkit.PKI("server-ec.crt"), testkit.PKI("server-ec.key")
		}},
		{"CipherSuites with TLS12", false, "CipherSuites", "", func(o *sslfilter.Options) { o.CipherSuites, o.TLS12 = "TLS_AES_128_GCM_SHA256", true }},
		{"CipherSuites with MaxVersion 1.2", false, "CipherSuites", "", func(o *sslfilter.Options) {
			o.CipherSuites, o.MaxVersion = "TLS_AES_128_GCM_SHA256", sslfilter.VersionTLS12
		}},
		{"FIPSConfig without FIPS", false, "FIPSConfig", "", func(o *sslfilter.Options) { o.FIPSConfig = "fips.cnf" }},
		{"SignatureAlgorithms unknown", false, "SignatureAlgorithms", "", func(o *sslfilter.Options) { o.SignatureAlgorithms = "RSA-PSS+SHA256:no-such-algorithm" }},
		{"Groups unknown", false, "Groups", "", func(o *sslfilter.Options) { o.Groups = "X25519:no-such-group" }},

		{"Key without Crt", false, "Key", "", func(o *sslfilter.Options) { o.Crt = "" }},
		{"KeyMem without Crt", true, "KeyMem", "", func(o *sslfilter.Options) { o.KeyMem = testkit.PKIBytes(t, "client.key") }},
		{"Crt without Key", false, "Crt", "", func(o *sslfilter.Options) { o.Key = "" }},
		{"CrtMem without Key", true, "CrtMem", "", func(o *sslfilter.Options) { o.CrtMem = testkit.PKIBytes(t, "client.crt") }},
		{"KeyPassphrase without Key", true, "KeyPassphrase", "", func(o *sslfilter.Options) { o.KeyPassphrase = saying("secret") }},
		{"no certificate on a server", false, "Crt", "", func(o *sslfilter.Options) { o.Crt, o.Key = "", "" }},
		{"anonymous suites, but not at this level", false, "Crt", "", func(o *sslfilter.Options) { o.Crt, o.Key, o.Cipher = "", "", "aNULL:HIGH:@SECLEVEL=1" }},

		{"Key of another certificate", false, "Key", testkit.PKI("client.key"), func(o *sslfilter.Options) { o.Key = testkit.PKI("client.key") }},
		{"Key of another type", false, "Key", testkit.PKI("server-ec.key"), func(o *sslfilter.Options) { o.Key = testkit.PKI("server-ec.key") }},
		{"KeyMem of another certificate", false, "KeyMem", "", func(o *sslfilter.Options) { o.KeyMem = testkit.PKIBytes(t, "client.key") }},
		{"Key that does not belong to CrtMem", false, "Key", testkit.PKI("client.key"), func(o *sslfilter.Options) {
			o.CrtMem, o.Key = testkit.PKIBytes(t, "server.crt"), testkit.PKI("client.key")
		}},
		{"Key that does not belong to Chain", false, "Key", testkit.PKI("client.key"), func(o *sslfilter.Options) {
			o.Crt, o.Chain, o.Key = "", testkit.PKI("chain.pem"), testkit.PKI("client.key")
		}},
		{"Chain with a key of another certificate", false, "ChainMem", "", func(o *sslfilter.Options) {
			o.Crt, o.Key, o.ChainMem = "", "", bytes.Join([][]byte{testkit.PKIBytes(t, "server-inter.crt"), testkit.PKIBytes(t, "client.key")}, nil)
		}},
		{"Chain without the key", false, "Chain", testkit.PKI("chain.pem"), func(o *sslfilter.Options) { o.Crt, o.Key, o.Chain = "", "", testkit.PKI("chain.pem") }},
		{"Chain of another leaf", false, "Chain", testkit.PKI("chain.pem"), func(o *sslfilter.Options) { o.Chain = testkit.PKI("chain.pem") }},
		{"ChainMem of another leaf", false, "ChainMem", "", func(o *sslfilter.Options) { o.ChainMem = testkit.PKIBytes(t, "chain.pem") }},
		{"Key encrypted, no passphrase", false, "Key", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.Key = testkit.PKI("server-enc.key") }},
		{"Crt with a weak key", false, "Crt", testkit.PKI("server-1024.crt"), func(o *sslfilter.Options) {
			o.Crt, o.Key, o.Cipher = testkit.PKI("server-1024.crt"), testkit.PKI("server-1024.key"), "DEFAULT@SECLEVEL=2"
		}},

		{"DHCert too weak", false, "DHCert", testkit.PKI("dh512.pem"), func(o *sslfilter.Options) { o.DHCert, o.Cipher = testkit.PKI("dh512.pem"), "DEFAULT@SECLEVEL=2" }},
		{"DHCertMem too weak", false, "DHCertMem", "", func(o *sslfilter.Options) {
			o.DHCertMem, o.Cipher = testkit.PKIBytes(t, "dh1024.pem"), "DEFAULT@SECLEVEL=2"
		}},
		{"DHCert broken", false, "DHCertMem", "", func(o *sslfilter.Options) { o.DHCertMem = brokenDH(t) }},
		{"DHCert is an encrypted key", false, "DHCert", testkit.PKI("server-enc.key"), func(o *sslfilter.Options) { o.DHCert = testkit.PKI("server-enc.key") }},
	}
	for _, name := range []string{"SNI", "ServerName", "Cipher", "CipherSuites", "Groups", "SignatureAlgorithms", "FIPSConfig"} {
		list = append(list, badValue{"NUL in " + name, true, name, "", func(o *sslfilter.Options) {
			o.ServerName = ""
			*map[string]*string{
				"SNI": &o.SNI, "ServerName": &o.ServerName, "Cipher": &o.Cipher, "CipherSuites": &o.CipherSuites, "Groups": &o.Groups, "FIPSConfig": &o.FIPSConfig,
				"SignatureAlgorithms": &o.SignatureAlgorithms,
			}[name] = "localhost\x00"
		}})
	}
	return list
}

// saying returns a KeyPassphrase.
func saying(passphrase string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(passphrase), nil }
}

// longALPN returns a list that takes n bytes in the ClientHello.
func longALPN(n int) (list []string) {
	for n > 0 {
		size := min(n, 256)
		if n-size == 1 { // a length byte without a name
			size--
		}
		list = append(list, strings.Repeat("x", size-1))
		n -= size
	}
	return list
}

// The longest list that ALPN accepts works.
func TestOptionsLongestALPN(t *testing.T) {
	longest := func(o *sslfilter.Options) { o.ALPN = longALPN(sslfilter.MaxALPN) }
	p := testkit.Connect(t, testkit.Server(longest), testkit.Client(longest))
	require.Equal(t, strings.Repeat("x", 255), p.Server.ALPN())
}

// The security level also applies to the signature of this side's certificate.
func TestOptionsWeakSignature(t *testing.T) {
	sha1 := func(level string) sslfilter.Options {
		return sslfilter.Options{Crt: testkit.PKI("server-sha1.crt"), Key: testkit.PKI("server-sha1.key"), Cipher: "DEFAULT@SECLEVEL=" + level}
	}
	require.NoError(t, accepted(sha1("0")))
	if since(openssl35) { // which accepts it in this side's certificate
		require.NoError(t, accepted(sha1("2")))
		return
	}
	refuse(t, sha1("2"), "Crt", testkit.PKI("server-sha1.crt"))
}

// New and NewCtx return the same error.
func TestOptionsNewAndNewCtxRefuseTheSame(t *testing.T) {
	bad := testkit.Server(func(o *sslfilter.Options) { o.Key = testkit.PKI("client.key") })
	f, err := sslfilter.New(bad)
	require.Nil(t, f)
	require.Equal(t, refuse(t, bad, "Key", testkit.PKI("client.key")).Error(), err.Error())
}

// NewCtx rejects numbers that do not fit into C's int. They would be truncated: 1<<32 to a
// depth of 0, and 1<<32 + 20 to the error 20.
func TestOptionsNumbersBeyondAnInt(t *testing.T) {
	for _, n := range []int{-1, 1 << 31, 1 << 32, 1<<32 + 20} {
		_, err := sslfilter.NewCtx(testkit.Asking(depth(n)))
		require.Equal(t, "CAVerifyDepth", testkit.As[*sslfilter.OptionError](t, err).Option)
		_, err = sslfilter.NewCtx(testkit.Asking(ignoring(sslfilter.VerifyCode(n))))
		require.Equal(t, "IgnoreVerifyErrors", testkit.As[*sslfilter.OptionError](t, err).Option)
	}
}
