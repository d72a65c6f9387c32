// Package interop tests the packages of this module against the Perl original,
// openssl s_server, and other programs that do not use this library.
package interop_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// The responses of two web servers, one on the original and one on Python's ssl,
// have no length and end without close_notify. With AllowMissingCloseNotify a
// response is complete if its connection ends between two records, and never if a
// record is cut.
func TestHTTPWithoutCloseNotify(t *testing.T) {
	const length = 200_000 // more than a record
	for _, server := range []struct{ name, script, debianPackage, interpreter string }{
		{"POE::Filter::SSL", "testdata/http.pl", "libpoe-filter-ssl-perl", "perl"},
		{"Python", "testdata/http.py", "python3", "/usr/bin/python3"},
	} {
		t.Run(server.name, func(t *testing.T) {
			path := peers.FindFor(t, server.script, server.debianPackage, server.interpreter)
			for _, end := range []struct {
				name, cut string
				allow     bool
				whole     bool
			}{
				{name: "between records, strict"},
				{name: "between records, allowed", allow: true, whole: true},
				{name: "within a record, strict", cut: "1703030100ab"},
				{name: "within a record, allowed", cut: "1703030100ab", allow: true},
				{name: "within a header, allowed", cut: "170303", allow: true},
			} {
				t.Run(end.name, func(t *testing.T) {
					p := peers.StartForeign(t, nil, path, server.script, testkit.PKI("server.crt"), testkit.PKI("server.key"), fmt.Sprint(length), end.cut)
					port := p.Await("")
					tr := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: testkit.Ctx(t, sslfilter.Options{
						Client: true, CACrt: testkit.PKI("root.crt"), SNI: "localhost", ALPN: []string{"h2", "http/1.1"}, AllowMissingCloseNotify: end.allow,
					})}}
					resp, err := (&http.Client{Transport: tr, Timeout: testkit.Patience}).Get("https://localhost:" + port)
					require.NoError(t, err)
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					require.Len(t, body, length)
					if end.whole {
						require.NoError(t, err)
						return
					}
					var truncated *sslfilter.TruncatedError
					require.ErrorAs(t, err, &truncated)
					require.ErrorIs(t, err, io.ErrUnexpectedEOF)
					require.Equal(t, end.cut != "", *truncated != sslfilter.TruncatedError{}, "%+v", truncated)
				})
			}
		})
	}
}
