package relay

import (
	"errors"
	"slices"
	"strings"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/bounded"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Values of verdict.Verdict.
const (
	verdictValid   = "valid"
	verdictInvalid = "invalid"
	verdictNone    = "none"
)

// verdict describes a client's TLS connection and certificate, for the backend and
// for the log. Subject and Issuer come from the certificate; OpenSSL has escaped them
// to printable ASCII. A text that is longer than bounded.MaxText bytes is cut and marked
// as cut.
type verdict struct {
	Protocol, Cipher        string // empty without TLS
	Providers               string // with fips: the providers of the connection
	Verdict                 string
	Why                     string // why the certificate is invalid, or the client is not served
	Code                    int    // the first verify error that is not ignored, or 0
	Subject, Issuer, Serial string // empty without a certificate
	Fingerprint             string // SHA-256, in hexadecimal
	Resumed                 bool   // the handshake resumed a session
	Unproved                bool   // the client has not proved that it has the key of the certificate
	Denied                  bool   // the certificate is valid, and the client is not in allow-clients
}

// verdict describes a connection. It checks the client's certificate again, because
// the certificate may have been revoked since the handshake.
func (st *state) verdict(conn *sslnet.Conn) verdict {
	v := verdict{Protocol: conn.Version(), Cipher: conn.Cipher(), Verdict: verdictNone, Resumed: conn.State().Resumed}
	if st.conf.Server.FIPS {
		v.Providers = providers(conn)
	}
	peer := conn.Peer()
	v.describe(peer)
	if v.Verdict == verdictValid && st.allowed != nil {
		if err := st.allowed.Admit(&peer.Chain[0]); err != nil {
			v.Denied, v.Why = true, err.Error()
		}
	}
	return v
}

// describe adds the certificate of a client. peer may be nil.
func (v *verdict) describe(peer *sslfilter.Peer) {
	if peer == nil || !peer.Exists {
		return
	}
	v.Verdict, v.Unproved = verdictInvalid, !peer.KeyProved
	if peer.Valid {
		v.Verdict = verdictValid
	} else {
		v.Why = bounded.Text(peer.String())
	}
	for _, issue := range peer.Errors {
		if !issue.Ignored && v.Code == 0 {
			v.Code = int(issue.Code)
		}
	}
	if len(peer.Chain) > 0 {
		own := peer.Chain[0]
		v.Subject, v.Issuer, v.Serial = bounded.Text(own.Subject), bounded.Text(own.Issuer), bounded.Text(sslfilter.Hexdump(own.Serial))
		v.Fingerprint = config.Fingerprint(own.DER)
	}
}

// refusedVerdict describes the connection and the certificate of a client whose
// handshake failed with err. Without a certificate it has only the verdict.
func refusedVerdict(conn *sslnet.Conn, err error) verdict {
	v := verdict{Verdict: verdictNone}
	var failure *sslfilter.Error
	if !errors.As(err, &failure) || failure.Peer == nil {
		return v
	}
	v.Protocol, v.Cipher = conn.Version(), conn.Cipher()
	v.describe(failure.Peer)
	var refusal *sslfilter.VerifyError
	if errors.As(err, &refusal) {
		v.Code = int(refusal.Code)
	}
	return v
}

// providers lists the providers of a connection, such as "fips", each once.
func providers(conn *sslnet.Conn) string {
	list, err := conn.Providers()
	if err != nil {
		return ""
	}
	var names []string
	for _, line := range list {
		if !slices.Contains(names, line.Provider) {
			names = append(names, line.Provider)
		}
	}
	return strings.Join(names, ", ")
}

// attrs returns the verdict for the log.
func (v *verdict) attrs() []any {
	if v.Protocol == "" {
		return nil
	}
	attrs := []any{"protocol", v.Protocol, "cipher", v.Cipher, "certificate", v.Verdict}
	if v.Resumed {
		attrs = append(attrs, "resumed", true)
	}
	if v.Providers != "" {
		attrs = append(attrs, "providers", v.Providers)
	}
	if v.Verdict != verdictNone {
		attrs = append(attrs, "subject", v.Subject, "issuer", v.Issuer, "serial", v.Serial, "fingerprint", v.Fingerprint)
	}
	if v.Unproved {
		attrs = append(attrs, "key_proved", false)
	}
	if v.Code != 0 {
		attrs = append(attrs, "verify_error", v.Code)
	}
	if v.Why != "" {
		attrs = append(attrs, "reason", v.Why)
	}
	return attrs
}
