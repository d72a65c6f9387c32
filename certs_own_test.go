package sslfilter_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/enginetest"
)

// The forms in which certificate, key and chain can be given, and what is sent.
func TestCertsOwn(t *testing.T) {
	leaf, inter, root := derOf(t, "server-inter.crt"), derOf(t, "inter.crt"), derOf(t, "root.crt")
	file := func(parts ...string) string { return tempFile(t, "file.pem", joinFiles(t, parts...)) }
	for _, c := range []struct {
		name   string
		server sslfilter.Options
		sent   [][]byte
	}{
		{"Crt and Key", sslfilter.Options{Crt: pki("server-inter.crt"), Key: pki("server-inter.key")}, [][]byte{leaf}},
		{"Crt with the chain behind", sslfilter.Options{Crt: file("server-inter.crt", "inter.crt"), Key: pki("server-inter.key")}, [][]byte{leaf, inter}},
		{"CrtMem with the chain behind", sslfilter.Options{CrtMem: joinFiles(t, "server-inter.crt", "inter.crt"), Key: pki("server-inter.key")}, [][]byte{leaf, inter}},
		{"Chain and Key", sslfilter.Options{Chain: pki("chain.pem"), Key: pki("server-inter.key")}, [][]byte{leaf, inter, root}},
		{"ChainMem and KeyMem", sslfilter.Options{ChainMem: pkiBytes(t, "chain.pem"), KeyMem: pkiBytes(t, "server-inter.key")}, [][]byte{leaf, inter, root}},
		{"Chain with the key in it", sslfilter.Options{Chain: pki("chain-with-key.pem")}, [][]byte{leaf, inter}},
		{"ChainMem with the key in it", sslfilter.Options{ChainMem: pkiBytes(t, "chain-with-key.pem")}, [][]byte{leaf, inter}},
		{"Chain with the key behind", sslfilter.Options{Chain: file("server-inter.crt", "inter.crt", "server-inter.key")}, [][]byte{leaf, inter}},
		{"Crt and Chain of one leaf", sslfilter.Options{Crt: pki("server-inter.crt"), Key: pki("server-inter.key"), Chain: pki("chain.pem")}, [][]byte{leaf, inter, root}},
		{"Crt and Chain, the key in Chain", sslfilter.Options{Crt: pki("server-inter.crt"), Chain: pki("chain-with-key.pem")}, [][]byte{leaf, inter}},
		{"Crt with a chain, and Chain", sslfilter.Options{Crt: file("server-inter.crt", "inter.crt"), Key: pki("server-inter.key"), Chain: pki("chain.pem")}, [][]byte{leaf, inter, root}},
		{"Chain of the leaf alone", sslfilter.Options{Chain: pki("server-inter.crt"), Key: pki("server-inter.key")}, [][]byte{leaf}},
		{"Crt and Key in one file", sslfilter.Options{Crt: pki("server-combined.pem"), Key: pki("server-combined.pem")}, [][]byte{derOf(t, "server.crt")}},
		{"Chain is certificate and key", sslfilter.Options{Chain: pki("server-combined.pem")}, [][]byte{derOf(t, "server.crt")}},
		{"Key is certificate and key", sslfilter.Options{Crt: pki("server.crt"), Key: pki("server-combined.pem")}, [][]byte{derOf(t, "server.crt")}},
		{"Key in PKCS #1 form", sslfilter.Options{Crt: pki("server.crt"), Key: pki("server-pkcs1.key")}, [][]byte{derOf(t, "server.crt")}},
		{"text around", sslfilter.Options{Crt: pki("server-text.crt"), KeyMem: around(t, "server.key")}, [][]byte{derOf(t, "server.crt")}},
		{"text in between", sslfilter.Options{CrtMem: slices.Concat(around(t, "server-inter.crt"), around(t, "inter.crt")), Key: pki("server-inter.key")}, [][]byte{leaf, inter}},
		{"CRLF", sslfilter.Options{CrtMem: crlf(t, "server.crt"), KeyMem: crlf(t, "server.key")}, [][]byte{derOf(t, "server.crt")}},
		{"EC", sslfilter.Options{Crt: pki("server-ec.crt"), Key: pki("server-ec.key")}, [][]byte{derOf(t, "server-ec.crt")}},
		{"Ed25519", sslfilter.Options{Crt: pki("server-ed25519.crt"), Key: pki("server-ed25519.key")}, [][]byte{derOf(t, "server-ed25519.crt")}},

		// As OpenSSL's automatic chain: intermediates out of the trust store, without the root.
		{"intermediate in CACrt", sslfilter.Options{Crt: pki("server-inter.crt"), Key: pki("server-inter.key"), CACrt: file("root.crt", "inter.crt")}, [][]byte{leaf, inter}},
		{"no intermediate in CACrt", sslfilter.Options{Crt: pki("server-inter.crt"), Key: pki("server-inter.key"), CACrt: pki("root.crt")}, [][]byte{leaf}},
		{"own chain beside CACrt", sslfilter.Options{Chain: pki("chain.pem"), Key: pki("server-inter.key"), CACrt: file("root.crt", "inter.crt")}, [][]byte{leaf, inter, root}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := mustCtx(t, c.server)
			require.Equal(t, c.sent, server.Chain())
			protocols(t, func(t *testing.T, highest sslfilter.Version) {
				client := sslfilter.Options{Client: true, InsecureSkipVerify: true, MaxVersion: highest}
				f := mustFilter(t, client)
				require.NoError(t, enginetest.New(f, filterOf(t, server)).Handshake())
				require.Equal(t, c.sent, f.Peer().Sent)
			})
		})
	}
}

// joinFiles is the content of several files of the test PKI.
func joinFiles(t testing.TB, names ...string) (data []byte) {
	t.Helper()
	for _, name := range names {
		data = append(data, pkiBytes(t, name)...)
	}
	return data
}

// around is a file of the test PKI with text before and behind.
func around(t testing.TB, name string) []byte {
	t.Helper()
	return slices.Concat([]byte("Certificate:\n  a text - not PEM\n"), pkiBytes(t, name), []byte("\nand more\n"))
}

func crlf(t testing.TB, name string) []byte {
	t.Helper()
	return bytes.ReplaceAll(pkiBytes(t, name), []byte("\n"), []byte("\r\n"))
}

// The Mem form is taken, and the file not even looked at.
func TestCertsMemOptionsWin(t *testing.T) {
	for _, o := range pemOptions(t) {
		if o.mem == nil || o.name == "CRLFiles" { // both CRLFiles and CRLMem count
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			both := with(serverOptions(), func(s *sslfilter.Options) {
				o.file(s, "no-such-file.pem")
				o.mem(s, pkiBytes(t, o.good))
			})
			require.NoError(t, accepted(both))
			refuse(t, with(both, func(s *sslfilter.Options) { o.file(s, pki(o.good)); o.mem(s, nil); o.mem(s, []byte{}) }), o.memName, "")
		})
	}
}

// The error has the index of the element.
func TestCertsCACrtMemElements(t *testing.T) {
	root, other := pkiBytes(t, "root.crt"), pkiBytes(t, "other.crt")
	server := func(elements ...[]byte) sslfilter.Options {
		return asking(func(o *sslfilter.Options) { o.CACrtMem = elements })
	}
	for option, elements := range map[string][][]byte{
		"CACrtMem[0]": {{}, root},
		"CACrtMem[1]": {root, nil, other},
		"CACrtMem[2]": {root, other, pkiBytes(t, "crl.pem")},
		"CACrtMem[3]": {root, root, slices.Concat(other, root), other[:len(other)/2]},
	} {
		refuse(t, server(elements...), option, "")
	}
	for _, elements := range [][][]byte{{root}, {other, root}, {slices.Concat(other, root)}, {around(t, "root.crt")}, {root, root}} {
		require.True(t, connect(t, server(elements...), showing("client.crt", "")).Server.ClientCertValid())
	}
	for _, elements := range [][][]byte{{}, {other}} {
		require.False(t, connect(t, server(elements...), showing("client.crt", "")).Server.ClientCertValid())
	}
}

// In the original CAVerifyDepth holds for cacrtmem alone.
func TestCertsCAVerifyDepth(t *testing.T) {
	for n, valid := range map[int]bool{0: true, 1: false, 2: false, 3: true, 100: true} { // three intermediates
		for name, trust := range map[string]func(*sslfilter.Options){
			"CACrt":    nil,
			"CACrtMem": func(o *sslfilter.Options) { o.CACrtMem = [][]byte{pkiBytes(t, "root.crt")} },
		} {
			p := connect(t, with(asking(trust), depth(n)), showing("client-deep-chain.pem", "client-deep.key"))
			require.Equal(t, valid, p.Server.ClientCertValid(), "%s, depth %d", name, n)
			require.Equal(t, !valid, slices.ContainsFunc(p.Server.ClientCertIDs(), func(id sslfilter.CertID) bool {
				return id.Err == sslfilter.VerifyChainTooLong
			}), "%s, depth %d", name, n)
		}
	}
	direct := connect(t, asking(depth(1)), showing("client.crt", ""))
	require.True(t, direct.Server.ClientCertValid())
}

// A context tells what it has loaded, without a second look at any file.
func TestCertsLoadedByACtx(t *testing.T) {
	root, other := derOf(t, "root.crt"), derOf(t, "other.crt")
	cas := tempFile(t, "cas.pem", joinFiles(t, "root.crt", "other.crt"))
	for name, c := range map[string]struct {
		o    sslfilter.Options
		want [][]byte
	}{
		"CACrt":                       {with(serverOptions(), func(o *sslfilter.Options) { o.CACrt, o.ClientCert = cas, true }), [][]byte{root, other}},
		"CACrtMem":                    {with(clientOptions(), func(o *sslfilter.Options) { o.CACrtMem = [][]byte{pkiBytes(t, "other.crt"), pkiBytes(t, "root.crt")} }), [][]byte{root, other}},
		"the CAs of the system":       {sslfilter.Options{Client: true, ServerName: "localhost"}, nil},
		"a server that trusts nobody": {serverOptions(), nil},
	} {
		ctx := mustCtx(t, c.o)
		require.ElementsMatch(t, c.want, ctx.CAs(), name)
		require.NoError(t, ctx.Close())
		require.Nil(t, ctx.CAs(), name)
		require.Nil(t, ctx.Chain(), name)
	}
	require.Empty(t, mustCtx(t, clientOptions()).Chain())
	server := serverOptions()
	server.Crt = tempFile(t, "server.crt", pkiBytes(t, "server.crt"))
	ctx := mustCtx(t, server)
	require.NoError(t, os.Remove(server.Crt))
	require.Equal(t, [][]byte{derOf(t, "server.crt")}, ctx.Chain())
}
