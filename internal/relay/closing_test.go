package relay

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Python's ssl module ends a body by closing the connection without close_notify. The
// relay accepts that as the end of a response only with the option
// allowmissingclosenotify for backends.
func TestABackendThatClosesWithoutCloseNotify(t *testing.T) {
	const size = 300_000
	_, addr := pythonServer(t, "python3", "closing.py", testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"), strconv.Itoa(size))
	where := fmt.Sprintf("backend = \"tls:%s\"\n", addr)
	for _, mode := range []string{config.ModeTCP, config.ModeHTTP} {
		for _, allow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, backend-allowmissingclosenotify = %v", mode, allow), func(t *testing.T) {
				f := start(t, fmt.Sprintf("mode = %q", mode), `listen = ["127.0.0.1:0"]`, crt(), trust(), where,
					fmt.Sprintf("backend-allowmissingclosenotify = %v", allow))
				_, port, err := net.SplitHostPort(f.addr())
				require.NoError(t, err)
				address := url.URL{Scheme: "https", Host: net.JoinHostPort("localhost", port), Path: "/"}
				curl := exec.Command(peers.FindCurl(t, address.String()), "--silent", "--show-error", "--http1.1", "--max-time", "30",
					"--resolve", "localhost:"+port+":127.0.0.1", "--cacert", testkit.AbsPKI("root.crt"), address.String())
				curl.Env = peers.ForeignEnv()
				body, err := curl.Output()
				require.Len(t, body, size, "what came is delivered in any case")
				if allow {
					require.NoError(t, err)
					return
				}
				var exit *exec.ExitError
				require.True(t, errors.As(err, &exit), "curl took a truncated answer for a whole one")
				t.Logf("curl: %v: %s", exit, exit.Stderr)
			})
		}
	}
}

// The option has the same effect for clients. An end inside a record is never an orderly end.
func TestAClientThatClosesWithoutCloseNotify(t *testing.T) {
	for name, last := range map[string][]byte{"between two records": nil, "inside a record": {23, 3, 3}} {
		for _, allow := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, allowmissingclosenotify = %v", name, allow), func(t *testing.T) {
				type result struct {
					got []byte
					err error
				}
				results := make(chan result, 1)
				f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("allowmissingclosenotify = %v", allow),
					fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
						got, err := io.ReadAll(conn)
						results <- result{got, err}
					})))
				var conn *tls.Conn = dialTLS(t, f.addr())
				io.WriteString(conn, "hello")
				conn.NetConn().Write(last)
				require.NoError(t, tcpOf(conn).CloseWrite())
				r := <-results
				require.Equal(t, "hello", string(r.got))
				if allow && last == nil {
					require.NoError(t, r.err)
				} else {
					require.Error(t, r.err)
				}
				if last != nil {
					f.logs("the client closed the connection inside a TLS record")
				}
			})
		}
	}
}

// The original never sends a close_notify. Its data reaches the other side in full,
// and the end is an orderly one only with the option.
func TestTheOriginalClosesWithoutCloseNotify(t *testing.T) {
	const size = 2_000_006
	script := filepath.Join("testdata", "backends", "original.pl")
	perl := peers.FindFor(t, script, "libpoe-filter-ssl-perl", "perl")
	for _, allow := range []bool{false, true} {
		check := func(t *testing.T, got []byte, err error) {
			require.Len(t, got, size)
			if allow {
				require.NoError(t, err)
			} else {
				require.Error(t, err, "the end looks like an orderly one")
			}
		}
		t.Run(fmt.Sprintf("backend, backend-allowmissingclosenotify = %v", allow), func(t *testing.T) {
			p := peers.StartForeign(t, nil, perl, script, "listen", strconv.Itoa(size), testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"))
			f := start(t, `listen = ["127.0.0.1:0"]`, crt(), trust(), fmt.Sprintf("backend-allowmissingclosenotify = %v", allow),
				fmt.Sprintf("backend = \"tls:127.0.0.1:%s\"", strings.TrimSpace(p.Await("port "))))
			got, err := slowly(dialTLS(t, f.addr()))
			check(t, got, err)
		})
		t.Run(fmt.Sprintf("client, allowmissingclosenotify = %v", allow), func(t *testing.T) {
			var got []byte
			var err error
			done := make(chan struct{})
			f := start(t, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("allowmissingclosenotify = %v", allow),
				fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
					defer close(done)
					got, err = slowly(conn)
				})))
			_, port, splitErr := net.SplitHostPort(f.addr())
			require.NoError(t, splitErr)
			peers.StartForeign(t, nil, perl, script, "connect", strconv.Itoa(size), port).Await("sent")
			<-done
			check(t, got, err)
		})
	}
}
