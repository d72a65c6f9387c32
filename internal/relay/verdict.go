package relay

import (
	"slices"
	"strings"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/bounded"
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
	Why                     string // why the certificate is invalid
	Subject, Issuer, Serial string // empty without a certificate
}

// verdict describes a connection. It checks the client's certificate again, because
// the certificate may have been revoked since the handshake.
func (st *state) verdict(conn *sslnet.Conn) verdict {
	v := verdict{Protocol: conn.Version(), Cipher: conn.Cipher(), Verdict: verdictNone}
	if st.conf.Server.FIPS {
		v.Providers = providers(conn)
	}
	peer := conn.Peer()
	if peer == nil || !peer.Exists {
		return v
	}
	v.Verdict = verdictInvalid
	if peer.Valid {
		v.Verdict = verdictValid
	} else {
		v.Why = bounded.Text(peer.String())
	}
	if len(peer.Chain) > 0 {
		own := peer.Chain[0]
		v.Subject, v.Issuer, v.Serial = bounded.Text(own.Subject), bounded.Text(own.Issuer), bounded.Text(sslfilter.Hexdump(own.Serial))
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
	if v.Providers != "" {
		attrs = append(attrs, "providers", v.Providers)
	}
	if v.Verdict != verdictNone {
		attrs = append(attrs, "subject", v.Subject, "issuer", v.Issuer, "serial", v.Serial)
	}
	if v.Why != "" {
		attrs = append(attrs, "reason", v.Why)
	}
	return attrs
}
