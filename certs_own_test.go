package sslfilter_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Certificate, key and chain can be given in several forms. Each row lists the
// certificates that are sent.
func TestCertsOwn(t *testing.T) {
	leaf, inter, root := testkit.Cert(t, "server-inter.crt").Raw, testkit.Cert(t, "inter.crt").Raw, testkit.Cert(t, "root.crt").Raw
	file := func(parts ...string) string { return testkit.TempFile(t, "file.pem", joinFiles(t, parts...)) }
	for _, c := range []struct {
		name   string
		server sslfilter.Options
		sent   [][]byte
	}{
		{"Crt and Key", sslfilter.Options{Crt: testkit.PKI("server-inter.crt"), Key: testkit.PKI("server-inter.key")}, [][]byte{leaf}},
		{"Crt followed by the chain", sslfilter.Options{Crt: file("server-inter.crt", "inter.crt"), Key: testkit.PKI("server-inter.key")}, [][]byte{leaf, inter}},
		{"CrtMem followed by the chain", sslfilter.Options{CrtMem: joinFiles(t, "server-inter.crt", "inter.crt"), Key: testkit.PKI("server-inter.key")}, [][]byte{leaf, inter}},
		{"Chain and Key", sslfilter.Options{Chain: testkit.PKI("chain.pem"), Key: testkit.PKI("server-inter.key")}, [][]byte{leaf, inter, root}},
		{"ChainMem and KeyMem", sslfilter.Options{ChainMem: testkit.PKIBytes(t, "chain.pem"), KeyMem: testkit.PKIBytes(t, "server-inter.key")}, [][]byte{leaf, inter, root}},
		{"Chain with the key in it", sslfilter.Options{Chain: testkit.PKI("chain-with-key.pem")}, [][]byte{leaf, inter}},
		{"ChainMem with the key in it", sslfilter.Options{ChainMem: testkit.PKIBytes(t, "chain-with-key.pem")}, [][]byte{leaf, inter}},
		{"Chain followed by the key", sslfilter.Options{Chain: file("server-inter.crt", "inter.crt", "server-inter.key")}, [][]byte{leaf, inter}},
		{"Crt and Chain of one leaf", sslfilter.Options{Crt: testkit.PKI("server-inter.crt"), Key: testkit.PKI("server-inter.key"), Chain: testkit.PKI("chain.pem")}, [][]byte{leaf, inter, root}},
		{"Crt and Chain, the key in Chain", sslfilter.Options{Crt: testkit.PKI("server-inter.crt"), Chain: testkit.PKI("chain-with-key.pem")}, [][]byte{leaf, inter}},
		{"Crt with a chain, and Chain", sslfilter.Options{Crt: file("server-inter.crt", "inter.crt"), Key: testkit.PKI("server-inter.key"), Chain: testkit.PKI("chain.pem")}, [][]byte{leaf, inter, root}},
		{"Chain of the leaf alone", sslfilter.Options{Chain: testkit.PKI("server-inter.crt"), Key: testkit.PKI("server-inter.key")}, [][]byte{leaf}},
		{"Crt and Key in one file", sslfilter.Options{Crt: testkit.PKI("server-combined.pem"), Key: testkit.PKI("server-combined.pem")}, [][]byte{testkit.Cert(t, "server.crt").Raw}},
		{"Chain is certificate and key", sslfilter.Options{Chain: testkit.PKI("server-combined.pem")}, [][]byte{testkit.Cert(t, "server.crt").Raw}},
		{"Key is certificate and key", sslfilter.Options{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server-combined.pem")}, [][]byte{testkit.Cert(t, "server.crt").Raw}},
		{"Key in PKCS #1 form", sslfilter.Options{Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server-pkcs1.key")}, [][]byte{testkit.Cert(t, "server.crt").Raw}},
		{"text around", sslfilter.Options{Crt: testkit.PKI("server-text.crt"), KeyMem: around(t, "server.key")}, [][]byte{testkit.Cert(t, "server.crt").Raw}},
		{"text in between", sslfilter.Options{CrtMem: slices.Concat(around(t, "server-inter.crt"), around(t, "inter.crt")), Key: testkit.PKI("server-inter.key")}, [][]byte{leaf, inter}},
		{"CRLF", sslfilter.Options{CrtMem: crlf(t, "server.crt"), KeyMem: crlf(t, "server.key")}, [][]byte{testkit.Cert(t, "server.crt").Raw}},
		{"EC", sslfilter.Options{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")}, [][]byte{testkit.Cert(t, "server-ec.crt").Raw}},
		{"Ed25519", sslfilter.Options{Crt: testkit.PKI("server-ed25519.crt"), Key: testkit.PKI("server-ed25519.key")}, [][]byte{testkit.Cert(t, "server-ed25519.crt").Raw}},

		// OpenSSL builds the chain from the trust store and leaves out the root.
		{"intermediate in CACrt", sslfilter.Options{Crt: testkit.PKI("server-inter.crt"), Key: testkit.PKI("server-inter.key"), CACrt: file("root.crt", "inter.crt")}, [][]byte{leaf, inter}},
		{"no intermediate in CACrt", sslfilter.Options{Crt: testkit.PKI("server-inter.crt"), Key: testkit.PKI("server-inter.key"), CACrt: testkit.PKI("root.crt")}, [][]byte{leaf}},
		{"own chain beside CACrt", sslfilter.Options{Chain: testkit.PKI("chain.pem"), Key: testkit.PKI("server-inter.key"), CACrt: file("root.crt", "inter.crt")}, [][]byte{leaf, inter, root}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := testkit.Ctx(t, c.server)
			require.Equal(t, c.sent, server.Chain())
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				client := sslfilter.Options{Client: true, InsecureSkipVerify: true, MaxVersion: highest}
				f := testkit.Filter(t, client)
				require.NoError(t, testkit.Join(testkit.FilterOf(t, server), f).Handshake())
				require.Equal(t, c.sent, f.Peer().Sent)
			})
		})
	}
}

// joinFiles returns the contents of several files of the test PKI.
func joinFiles(t testing.TB, names ...string) (data []byte) {
	t.Helper()
	for _, name := range names {
		data = append(data, testkit.PKIBytes(t, name)...)
	}
	return data
}

// around returns a file of the test PKI with text before and after it.
func around(t testing.TB, name string) []byte {
	t.Helper()
	return slices.Concat([]byte("Certificate:\n  a text - not PEM\n"), testkit.PKIBytes(t, name), []byte("\nand more\n"))
}

// crlf returns a file of the test PKI with the line ends of Windows.
func crlf(t testing.TB, name string) []byte {
	t.Helper()
	return bytes.ReplaceAll(testkit.PKIBytes(t, name), []byte("\n"), []byte("\r\n"))
}

// The Mem form wins, and the file is not read.
func TestCertsMemOptionsWin(t *testing.T) {
	for _, o := range pemOptions(t) {
		if o.mem == nil || o.name == "CRLFiles" { // both CRLFiles and CRLMem count
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			both := testkit.Server(func(s *sslfilter.Options) {
				o.file(s, "no-such-file.pem")
				o.mem(s, testkit.PKIBytes(t, o.good))
			})

			require.NoError(t, accepted(both))
			refuse(t, testkit.With(both, func(s *sslfilter.Options) { o.file(s, testkit.PKI(o.good)); o.mem(s, nil); o.mem(s, []byte{}) }), o.memName, "")
		})
	}
}

// An error in CACrtMem names the index of the element.
func TestCertsCACrtMemElements(t *testing.T) {
	root, other := testkit.PKIBytes(t, "root.crt"), testkit.PKIBytes(t, "other.crt")
	server := func(elements ...[]byte) sslfilter.Options {
		return testkit.Asking(func(o *sslfilter.Options) { o.CACrtMem = elements })
	}
	for option, elements := range map[string][][]byte{
		"CACrtMem[0]": {{}, root},
		"CACrtMem[1]": {root, nil, other},
		"CACrtMem[2]": {root, other, testkit.PKIBytes(t, "crl.pem")},
		"CACrtMem[3]": {root, root, slices.Concat(other, root), other[:len(other)/2]},
	} {
		refuse(t, server(elements...), option, "")
	}
	for _, elements := range [][][]byte{{root}, {other, root}, {slices.Concat(other, root)}, {around(t, "root.crt")}, {root, root}} {
		require.True(t, testkit.Connect(t, server(elements...), testkit.Showing("client.crt", "")).Server.ClientCertValid())
	}
	for _, elements := range [][][]byte{{}, {other}} {
		require.False(t, testkit.Connect(t, server(elements...), testkit.Showing("client.crt", "")).Server.ClientCertValid())
	}
}

// CAVerifyDepth applies to CACrt and to CACrtMem. In the original it applies only to
// cacrtmem.
func TestCertsCAVerifyDepth(t *testing.T) {
	for n, valid := range map[int]bool{0: true, 1: false, 2: false, 3: true, 100: true} { // three intermediates
		for name, trust := range map[string]func(*sslfilter.Options){
			"CACrt":    nil,
			"CACrtMem": func(o *sslfilter.Options) { o.CACrtMem = [][]byte{testkit.PKIBytes(t, "root.crt")} },
		} {
			p := testkit.Connect(t, testkit.Asking(trust, depth(n)), testkit.Showing("client-deep-chain.pem", "client-deep.key"))
			require.Equal(t, valid, p.Server.ClientCertValid(), "%s, depth %d", name, n)
			require.Equal(t, !valid, slices.ContainsFunc(p.Server.ClientCertIDs(), func(id sslfilter.CertID) bool {
				return id.Err == sslfilter.VerifyChainTooLong
			}), "%s, depth %d", name, n)
		}
	}
	direct := testkit.Connect(t, testkit.Asking(depth(1)), testkit.Showing("client.crt", ""))
	require.True(t, direct.Server.ClientCertValid())
}

// Ctx.CAs and Ctx.Chain return what was loaded, without reading a file again.
func TestCertsLoadedByACtx(t *testing.T) {
	root, other := testkit.Cert(t, "root.crt").Raw, testkit.Cert(t, "other.crt").Raw
	cas := testkit.TempFile(t, "cas.pem", joinFiles(t, "root.crt", "other.crt"))
	for name, c := range map[string]struct {
		o    sslfilter.Options
		want [][]byte
	}{
		"CACrt": {testkit.Server(func(o *sslfilter.Options) { o.CACrt, o.ClientCert = cas, true }), [][]byte{root, other}},
		"CACrtMem": {testkit.Client(func(o *sslfilter.Options) {
			o.CACrtMem = [][]byte{testkit.PKIBytes(t, "other.crt"), testkit.PKIBytes(t, "root.crt")}
		}),

			[][]byte{root, other}},
		"the CAs of the system":       {sslfilter.Options{Client: true, ServerName: "localhost"}, nil},
		"a server that trusts nobody": {testkit.Server(), nil},
	} {
		ctx := testkit.Ctx(t, c.o)
		require.ElementsMatch(t, c.want, ctx.CAs(), name)
		require.NoError(t, ctx.Close())
		require.Nil(t, ctx.CAs(), name)
		require.Nil(t, ctx.Chain(), name)
	}
	require.Empty(t, testkit.Ctx(t, testkit.Client()).Chain())
	server := testkit.Server()
	server.Crt = testkit.TempFile(t, "server.crt", testkit.PKIBytes(t, "server.crt"))
	ctx := testkit.Ctx(t, server)
	require.NoError(t, os.Remove(server.Crt))
	require.Equal(t, [][]byte{testkit.Cert(t, "server.crt").Raw}, ctx.Chain())
}
