package live_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// identity is a certificate that a client sends, and the expected verdict.
type identity struct {
	name    string // in the table
	file    string // of the PKI; empty means no certificate
	serial  string
	subject string
	code    sslfilter.VerifyCode // of the certificate itself
	listed  bool                 // it is on the revocation list
	refused sslfilter.VerifyCode // error with RequireValidClientCert: 0 means accepted, -1 means rejected without a code
	alerts  []sslfilter.AlertError
}

// identities are the columns of the table. The alerts are those of RFC 8446
// section 6.2 that fit. Implementations differ in how exact they are.
var identities = []identity{
	{name: "none", refused: -1, alerts: []sslfilter.AlertError{116, 40, 42, 49, 50}}, // GnuTLS has 50
	{name: "valid", file: "client", serial: "20:01", subject: "/C=DE/O=Oracle Test/CN=client valid"},
	{name: "revoked", file: "client-revoked", serial: "20:07", subject: "/C=DE/O=Oracle Test/CN=client revoked",
		listed: true, refused: 23, alerts: []sslfilter.AlertError{44, 42, 46, 49}},
	{name: "expired", file: "client-expired", serial: "20:03", subject: "/C=DE/O=Oracle Test/CN=client expired",
		code: 10, refused: 10, alerts: []sslfilter.AlertError{45, 42, 46, 49}},
	{name: "unknown CA", file: "client-unknown", serial: "20:06", subject: "/C=DE/O=Oracle Test/CN=client of unknown CA",
		code: 20, refused: 20, alerts: []sslfilter.AlertError{48, 42, 46, 49}},
}

var tlsVersions = []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13}

// TestRealPeers joins each peer with our server and with our client, and
// compares the reports of the two ends.
func TestRealPeers(t *testing.T) {
	t.Parallel()
	for _, p := range allPeers() {
		t.Run(p.name, func(t *testing.T) {
			notShort(t, !p.short)
			t.Parallel()
			document.peer(p.name, p.debian, p.version(t))
			for _, version := range tlsVersions {
				if p.client != nil {
					t.Run(fmt.Sprintf("client/%s", version), func(t *testing.T) { visitsUs(t, p, version) })
				}
				if p.server != nil {
					t.Run(fmt.Sprintf("server/%s", version), func(t *testing.T) { isVisited(t, p, version) })
				}
			}
		})
	}
}

// notShort skips slow scenes with -short. With the remaining peers, the race detector,
// the sanitizers and every other OpenSSL still cover the same code of this library.
func notShort(t *testing.T, costly bool) {
	t.Helper()
	if costly && testing.Short() {
		t.Skip("-short")
	}
}

// visitsUs connects the peer's client to our server with every certificate: first to a
// server that only requests one, then to a server that requires a valid one.
func visitsUs(t *testing.T, p *peer, version sslfilter.Version) {
	base := sslfilter.Options{
		Crt: testkit.AbsPKI("server.crt"), Key: testkit.AbsPKI("server.key"), CACrt: testkit.AbsPKI("root.crt"), CACRL: testkit.AbsPKI("crl.pem"),
		ALPN: []string{"interop", "http/1.1"},
	}
	row := document.row(p, "client", version)
	for _, id := range identities {
		t.Run(id.name, func(t *testing.T) {
			o := base
			o.ClientCert = true
			c, r := p.visitUs(t, version, o, id, testkit.AbsPKI("root.crt"))
			require.NoError(t, r.err, c.text)
			require.True(t, c.done, c.text)
			row.cipher(r.cipher)
			require.Equal(t, version.String(), r.version)
			require.Equal(t, p.clientALPN, r.alpn)
			if !p.quirks.noSNI {
				require.Equal(t, "localhost", r.sni)
			}
			if !p.quirks.clientSilent {
				sameTerms(t, c, r)
			}
			requireEnd(t, p.quirks.clientCuts, r)
			requireVerdict(t, id, r)

			o.RequireValidClientCert = true
			if id.refused == 0 {
				c, r = p.visitUs(t, version, o, id, testkit.AbsPKI("root.crt"))
				require.NoError(t, r.err, c.text)
				require.True(t, c.done, c.text)
				requireVerdict(t, id, r)
				row.set(id.name, "valid")
				return
			}
			c, r = p.visitUs(t, version, o, id, testkit.AbsPKI("root.crt"))
			require.False(t, c.done, c.text)
			row.set(id.name, requireRefusal(t, id, r))
		})
	}
	t.Run("our CA unknown to it", func(t *testing.T) {
		c, r := p.visitUs(t, version, base, identities[0], testkit.AbsPKI("other.crt"))
		if p.quirks.acceptsInvalid {
			require.NoError(t, r.err, c.text)
			require.True(t, c.done, c.text)
			row.set(serverUnknown, "accepted")
			return
		}
		require.False(t, c.done, c.text)
		row.set(serverUnknown, "refuses us: "+requireGone(t, r, p.quirks.clientLeaves, 48, 46, 42))
	})
}

// visitUs is one connection of the peer to us.
func (p *peer) visitUs(t *testing.T, version sslfilter.Version, o sslfilter.Options, id identity, ca string) (outcome, report) {
	return p.calls(t, with(t, o), call{version: version, ca: ca}.showing(id))
}

// showing returns a call of a client with this certificate.
func (c call) showing(id identity) call {
	if id.file != "" {
		c.crt, c.key = testkit.AbsPKI(id.file+".crt"), testkit.AbsPKI(id.file+".key")
	}
	return c
}

// calls makes the peer connect to our server.
func (p *peer) calls(t testing.TB, our serve, c call) (outcome, report) {
	t.Helper()
	c.send, c.want = payload(), payload()
	if p.quirks.fixed != nil {
		c.send = p.quirks.fixed
	}
	var end func() report
	c.addr, end = host(t, p, our, c.send, c.want)
	result := p.client(t, c)
	r := end()
	if r.err == nil {
		require.Equal(t, string(c.send), string(r.got))
	}
	return result, r
}

// requireVerdict checks our verdict on a client when a certificate is only requested.
func requireVerdict(t *testing.T, id identity, r report) {
	t.Helper()
	if id.file == "" {
		require.False(t, r.exists)
		require.False(t, r.peer.Valid)
		require.Empty(t, r.ids)
		return
	}
	require.True(t, r.exists)
	require.Equal(t, id.code == 0 && !id.listed, r.peer.Valid)
	require.NotEmpty(t, r.peer.Chain)
	require.Equal(t, id.subject, r.peer.Chain[0].Subject)
	require.Equal(t, id.serial, sslfilter.Hexdump(r.peer.Chain[0].Serial))
	if id.listed {
		require.Equal(t, sslfilter.CRLListed, r.peer.CRL.Status)
	}
	codes := []sslfilter.VerifyCode{}
	for _, known := range r.ids {
		if known.Depth == 0 {
			require.Equal(t, id.subject, known.Subject)
			require.Equal(t, id.serial, sslfilter.Hexdump(known.Serial))
			codes = append(codes, known.Err)
		}
	}
	require.Contains(t, codes, id.code)
}

// requireRefusal checks the error of our server, and returns the reason.
func requireRefusal(t *testing.T, id identity, r report) string {
	t.Helper()
	require.Error(t, r.err)
	require.False(t, r.peer.Valid)
	var failure *sslfilter.Error
	require.ErrorAs(t, r.err, &failure)
	var verify *sslfilter.VerifyError
	if id.refused < 0 {
		require.NotErrorAs(t, r.err, &verify)
		require.ErrorContains(t, r.err, "peer did not return a certificate")
		return "we refuse if required"
	}
	require.ErrorAs(t, r.err, &verify)
	require.Equal(t, id.refused, verify.Code)
	require.Equal(t, id.subject, verify.Subject)
	return fmt.Sprintf("we refuse if required: %d", int(verify.Code))
}

// requireGone checks that our end failed because of an alert of the peer, or because
// the peer left in one of its known ways.
func requireGone(t *testing.T, r report, leaves []error, alerts ...sslfilter.AlertError) string {
	t.Helper()
	require.Error(t, r.err)
	if leaves != nil {
		require.True(t, slices.ContainsFunc(leaves, func(how error) bool { return errors.Is(r.err, how) }), "%v", r.err)
		return "closes"
	}
	var alert sslfilter.AlertError
	require.ErrorAs(t, r.err, &alert)
	require.Contains(t, alerts, alert)
	return fmt.Sprintf("alert %d", int(alert))
}

// sameTerms compares the parameters that the two ends report.
func sameTerms(t *testing.T, c outcome, r report) {
	t.Helper()
	require.Equal(t, firstMatch(`(1\.\d)`, r.version), firstMatch(`(1\.\d)`, c.version), c.text)
	require.True(t, sameCipher(r.cipher, c.cipher), "%q, and the peer says %q", r.cipher, c.cipher)
}

// requireEnd checks how the peer ends a connection.
func requireEnd(t *testing.T, cuts bool, r report) {
	t.Helper()
	if cuts {
		require.True(t, errors.Is(r.end, io.ErrUnexpectedEOF), "%v", r.end)
		return
	}
	require.Equal(t, io.EOF, r.end)
}

// isVisited connects our client to the peer's server with every certificate.
func isVisited(t *testing.T, p *peer, version sslfilter.Version) {
	row := document.row(p, "server", version)
	for _, id := range identities {
		t.Run(id.name, func(t *testing.T) {
			if id.file == "" { // a server that requests no certificate
				c, r := p.visited(t, version, id, false, "server")
				p.requireVisited(t, row, version, c, r)
			}
			if id.listed && p.quirks.noCRL {
				row.set(id.name, "has no CRL")
				return
			}
			c, r := p.visited(t, version, id, true, "server")
			switch {
			case id.refused == 0 || p.quirks.acceptsInvalid && id.file != "":
				p.requireVisited(t, row, version, c, r)
				if id.file != "" {
					require.Contains(t, c.cert, id.subject[len("/C=DE/O=Oracle Test/CN="):])
				}
				row.set(id.name, "accepted")
			case p.quirks.answersInHTTP:
				require.NoError(t, r.err)
				require.Equal(t, 400, r.status)
				require.False(t, c.done)
				row.set(id.name, "HTTP status 400")
			default:
				require.False(t, c.done, c.text)
				leaves := p.quirks.serverLeaves
				if id.file == "" {
					leaves = nil // the handshake fails
				}
				row.set(id.name, "refuses us if required: "+requireGone(t, r, leaves, id.alerts...))
			}
		})
	}
	t.Run("its CA unknown to us", func(t *testing.T) {
		c, r := p.visited(t, version, identities[0], false, "server-unknown")
		require.False(t, c.done, c.text)
		var verify *sslfilter.VerifyError
		require.ErrorAs(t, r.err, &verify)
		require.Equal(t, sslfilter.VerifyCode(20), verify.Code)
		row.set(serverUnknown, "we refuse: 20")
	})
}

// requireVisited checks a conversation that succeeded.
func (p *peer) requireVisited(t *testing.T, row *row, version sslfilter.Version, c outcome, r report) {
	t.Helper()
	require.NoError(t, r.err, c.text)
	require.True(t, c.done, c.text)
	require.True(t, r.peer.Valid)
	require.Equal(t, "/C=DE/O=Oracle Test/CN=localhost", r.peer.Chain[0].Subject)
	require.Equal(t, version.String(), r.version)
	require.Equal(t, p.serverALPN, r.alpn)
	row.cipher(r.cipher)
	sameTerms(t, c, r)
	requireEnd(t, p.quirks.serverCuts, r)
}

// visited is one connection to the peer.
func (p *peer) visited(t *testing.T, version sslfilter.Version, id identity, ask bool, crt string) (outcome, report) {
	o := sslfilter.Options{Client: true, ServerName: "localhost", CACrt: testkit.AbsPKI("root.crt"), ALPN: []string{"interop", "http/1.1"}}
	if id.file != "" {
		o.Crt, o.Key = testkit.AbsPKI(id.file+".crt"), testkit.AbsPKI(id.file+".key")
	}
	refused := ask && id.refused != 0 && !(p.quirks.acceptsInvalid && id.file != "") && !p.quirks.answersInHTTP
	return p.isCalled(t, o, refused, call{
		version: version, crt: testkit.AbsPKI(crt + ".crt"), key: testkit.AbsPKI(crt + ".key"), ca: testkit.AbsPKI("root.crt"), ask: ask, crl: testkit.AbsPKI("crl.pem"),
	})
}

// isCalled connects our client to the peer's server. A client that expects to be refused
// sends nothing: unread data could make us lose the alert.
func (p *peer) isCalled(t testing.TB, o sslfilter.Options, refused bool, c call) (outcome, report) {
	t.Helper()
	ours := payload()
	if p.quirks.asked != nil {
		ours = p.quirks.asked(ours)
	}
	c.send, c.want = payload(), ours
	switch {
	case p.quirks.fixed != nil:
		c.send = p.quirks.fixed
	case p.quirks.answers != nil:
		c.send = p.quirks.answers(ours)
	}
	s := p.server(t, c)
	if refused {
		ours = nil
	}
	r := visit(t, p, s.addr, o, ours, c.send)
	if r.err == nil && r.status != 400 {
		require.Equal(t, string(c.send), string(r.got))
	}
	return s.end(), r
}
