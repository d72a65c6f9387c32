package relay

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// dialWith connects to a relay as a client of the library.
func dialWith(t *testing.T, addr string, changes ...testkit.Change) (*sslnet.Conn, error) {
	t.Helper()
	c, err := sslnet.Dial("tcp", addr, testkit.Ctx(t, testkit.Client(changes...)))
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// The relay fetches a response, staples it, and keeps it over a reload although the
// responder is gone.
func TestStapling(t *testing.T) {
	var asked atomic.Int32
	var gone atomic.Bool
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if gone.Load() {
			http.Error(w, "gone", http.StatusServiceUnavailable)
			return
		}
		w.Write(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt")}))
	}))
	defer responder.Close()
	table := relayTable(`listen = ["127.0.0.1:0"]`, fmt.Sprintf("backend = %q", backend(t, testkit.Echo)), crt(),
		fmt.Sprintf("cacrt = %q\nstapling = true\nstapling-responder = %q", testkit.AbsPKI("root.crt"), responder.URL))
	f := startAll(t, table)
	f.logs("OCSP response fetched")
	require := require.New(t)
	c, err := dialWith(t, f.addr(), func(o *sslfilter.Options) { o.OCSPCheck = sslfilter.OCSPRequire })
	require.NoError(err)
	require.Equal(sslfilter.OCSPGood, c.Peer().OCSP.Status)
	require.EqualValues(1, f.relays[0].count.staples.Value())

	gone.Store(true)
	conf, err := config.Parse([]byte(table))
	require.NoError(err)
	require.NoError(f.Reload(conf))
	_, err = dialWith(t, f.addr(), func(o *sslfilter.Options) { o.OCSPCheck = sslfilter.OCSPRequire })
	require.NoError(err)
	require.EqualValues(1, asked.Load(), "the response is fresh")
}

// A responder that fails is logged and counted, and clients are served.
func TestStaplingFails(t *testing.T) {
	f := start(t, `listen = ["127.0.0.1:0"]`, fmt.Sprintf("backend = %q", backend(t, testkit.Echo)), crt(),
		fmt.Sprintf("cacrt = %q\nstapling = true\nstapling-responder = \"http://%s/\"", testkit.AbsPKI("root.crt"), testkit.ClosedPort(t)))
	f.logs("OCSP response not refreshed")
	testkit.Eventually(t, func() bool { return f.relays[0].count.staplesFailed.Value() == 1 }, "not counted")
	_, err := dialWith(t, f.addr(), func(o *sslfilter.Options) { o.OCSPCheck = sslfilter.OCSPIfStapled })
	require.NoError(t, err)
	f = start(t, `listen = ["127.0.0.1:0"]`, fmt.Sprintf("backend = %q", backend(t, testkit.Echo)), crt(), "stapling = true")
	f.logs("no OCSP response is stapled")
	c, err := config.Parse([]byte(relayTable(`listen = ["127.0.0.1:0"]`, `backend = "h:1"`, crt(), "stapling = true", `stapling-responder = "ldap://x/"`)))
	require.NoError(t, err)
	_, err = New(c, f.Server.log)
	require.ErrorContains(t, err, `stapling-responder: sslstaple: "ldap://x/" is not an HTTP URL`)
}

// The relay has certificates of several types, and checks the response of a backend.
func TestIdentities(t *testing.T) {
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, testkit.Server()))
	require.NoError(t, err)
	testkit.Serve(t, l, testkit.Echo)
	f := start(t, `listen = ["127.0.0.1:0"]`, fmt.Sprintf("backend = \"tls:%s\"", l.Addr()), crt(), trust(), `backend-ocspcheck = "require"`,
		fmt.Sprintf("identities = {%q = %q}", testkit.AbsPKI("server-ec.crt"), testkit.AbsPKI("server-ec.key")))
	for auth, serial := range map[string]string{"aRSA": "10:01", "aECDSA": "10:02"} {
		c, err := dialWith(t, f.addr(), testkit.TLS12, testkit.Cipher(auth))
		require.NoError(t, err)
		require.Equal(t, serial, sslfilter.Hexdump(c.Peer().Chain[0].Serial))
	}
	f.logs("there is no OCSP response")
	c, err := config.Parse([]byte(relayTable(`listen = ["127.0.0.1:0"]`, `backend = "h:1"`, crt(),
		fmt.Sprintf("identities = {%q = %q}", testkit.AbsPKI("server-inter.crt"), testkit.AbsPKI("server-inter.key")))))
	require.NoError(t, err)
	_, err = New(c, f.Server.log)
	require.ErrorContains(t, err, "identities ("+testkit.AbsPKI("server-inter.crt")+"): its key and that of ")
}
