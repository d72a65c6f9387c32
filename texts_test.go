package sslfilter_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// The one-line descriptions that programs log.
func TestTextsVerdict(t *testing.T) {
	name := clientName + "client revoked"
	for want, p := range map[string]*sslfilter.Peer{
		"no certificate": nil,
		"valid":          {Exists: true, KeyProved: true, Valid: true},
		"invalid: the peer has not proved that it has the key": {Exists: true},
		"invalid: certificate has expired (10) at depth 1": {Exists: true, KeyProved: true, Errors: []sslfilter.VerifyIssue{
			{Code: 9, Ignored: true}, {Depth: 1, Code: 10},
		}},
		"invalid: certificate has expired (10) at depth 0; the peer has not proved that it has the key": {Exists: true, Errors: []sslfilter.VerifyIssue{{Code: 10}}},
		"invalid: certificate has expired (10) at depth 0; crl.pem: serial 20:07 of " + name + " is listed": {
			Exists: true, KeyProved: true, Errors: []sslfilter.VerifyIssue{{Code: 10}},
			CRL: sslfilter.CRLResult{Status: sslfilter.CRLListed, File: "crl.pem", Subject: name, Serial: []byte{0x20, 0x07}},
		},
	} {
		require.Equal(t, want, p.String())
	}
	require.Equal(t, "no certificate", new(sslfilter.Peer).String())
	for want, r := range map[string]sslfilter.CRLResult{
		"not asked":                       {},
		"f: not listed":                   {Status: sslfilter.CRLNotListed, File: "f"},
		"f: serial 0A of /CN=x is listed": {Status: sslfilter.CRLListed, File: "f", Subject: "/CN=x", Serial: []byte{10}},
		"f: the CRL has no entries":       {Status: sslfilter.CRLEmpty, File: "f"},
		"f: the CRL cannot be used: gone": {Status: sslfilter.CRLUnusable, File: "f", Err: errors.New("gone")},
		"f: no certificate":               {Status: sslfilter.CRLNoCertificate, File: "f"},
		"f: CRLStatus(99)":                {Status: 99, File: "f"},
	} {
		require.Equal(t, want, r.String())
		require.Equal(t, r.Status == sslfilter.CRLNotAsked || r.Status == sslfilter.CRLNotListed, r.OK(), want)
	}
	require.Equal(t, "listed", sslfilter.CRLListed.String())
}

// The numbers and texts are those of OpenSSL.
func TestTextsVerifyCodes(t *testing.T) {
	for code, c := range map[sslfilter.VerifyCode]struct {
		number   int
		sentence string
	}{
		sslfilter.VerifyOK:                   {0, "ok"},
		sslfilter.VerifyUnableToGetIssuer:    {2, "unable to get issuer certificate"},
		sslfilter.VerifyUnableToGetCRL:       {3, "unable to get certificate CRL"},
		sslfilter.VerifyCertNotYetValid:      {9, "certificate is not yet valid"},
		sslfilter.VerifyCertHasExpired:       {10, "certificate has expired"},
		sslfilter.VerifyUnableToGetIssuerLoc: {20, "unable to get local issuer certificate"},
		sslfilter.VerifyUnableToVerifyLeaf:   {21, "unable to verify the first certificate"},
		sslfilter.VerifyChainTooLong:         {22, "certificate chain too long"},
		sslfilter.VerifyCertRevoked:          {23, "certificate revoked"},
	} {
		require.Equal(t, c.number, int(code))
		require.True(t, strings.HasPrefix(code.String(), c.sentence), "%d: %v", code, code) // in 4.0, the texts of 9 and 10 are longer
	}
	require.Equal(t, 18, int(sslfilter.VerifySelfSignedLeaf))
	require.Equal(t, 19, int(sslfilter.VerifySelfSignedInChain))
	require.Equal(t, 26, int(sslfilter.VerifyInvalidPurpose))
	require.Contains(t, sslfilter.VerifyHostnameMismatch.String(), "ostname mismatch")
	require.Contains(t, sslfilter.VerifyIPAddressMismatch.String(), "IP address mismatch")
	require.Contains(t, sslfilter.VerifyUnspecified.String(), "nspecified certificate verification error")
}

// An error that a program made has a text, too: the types are public.
func TestTextsBareErrors(t *testing.T) {
	for want, err := range map[string]error{
		"sslfilter: SSL_read: failed (SSL_get_error 5)":                       &sslfilter.Error{Op: "SSL_read", Code: 5},
		"sslfilter: SSL_CTX_new: failed":                                      &sslfilter.Error{Op: "SSL_CTX_new"},
		"sslfilter: SSL_read: a hint":                                         &sslfilter.Error{Op: "SSL_read", Code: 1, Hint: "a hint"},
		"sslfilter: SSL_read: error 0A000001":                                 &sslfilter.Error{Op: "SSL_read", Records: []sslfilter.ErrorRecord{{Code: 0x0a000001}}},
		"sslfilter: SSL_read: file not found: a hint":                         &sslfilter.Error{Op: "SSL_read", Records: []sslfilter.ErrorRecord{{Data: "file not found"}}, Hint: "a hint"},
		"sslfilter: the peer sent the alert unknown (200)":                    sslfilter.AlertError(200),
		"sslfilter: the peer sent the alert certificate_required (116)":       sslfilter.AlertError(116),
		"sslfilter: verify: certificate has expired (10)":                     &sslfilter.VerifyError{Code: 10},
		"sslfilter: verify: certificate has expired (10) at depth 2: /CN=a b": &sslfilter.VerifyError{Code: 10, Depth: 2, Subject: "/CN=a b"},
		"sslfilter: option Crt: gone":                                         &sslfilter.OptionError{Option: "Crt", Err: errors.New("gone")},
		"sslfilter: option Crt (f): closed":                                   &sslfilter.OptionError{Option: "Crt", File: "f", Err: sslfilter.ErrClosed},
		"sslfilter: Send: too late":                                           &sslfilter.UsageError{Op: "Send", Msg: "too late"},
	} {
		require.EqualError(t, err, want)
	}
	require.Equal(t, "error:0A0000C1:SSL routines::no shared cipher", sslfilter.ErrorRecord{Code: 0x0A0000C1, Library: "SSL routines", Reason: "no shared cipher"}.String())
}

func TestTextsHexdump(t *testing.T) {
	for want, b := range map[string][]byte{
		"": nil, "00": {0}, "0A:FF": {10, 255}, "74:65:73:74": []byte("test"), "01:23:45:67:89:AB:CD:EF": {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
	} {
		require.Equal(t, want, sslfilter.Hexdump(b))
	}
}
