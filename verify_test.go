package sslfilter_test

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Names of the test PKI, in the format of X509_NAME_oneline.
const (
	rootName   = "/C=DE/O=Oracle Test/CN=Oracle Root CA"
	otherName  = "/C=DE/O=Other Org/CN=Unknown CA"
	interName  = "/C=DE/O=Oracle Test/CN=Oracle Intermediate CA"
	inter2Name = "/C=DE/O=Oracle Test/CN=Oracle Intermediate CA 2"
	inter3Name = "/C=DE/O=Oracle Test/CN=Oracle Intermediate CA 3"
	clientName = "/C=DE/O=Oracle Test/CN="
)

// seen is a short form of sslfilter.CertID.
type seen struct {
	subject, issuer, serial string
	depth                   int
	code                    sslfilter.VerifyCode
}

func seenOf(ids []sslfilter.CertID) (list []seen) {
	for _, id := range ids {
		list = append(list, seen{id.Subject, id.Issuer, sslfilter.Hexdump(id.Serial), id.Depth, id.Err})
	}
	return list
}

var (
	rootID  = seen{rootName, rootName, "0A", 1, 0}
	interID = seen{interName, rootName, "0C", 1, 0}
)

// leafID returns the entry of the peer's own certificate.
func leafID(cn, issuer, serial string, code sslfilter.VerifyCode) seen {
	return seen{clientName + cn, issuer, serial, 0, code}
}

func at(depth int, id seen) seen { id.depth = depth; return id }

func failed(code sslfilter.VerifyCode, id seen) seen { id.code = code; return id }

// verdict is the expected verdict of a server on one client.
type verdict struct {
	name   string
	crt    string // with the chain; empty for no certificate
	key    string // empty means client.key
	server func(*sslfilter.Options)
	ids    []seen
	valid  bool
	chain  []string // subjects, leaf first
	crl    sslfilter.CRLStatus
	// alert is the one that RequireValidClientCert sends (RFC 8446 section 6); 0 if the
	// client is accepted.
	alert sslfilter.AlertError
}

func ignoring(codes ...sslfilter.VerifyCode) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) { o.IgnoreVerifyErrors = codes }
}

func depth(n int) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) { o.CAVerifyDepth = n }
}

func crl(file string) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) { o.CACRL = file }
}

func trusting(files ...string) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) { o.CACrt = testkit.PKI(files[0]) }
}

const (
	alertBadCertificate      sslfilter.AlertError = 42
	alertUnsupportedCert     sslfilter.AlertError = 43
	alertCertificateRevoked  sslfilter.AlertError = 44
	alertCertificateExpired  sslfilter.AlertError = 45
	alertUnknownCA           sslfilter.AlertError = 48
	alertHandshakeFailure    sslfilter.AlertError = 40
	alertCertificateRequired sslfilter.AlertError = 116
)

func verdicts() []verdict {
	expired := leafID("client expired", rootName, "20:03", 0)
	notYet := leafID("client not yet valid", rootName, "20:04", 0)
	unknown := leafID("client of unknown CA", otherName, "20:06", 0)
	self := leafID("client self-signed", clientName+"client self-signed", "20:05", 0)
	serverOnly := leafID("client with serverAuth only", rootName, "20:08", 0)
	inter := leafID("client via intermediate", interName, "20:02", 0)
	valid := leafID("client valid", rootName, "20:01", 0)
	revoked := leafID("client revoked", rootName, "20:07", 0)
	deepLeaf := leafID("client below three intermediates", inter3Name, "30:04", 0)
	deep := []seen{
		at(4, rootID), at(3, interID),
		{inter2Name, interName, "30:02", 2, 0}, {inter3Name, inter2Name, "30:03", 1, 0}, deepLeaf,
	}
	deepNames := []string{deepLeaf.subject, inter3Name, inter2Name, interName, rootName}
	selfIDs := []seen{failed(18, self), self}
	return []verdict{
		{name: "valid", crt: "client.crt", ids: []seen{rootID, valid}, valid: true, chain: []string{valid.subject, rootName}},
		{name: "valid EC", crt: "client-ec.crt", key: "client-ec.key", ids: []seen{rootID, leafID("client EC", rootName, "20:20", 0)},
			valid: true, chain: []string{clientName + "client EC", rootName}},
		{name: "valid Ed25519", crt: "client-ed25519.crt", key: "client-ed25519.key", ids: []seen{rootID, leafID("client Ed25519", rootName, "20:21", 0)},
			valid: true, chain: []string{clientName + "client Ed25519", rootName}},
		{name: "valid, not on the CRL", crt: "client.crt", server: crl(testkit.PKI("crl.pem")), ids: []seen{rootID, valid}, valid: true,
			chain: []string{valid.subject, rootName}, crl: sslfilter.CRLNotListed},
		{name: "revoked, no CRL", crt: "client-revoked.crt", ids: []seen{rootID, revoked}, valid: true, chain: []string{revoked.subject, rootName}},
		{name: "revoked", crt: "client-revoked.crt", server: crl(testkit.PKI("crl.pem")), ids: []seen{rootID, revoked},
			chain: []string{revoked.subject, rootName}, crl: sslfilter.CRLListed, alert: alertCertificateRevoked},
		{name: "CA on the CRL", crt: "client-inter-chain.pem", server: crl(testkit.PKI("crl-all.pem")), ids: []seen{at(2, rootID), interID, inter},
			chain: []string{inter.subject, interName, rootName}, crl: sslfilter.CRLListed, alert: alertCertificateRevoked},
		{name: "CRL without entries", crt: "client.crt", server: crl(testkit.PKI("crl-empty.pem")), ids: []seen{rootID, valid},
			chain: []string{valid.subject, rootName}, crl: sslfilter.CRLEmpty, alert: alertUnknownCA},
		{name: "expired", crt: "client-expired.crt", ids: []seen{rootID, failed(10, expired), expired},
			chain: []string{expired.subject, rootName}, alert: alertCertificateExpired},
		{name: "expired, ignored", crt: "client-expired.crt", server: ignoring(10), ids: []seen{rootID, failed(10, expired), expired},
			valid: true, chain: []string{expired.subject, rootName}},
		{name: "expired, another error ignored", crt: "client-expired.crt", server: ignoring(9, 18, 20, 21), ids: []seen{rootID, failed(10, expired), expired},
			chain: []string{expired.subject, rootName}, alert: alertCertificateExpired},
		{name: "not yet valid", crt: "client-notyet.crt", ids: []seen{rootID, failed(9, notYet), notYet},
			chain: []string{notYet.subject, rootName}, alert: alertBadCertificate},
		{name: "unknown CA", crt: "client-unknown.crt", ids: []seen{failed(20, unknown), failed(21, unknown), unknown},
			chain: []string{unknown.subject}, alert: alertUnknownCA},
		{name: "unknown CA, 20 ignored alone", crt: "client-unknown.crt", server: ignoring(20), ids: []seen{failed(20, unknown), failed(21, unknown), unknown},
			chain: []string{unknown.subject}, alert: alertUnknownCA},
		{name: "unknown CA, 20 and 21 ignored", crt: "client-unknown.crt", server: ignoring(20, 21), ids: []seen{failed(20, unknown), failed(21, unknown), unknown},
			valid: true, chain: []string{unknown.subject}},
		{name: "self-signed", crt: "client-self.crt", ids: selfIDs, chain: []string{self.subject}, alert: alertUnknownCA},
		{name: "self-signed, ignored", crt: "client-self.crt", server: ignoring(18), ids: selfIDs, valid: true, chain: []string{self.subject}},
		{name: "serverAuth only", crt: "client-srvonly.crt", ids: []seen{failed(26, serverOnly), rootID, serverOnly},
			chain: []string{serverOnly.subject, rootName}, alert: alertUnsupportedCert},
		{name: "via intermediate", crt: "client-inter-chain.pem", ids: []seen{at(2, rootID), interID, inter}, valid: true,
			chain: []string{inter.subject, interName, rootName}},
		{name: "intermediate missing", crt: "client-inter.crt", ids: []seen{failed(20, inter), failed(21, inter), inter},
			chain: []string{inter.subject}, alert: alertUnknownCA},
		{name: "only the intermediate trusted", crt: "client-inter-chain.pem", server: trusting("inter.crt"), ids: []seen{failed(2, interID), inter},
			chain: []string{inter.subject, interName}, alert: alertUnknownCA},
		{name: "three intermediates, depth 0 (5)", crt: "client-deep-chain.pem", ids: deep, valid: true, chain: deepNames},
		{name: "three intermediates, depth 3", crt: "client-deep-chain.pem", server: depth(3), ids: deep, valid: true, chain: deepNames},
		{name: "three intermediates, depth 2", crt: "client-deep-chain.pem", server: depth(2), ids: tooDeep(deep), chain: deepNames[:4], alert: alertUnknownCA},
		{name: "three intermediates, depth 1", crt: "client-deep-chain.pem", server: depth(1), ids: tooDeep(deep[1:]), chain: deepNames[:3], alert: alertUnknownCA},
		{name: "none"},
		{name: "none, blocked", server: func(o *sslfilter.Options) { o.BlockBadClientCert = true }},
	}
}

// tooDeep returns deep for a bound on the depth: OpenSSL does not look for the issuer of the
// second certificate any more.
func tooDeep(deep []seen) []seen {
	list := []seen{failed(22, deep[1])}
	if since(openssl30) { // 1.1.1 stops after the first of both errors
		list = append(list, failed(20, deep[1]))
	}
	return append(list, deep[2:]...)
}

// eachVerdict runs f for each verdict, TLS version and Cut. server makes the options of
// the server from the verdict's change.
func eachVerdict(t *testing.T, server func(...testkit.Change) sslfilter.Options, f func(t *testing.T, v verdict, highest sslfilter.Version, p *testkit.Pair)) {
	for _, v := range verdicts() {
		t.Run(v.name, func(t *testing.T) {
			server := testkit.Ctx(t, server(v.server))
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				client := testkit.Ctx(t, testkit.Showing(v.crt, v.key, testkit.UpTo(highest)))
				testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
					p := testkit.PairOf(t, server, client)
					p.Cut = cut
					f(t, v, highest, p)
				})
			})
		})
	}
}

func TestVerifyVerdicts(t *testing.T) {
	eachVerdict(t, testkit.Asking, func(t *testing.T, v verdict, _ sslfilter.Version, p *testkit.Pair) {
		err := p.Handshake()
		if v.name == "none, blocked" {
			require.Error(t, err)
			require.False(t, p.Server.HandshakeDone())
		} else {
			require.NoError(t, err)
			require.True(t, p.Server.HandshakeDone())
		}
		requireVerdict(t, v, p.Server.Filter)
	})
}

func requireVerdict(t *testing.T, v verdict, f *sslfilter.Filter) {
	t.Helper()
	require.Equal(t, v.crt != "", f.ClientCertExists())
	require.Equal(t, v.valid, f.ClientCertValid())
	require.Equal(t, v.ids, seenOf(f.ClientCertIDs()))
	peer := f.Peer()
	require.Equal(t, v.crt != "", peer.Exists)
	require.Equal(t, v.valid, peer.Valid)
	if v.crt != "" {
		require.Equal(t, v.crl, peer.CRL.Status, "%v", peer.CRL)
	}
	var names []string
	for _, c := range peer.Chain {
		names = append(names, c.Subject)
		parsed, err := c.Parse()
		require.NoError(t, err)
		require.Equal(t, c.DER, parsed.Raw)
		require.Equal(t, c.Serial, parsed.SerialNumber.Bytes())
	}
	require.Equal(t, v.chain, names)
	requireErrors(t, v, f, peer)
}

// requireErrors compares Peer.Errors with the list of the callback's calls.
func requireErrors(t *testing.T, v verdict, f *sslfilter.Filter, peer *sslfilter.Peer) {
	t.Helper()
	var o sslfilter.Options
	if v.server != nil {
		v.server(&o)
	}
	var want []sslfilter.VerifyIssue
	for _, id := range f.ClientCertIDs() {
		require.Equal(t, id.Err != 0 && slices.Contains(o.IgnoreVerifyErrors, id.Err), id.Ignored)
		if id.Err != 0 {
			want = append(want, sslfilter.VerifyIssue{Depth: id.Depth, Code: id.Err, Subject: id.Subject, Ignored: id.Ignored})
		}
	}
	require.ElementsMatch(t, want, peer.Errors)
	require.True(t, slices.IsSortedFunc(peer.Errors, func(a, b sslfilter.VerifyIssue) int { return a.Depth - b.Depth }))
}

// Peer.Chain contains the certificates of the files.
func TestVerifyPeerChain(t *testing.T) {
	p := testkit.Connect(t, testkit.Asking(), testkit.Showing("client-deep-chain.pem", "client-deep.key"))
	peer := p.Server.Peer()
	for i, file := range []string{"client-deep.crt", "inter3.crt", "inter2.crt", "inter.crt", "root.crt"} {
		require.Equal(t, testkit.Cert(t, file).Raw, peer.Chain[i].DER, file)
	}
	require.Equal(t, "valid", peer.String())
	peer.Chain[0].DER[0] = 0 // a copy
	require.Equal(t, testkit.Cert(t, "client-deep.crt").Raw, p.Server.Peer().Chain[0].DER)
}

// Peer.Errors is sorted by depth, the leaf first.
func TestVerifyPeerErrorsAreByDepth(t *testing.T) {
	expired := testkit.MintFrom(t, testkit.CA(t, "inter"), x509.Certificate{NotAfter: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC)}, testkit.Key(t, "client.key").Public())
	chain := slices.Concat(expired, testkit.PKIBytes(t, "inter.crt"))
	client := testkit.Showing("client.crt", "", func(o *sslfilter.Options) { o.Crt, o.CrtMem = "", chain })
	p := testkit.Connect(t, testkit.Asking(trusting("inter.crt")), client)
	ids := p.Server.ClientCertIDs()
	require.Equal(t, []int{1, 0, 0}, []int{ids[0].Depth, ids[1].Depth, ids[2].Depth}, "the original's order begins at the root")
	errs := p.Server.Peer().Errors
	require.Len(t, errs, 2)
	require.Equal(t, []int{0, 1}, []int{errs[0].Depth, errs[1].Depth})
	require.Equal(t, sslfilter.VerifyCertHasExpired, errs[0].Code)
	require.Equal(t, sslfilter.VerifyUnableToGetIssuer, errs[1].Code)
}

// A certificate with a wrong signature leaves entries in OpenSSL's error queue, even if the
// verdict is only recorded. These must not end a handshake that waits for the next record:
// otherwise the result would depend on how the bytes are divided.
func TestVerifyBadSignatureIsAVerdict(t *testing.T) {
	der := testkit.Cert(t, "client.crt").Raw
	der[len(der)-1] ^= 1
	crt := testkit.TempFile(t, "bad.crt", testkit.PEM("CERTIFICATE", der))
	for _, c := range []struct {
		name   string
		server func(*sslfilter.Options)
		valid  bool
	}{
		{"recorded", nil, false},
		{"ignored", ignoring(7), true}, // X509_V_ERR_CERT_SIGNATURE_FAILURE
		{"ignored by a server that requires a valid certificate", func(o *sslfilter.Options) {
			o.RequireValidClientCert, o.IgnoreVerifyErrors = true, []sslfilter.VerifyCode{7}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				for name, cut := range map[string]testkit.Cut{"whole": testkit.Whole, "by record": testkit.ByRecord, "byte at a time": testkit.Size(1)} {
					p := testkit.NewPair(t, testkit.Asking(c.server), testkit.Showing("client.crt", "", func(o *sslfilter.Options) { o.Crt, o.MaxVersion = crt, highest }))
					p.Cut = cut
					require.NoError(t, p.Handshake(), name)
					require.Equal(t, c.valid, p.Server.ClientCertValid(), name)
					require.Equal(t, sslfilter.VerifyCode(7), p.Server.Peer().Errors[0].Code, name)
				}
			})
		})
	}
}
