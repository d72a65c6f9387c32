package live_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// ability is a row of the table of abilities, for one direction.
type ability struct {
	name     string
	versions []sslfilter.Version
	// scene joins the peer with our side, and returns the cell.
	scene func(t *testing.T, p *peer, version sslfilter.Version) string
}

// The names of the abilities.
const (
	serverNames  = "server names"
	twoKeys      = "RSA and ECDSA certificates"
	twoClients   = "several client certificates"
	stapling     = "OCSP stapling"
	mustStaple   = "must-staple"
	optionalCert = "optional client certificate"
	signatures   = "signature algorithms"
	alpn         = "ALPN"
	again        = "renegotiation that it asks for"
	byTicket     = "resumption with tickets"
	byStore      = "resumption with stored sessions"
	byCert       = "resumption with a client certificate"
	returning    = "resumption"
)

// abilities are the rows, by the side of the peer.
var abilities = map[string][]ability{
	"client": {
		{serverNames, tlsVersions, byServerName},
		{twoKeys, tlsVersions, byKey},
		{stapling, tlsVersions, weStaple},
		{mustStaple, tlsVersions, weMustStaple},
		{optionalCert, tlsVersions, weDoNotInsist},
		{signatures, tlsVersions, itSigns},
		{alpn, tlsVersions, weSpeakAnother},
		{again, tlsVersions[:1], itAsksAgain},
		{byTicket, tlsVersions, itReturnsWithTicket},
		{byStore, tlsVersions, itReturnsToStore},
		{byCert, tlsVersions, itReturnsWithCert},
	},
	"server": {
		{twoClients, tlsVersions, byItsCA},
		{stapling, tlsVersions, itStaples},
		{mustStaple, tlsVersions, itMustStaple},
		{signatures, tlsVersions, itSignsAsServer},
		{alpn, tlsVersions, itSpeaksAnother},
		{again, tlsVersions[:1], itAsksUsAgain},
		{returning, tlsVersions, weComeBack},
		{byCert, tlsVersions, weComeBackWithCert},
	},
}

// abilityPeers returns the columns of the table.
func abilityPeers(direction string) (list []*peer) {
	for _, p := range allPeers() {
		if !p.quirks.plain && (direction == "client" && p.client != nil || direction == "server" && p.server != nil) {
			list = append(list, p)
		}
	}
	return list
}

// lack returns what the peer does not have for an ability, or "".
func (p *peer) lack(direction, ability string, version sslfilter.Version) string {
	for _, key := range []string{direction + " " + ability, direction + " " + ability + " " + strings.TrimPrefix(version.String(), "TLSv")} {
		if what := p.lacks[key]; what != "" {
			return "has no " + what
		}
	}
	return ""
}

// TestAbilities joins each peer with our side for each ability.
func TestAbilities(t *testing.T) {
	t.Parallel()
	for _, p := range allPeers() {
		if p.quirks.plain {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			notShort(t, !p.short)
			t.Parallel()
			p.version(t)
			for direction, list := range abilities {
				if direction == "client" && p.client == nil || direction == "server" && p.server == nil {
					continue
				}
				for _, a := range list {
					for _, version := range a.versions {
						t.Run(fmt.Sprintf("%s/%s/%s", direction, a.name, version), func(t *testing.T) {
							cell := p.lack(direction, a.name, version)
							if cell == "" {
								cell = a.scene(t, p, version)
							}
							document.ability(direction, a, p, version, cell)
						})
					}
				}
			}
		})
	}
}

// both are the options of our server.
func both(changes ...testkit.Change) sslfilter.Options {
	return testkit.Server(append([]testkit.Change{func(o *sslfilter.Options) {
		o.CACrt, o.CACRL, o.ALPN = testkit.PKI("root.crt"), testkit.PKI("crl.pem"), []string{"interop", "http/1.1"}
	}}, changes...)...)
}

// visits makes the peer connect to our server, and requires that it gets through.
func visits(t *testing.T, p *peer, our serve, c call) (outcome, report) {
	t.Helper()
	result, r := p.calls(t, our, c)
	require.NoError(t, r.err, result.text)
	require.True(t, result.done, result.text)
	require.Equal(t, c.version.String(), r.version)
	return result, r
}

// leaves makes the peer connect to our server, and requires that one side refuses.
func leaves(t *testing.T, p *peer, our serve, c call) report {
	t.Helper()
	result, r := p.calls(t, our, c)
	require.False(t, result.done, result.text)
	require.Error(t, r.err)
	return r
}

func rootCall(version sslfilter.Version) call {
	return call{version: version, ca: testkit.AbsPKI("root.crt")}
}

// The name that the peer sends chooses the context: the certificate, which the peer
// verifies, and the policy about client certificates. An unknown name is refused.
func byServerName(t *testing.T, p *peer, version sslfilter.Version) string {
	site := func(name string, changes ...testkit.Change) *sslfilter.Ctx {
		return testkit.Ctx(t, both(append(changes, testkit.Only(version), func(o *sslfilter.Options) {
			o.Crt, o.CrtMem, o.Key = "", testkit.Mint(t, x509.Certificate{DNSNames: []string{name}}), testkit.PKI("client.key")
		})...))
	}
	names, err := sslfilter.NewNameMap(nil, site("one.example"), site("*.two.example"),
		site("members.example", func(o *sslfilter.Options) { o.RequireValidClientCert = true }))
	require.NoError(t, err)
	our := func(conn net.Conn) *sslnet.Conn {
		c := sslnet.Server(conn, nil)
		require.NoError(t, c.SetChoose(func(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			return names.Choose(hello)
		}))
		return c
	}
	c := rootCall(version)
	for _, c.name = range []string{"one.example", "x.two.example"} {
		_, r := visits(t, p, our, c)
		require.Equal(t, c.name, r.sni)
		require.False(t, r.exists)
	}
	c.name = "other.example"
	leaves(t, p, our, c)
	c.name = "members.example"
	leaves(t, p, our, c)
	_, r := visits(t, p, our, c.showing(identities[1]))
	require.True(t, r.peer.Valid)
	return "yes"
}

// The peer gets the certificate whose key it accepts.
func byKey(t *testing.T, p *peer, version sslfilter.Version) string {
	our := with(t, both(func(o *sslfilter.Options) {
		o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key")}}
	}))
	c := rootCall(version)
	for i, auth := range []string{"RSA", "ECDSA"} {
		c.auth = auth
		_, r := visits(t, p, our, c)
		require.Equal(t, i-1, r.state.Shown.Index, auth)
	}
	return "yes"
}

// ocspResponse returns a response about a certificate of the root.
func ocspResponse(t *testing.T, crt string, status int) []byte {
	t.Helper()
	cert, err := x509.ParseCertificate(testkit.DER(t, testkit.Contents(t, crt)))
	require.NoError(t, err)
	return testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Status: status})
}

// staples returns our server with a certificate and a response about it. The root is in the
// chain, since curl looks for the issuer there.
func staples(t *testing.T, crt, key string, response []byte) serve {
	t.Helper()
	return with(t, both(func(o *sslfilter.Options) {
		o.Crt, o.Key, o.ChainMem = "", key, slices.Concat(testkit.Contents(t, crt), testkit.PKIBytes(t, "root.crt"))
		if response != nil {
			var err error
			o.Staple, err = sslfilter.NewStaple(response)
			require.NoError(t, err)
		}
	}))
}

// The peer gets our response. Some peers judge it, and others show it to their user.
func weStaple(t *testing.T, p *peer, version sslfilter.Version) string {
	crt, key := testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key")
	c := rootCall(version)
	c.status = true
	shown := 0
	for status, name := range []string{"good", "revoked"} {
		response := ocspResponse(t, crt, status)
		result, r := p.calls(t, staples(t, crt, key, response), c)
		if result.status != "" {
			require.Contains(t, []string{name, hex.EncodeToString(response)}, result.status)
			shown++
		}
		if status == 0 || shown > 0 {
			require.NoError(t, r.err, result.text)
			require.True(t, result.done, result.text)
			continue
		}
		require.False(t, result.done, "it has not judged the response: %s", result.text)
	}
	if shown > 0 {
		require.Equal(t, 2, shown)
		return "it reports the response"
	}
	return "it rejects a revoked certificate"
}

// The certificate demands a response.
func weMustStaple(t *testing.T, p *peer, version sslfilter.Version) string {
	crt, key := testkit.TempFile(t, "must-staple.crt", testkit.MustStaple(t)), testkit.AbsPKI("client.key")
	c := rootCall(version)
	c.status = true
	visits(t, p, staples(t, crt, key, ocspResponse(t, crt, 0)), c)
	leaves(t, p, staples(t, crt, key, nil), c)
	return "it insists"
}

// A client without a certificate is served, and one with a bad certificate is not.
func weDoNotInsist(t *testing.T, p *peer, version sslfilter.Version) string {
	our := with(t, both(func(o *sslfilter.Options) { o.BlockInvalidClientCert = true }))
	for _, id := range identities {
		c := rootCall(version).showing(id)
		if id.refused <= 0 {
			_, r := visits(t, p, our, c)
			require.Equal(t, id.file != "", r.exists)
			require.Equal(t, id.file != "", r.peer.Valid)
			continue
		}
		r := leaves(t, p, our, c)
		require.Equal(t, id.refused, testkit.As[*sslfilter.VerifyError](t, r.err).Code)
	}
	return "yes"
}

// The peer obeys the signature algorithms of our server. SignatureAlgorithms sets those of our
// signature, and a command in Conf those of the peer's signature. If no algorithm suits the
// key of the peer, it shows no certificate, and our server rejects it.
func itSigns(t *testing.T, p *peer, version sslfilter.Version) string {
	signing := func(algorithms string) serve {
		return with(t, both(func(o *sslfilter.Options) {
			o.RequireValidClientCert, o.SignatureAlgorithms = true, "RSA-PSS+SHA512"
			o.Conf = []sslfilter.ConfCommand{{Name: "ClientSignatureAlgorithms", Value: algorithms}}
		}))
	}
	c := rootCall(version).showing(identities[1])
	_, r := visits(t, p, signing("RSA-PSS+SHA384"), c)
	require.True(t, r.peer.Valid)
	require.Equal(t, "rsa_pss_rsae_sha512", r.state.Signature)
	require.Equal(t, "rsa_pss_rsae_sha384", r.state.PeerSignature)
	leaves(t, p, signing("ECDSA+SHA256"), c)
	return "yes"
}

// Our server accepts the application protocol of the peer, or refuses the peer.
func weSpeakAnother(t *testing.T, p *peer, version sslfilter.Version) string {
	speaking := func(protocol string) serve {
		return with(t, both(func(o *sslfilter.Options) { o.ALPN = []string{protocol} }))
	}
	_, r := visits(t, p, speaking(p.clientALPN), rootCall(version))
	require.Equal(t, p.clientALPN, r.alpn)
	leaves(t, p, speaking("other"), rootCall(version))
	return "yes"
}

// our are the options of our client.
func our(changes ...testkit.Change) sslfilter.Options {
	return testkit.Client(append([]testkit.Change{func(o *sslfilter.Options) { o.ALPN = []string{"interop", "http/1.1"} }}, changes...)...)
}

func serverCall(version sslfilter.Version) call {
	return call{version: version, ca: testkit.AbsPKI("root.crt"), crt: testkit.AbsPKI("server.crt"), key: testkit.AbsPKI("server.key")}
}

// getsThrough connects our client to the peer's server, and requires that it is served.
func getsThrough(t *testing.T, p *peer, o sslfilter.Options, c call) (outcome, report) {
	t.Helper()
	result, r := p.isCalled(t, o, false, c)
	require.NoError(t, r.err, result.text)
	require.True(t, result.done, result.text)
	require.True(t, r.peer.Valid)
	require.Equal(t, c.version.String(), r.version)
	return result, r
}

// Our client has a certificate of each of two CAs, and shows the one that suits the
// server.
func byItsCA(t *testing.T, p *peer, version sslfilter.Version) string {
	template := x509.Certificate{Subject: pkix.Name{CommonName: "client of other"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	o := our(func(o *sslfilter.Options) {
		o.CrtMem, o.Key = testkit.MintFrom(t, testkit.CA(t, "other"), template, testkit.Key(t, "client.key").Public()), testkit.PKI("client.key")
		o.Identities = []sslfilter.Identity{{Crt: testkit.PKI("client.crt"), Key: testkit.PKI("client.key")}}
	})
	for i, ca := range []string{"other.crt", "root.crt"} {
		c := serverCall(version)
		c.ask, c.ca = true, testkit.AbsPKI(ca)
		result, r := getsThrough(t, p, o, c)
		require.Equal(t, i-1, r.state.Shown.Index)
		require.Contains(t, result.cert, []string{"client of other", "client valid"}[i])
	}
	return "yes"
}

// stapled returns a call of a server that staples a response about its certificate.
func (c call) stapled(t *testing.T, p *peer, status int) call {
	t.Helper()
	response := ocspResponse(t, c.crt, status)
	c.chain = testkit.AbsPKI("root.crt")
	c.staple = testkit.TempFile(t, []string{"good", "revoked"}[status]+".ocsp", response)
	if p.quirks.asksResponder {
		responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(response) }))
		t.Cleanup(responder.Close)
		c.staple = responder.URL
	}
	return c
}

const (
	weakSignatures = "DEFAULT:@SECLEVEL=0"
	sha1Accepted   = "yes, with `@SECLEVEL=0` in `Cipher`: it signs responses with SHA-1"
)

// requireVerifyError requires that our client rejects the server.
func requireVerifyError(t *testing.T, p *peer, o sslfilter.Options, c call) *sslfilter.VerifyError {
	t.Helper()
	result, r := p.isCalled(t, o, true, c)
	require.False(t, result.done, result.text)
	require.Error(t, r.err)
	return testkit.As[*sslfilter.VerifyError](t, r.err)
}

// Our client requires a response: a good one.
func itStaples(t *testing.T, p *peer, version sslfilter.Version) string {
	o, cell := our(func(o *sslfilter.Options) { o.OCSPCheck = sslfilter.OCSPRequire }), "yes"
	c := serverCall(version)
	requireVerifyError(t, p, o, c)
	if p.quirks.staplesSHA1 {
		requireVerifyError(t, p, o, c.stapled(t, p, 0))
		o.Cipher, cell = weakSignatures, sha1Accepted
	}
	_, r := getsThrough(t, p, o, c.stapled(t, p, 0))
	require.Equal(t, sslfilter.OCSPGood, r.peer.OCSP.Status)
	require.Equal(t, sslfilter.VerifyCertRevoked, requireVerifyError(t, p, o, c.stapled(t, p, 1)).Code)
	return cell
}

// The certificate of the server demands a response.
func itMustStaple(t *testing.T, p *peer, version sslfilter.Version) string {
	o, cell := our(func(o *sslfilter.Options) { o.OCSPCheck = sslfilter.OCSPIfStapled }), "yes"
	if p.quirks.staplesSHA1 {
		o.Cipher, cell = weakSignatures, sha1Accepted
	}
	c := serverCall(version)
	getsThrough(t, p, o, c)
	c.crt, c.key = testkit.TempFile(t, "must-staple.crt", testkit.MustStaple(t)), testkit.AbsPKI("client.key")
	requireVerifyError(t, p, o, c)
	getsThrough(t, p, o, c.stapled(t, p, 0))
	return cell
}

// The peer's server signs with the only algorithm that our client offers, or has to refuse.
func itSignsAsServer(t *testing.T, p *peer, version sslfilter.Version) string {
	offering := func(algorithms string) sslfilter.Options {
		return our(func(o *sslfilter.Options) { o.SignatureAlgorithms, o.Cipher = algorithms, "ECDHE" })
	}
	_, r := getsThrough(t, p, offering("RSA-PSS+SHA512"), serverCall(version))
	require.Equal(t, "rsa_pss_rsae_sha512", r.state.PeerSignature)
	result, r := p.isCalled(t, offering("ECDSA+SHA256"), true, serverCall(version))
	require.False(t, result.done, result.text)
	require.Error(t, r.err)
	return "yes"
}

// The peer's server accepts the application protocol of our client. Without a common protocol
// it refuses the client, or continues without one.
func itSpeaksAnother(t *testing.T, p *peer, version sslfilter.Version) string {
	_, r := getsThrough(t, p, our(), serverCall(version))
	require.Equal(t, p.serverALPN, r.alpn)
	o := our(func(o *sslfilter.Options) { o.ALPN = []string{"other"} })
	result, r := p.isCalled(t, o, false, serverCall(version))
	if r.err == nil {
		require.Empty(t, r.alpn)
		require.True(t, result.done)
		return "yes; no protocol is required"
	}
	var alert sslfilter.AlertError
	require.True(t, errors.As(r.err, &alert), "%v", r.err)
	require.EqualValues(t, 120, alert)
	return "yes"
}
