package sslhttp_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// A Transport resumes sessions, with its own cache or that of its Dialer. It does not with
// a cache that keeps nothing. Response.TLS describes the server in any case.
func TestSessions(t *testing.T) {
	for name, c := range map[string]struct {
		cache   *sslsession.Cache
		resumes bool
	}{"by default": {nil, true}, "of the Dialer": {sslsession.NewCache(10), true}, "off": {sslsession.NewCache(0), false}} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				s := serve(t, testkit.Server(testkit.UpTo(highest), func(o *sslfilter.Options) { o.ALPN = both }), http.HandlerFunc(whoami))
				tr := transport(t, both...)
				if c.cache != nil {
					tr.Dialer.Sessions = c.cache
				}
				for i := range 3 {
					_, resp := get(t, tr, s.url)
					require.Equal(t, c.resumes && i > 0, resp.TLS.DidResume)
					require.NotEmpty(t, resp.TLS.VerifiedChains)
					require.Equal(t, testkit.Cert(t, "server.crt").Raw, resp.TLS.PeerCertificates[0].Raw)
					tr.CloseIdleConnections()
				}
			})
		})
	}
}
