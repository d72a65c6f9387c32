package live_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// page sends 100 KB and receives them back, and shows what the server reports about
// the data and the browser. The requests are synchronous, so that the page is complete
// when it is dumped.
const page = `<!DOCTYPE html><title>verdict</title><p id=verdict></p><script>
for (let i = 0; i < %d; i++) {
	const r = new XMLHttpRequest();
	r.open("POST", "/data", false);
	r.send("%s");
	document.getElementById("verdict").textContent = r.getResponseHeader("X-Verdict") + " sum=" + r.getResponseHeader("X-Sum") + " same=" + (r.responseText === "%s");
}
</script>`

// browsed serves the page. The browser chooses the HTTP version, and whether it sends
// a certificate. If resume is true, each request has a connection of its own, which may
// resume a session. The page then has three requests, because the browser may have opened
// a second connection before it had a session.
func browsed(t *testing.T, version sslfilter.Version, resume bool) (port, sum string) {
	t.Helper()
	o := sslfilter.Options{
		Crt: testkit.AbsPKI("server.crt"), Key: testkit.AbsPKI("server.key"), CACrt: testkit.AbsPKI("root.crt"), CACRL: testkit.AbsPKI("crl.pem"), ClientCert: true,
		MinVersion: version, MaxVersion: version, ALPN: []string{"h2", "http/1.1"}, ResumeClientCert: resume,
	}
	requests := 1
	if resume {
		o.ALPN, requests = []string{"http/1.1"}, 3
	}
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, o))
	require.NoError(t, err)
	theirs, ours := strings.TrimSpace(string(payload())), strings.TrimSpace(string(payload()))
	oneLine := func(s string) string { return strings.ReplaceAll(s, "\n", " ") }
	theirs, ours = oneLine(theirs), oneLine(ours)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, page, requests, theirs, ours)
	})
	mux.HandleFunc("POST /data", func(w http.ResponseWriter, r *http.Request) {
		c := sslhttp.FromContext(r.Context())
		verdict := fmt.Sprintf("%s %s resumed=%t exists=%t valid=%t", c.Version(), r.Proto, c.State().Resumed, c.ClientCertExists(), c.ClientCertValid())
		if chain := c.Peer().Chain; len(chain) > 0 {
			verdict += " serial=" + sslfilter.Hexdump(chain[0].Serial) + " subject=" + chain[0].Subject
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Verdict", verdict)
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sha256.Sum256(body)))
		io.WriteString(w, ours)
	})
	srv := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	srv.SetKeepAlivesEnabled(!resume)
	ended := make(chan error, 1)
	go func() { ended <- sslhttp.Serve(srv, l) }()
	t.Cleanup(func() {
		srv.Close()
		require.True(t, errors.Is(<-ended, http.ErrServerClosed))
	})
	return peers.Port(t, l.Addr().String()), fmt.Sprintf("%x", sha256.Sum256([]byte(theirs)))
}

// browse makes Chromium load the page of a host and returns the content. Its home directory has
// a database with the CA and, if crt is not empty, one certificate. The profile allows
// Chromium to send that certificate here without asking.
func browse(t *testing.T, host, port, crt string) string {
	t.Helper()
	path := peers.Find(t, "chromium", "chromium")
	home := t.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	require.NoError(t, os.MkdirAll(db, 0o700))
	profile := filepath.Join(home, "profile", "Default")
	require.NoError(t, os.MkdirAll(profile, 0o700))
	if crt == "" {
		makeNSSDatabase(t, db, testkit.AbsPKI("root.crt"))
	} else {
		makeNSSDatabase(t, db, testkit.AbsPKI("root.crt"), crt)
	}
	settings := map[string]any{}
	settings["https://"+host+":"+port+",*"] = map[string]any{"setting": map[string]any{"filters": []any{map[string]any{}}}}
	preferences, err := json.Marshal(map[string]any{"profile": map[string]any{"content_settings": map[string]any{
		"exceptions": map[string]any{"auto_select_certificate": settings}}}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(profile, "Preferences"), preferences, 0o600))
	p := peers.StartForeign(t, []string{"HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_CACHE_HOME=" + home}, path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server",
		"--user-data-dir="+filepath.Join(home, "profile"), "--host-resolver-rules=MAP *.example 127.0.0.1",
		"--dump-dom", "https://"+host+":"+port+"/")
	p.CloseInput()
	require.Zero(t, p.Wait(), p.Output())
	return firstMatch(`<p id="verdict">(.*?)</p>`, p.Output())
}

// The page shows the verdict on Chromium's client certificate.
func TestChromium(t *testing.T) {
	notShort(t, true)
	t.Parallel()
	out, _ := run(t, peers.Find(t, "chromium", "chromium"), "--version")
	document.peer("Chromium", "chromium", firstMatch(`Chromium (\S+)`, out))
	const valid = " exists=true valid=true serial=20:01 subject=/C=DE/O=Oracle Test/CN=client valid sum="
	for _, version := range tlsVersions {
		in := " in TLS " + strings.TrimPrefix(version.String(), "TLSv")
		t.Run(version.String(), func(t *testing.T) {
			port, sum := browsed(t, version, false)
			require.Equal(t, version.String()+" HTTP/2.0 resumed=false"+valid+sum+" same=true", browse(t, "localhost", port, "client"))
			document.extra(browser+in, "Chromium", "yes")
		})
		t.Run("resumption/"+version.String(), func(t *testing.T) {
			port, sum := browsed(t, version, true)
			require.Equal(t, version.String()+" HTTP/1.1 resumed=true"+valid+sum+" same=true", browse(t, "localhost", port, "client"))
			document.extra(browserAgain+in, "Chromium", "yes")
		})
	}
	t.Run("without", func(t *testing.T) {
		port, sum := browsed(t, sslfilter.VersionTLS13, false)
		require.Equal(t, "TLSv1.3 HTTP/2.0 resumed=false exists=false valid=false sum="+sum+" same=true", browse(t, "localhost", port, ""))
		document.extra(browserNone, "Chromium", "yes")
	})
}

// The name of the page chooses the context. Chromium verifies the certificate, and does not
// load a page of a server that has no context for the name.
func TestChromiumServerNames(t *testing.T) {
	notShort(t, true)
	t.Parallel()
	peers.Find(t, "chromium", "chromium")
	site := func(name string, change testkit.Change) *sslfilter.Ctx {
		return testkit.Ctx(t, testkit.With(sslfilter.Options{
			CrtMem: testkit.Mint(t, x509.Certificate{DNSNames: []string{name}}), Key: testkit.PKI("client.key"), ALPN: []string{"h2", "http/1.1"},
		}, change))
	}
	names, err := sslfilter.NewNameMap(nil, site("one.example", testkit.TLS12), site("*.two.example", testkit.TLS13))
	require.NoError(t, err)
	l := &sslnet.Listener{
		Listener: testkit.Listen(t), HandshakeError: func(net.Conn, error) {},
		Choose: func(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
			return names.Choose(hello)
		},
	}
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<p id="verdict">%s %s</p>`, sslhttp.FromContext(r.Context()).ServerName(), sslhttp.FromContext(r.Context()).Version())
	})}
	go sslhttp.Serve(srv, l)
	t.Cleanup(func() { srv.Close() })
	port := peers.Port(t, l.Addr().String())
	require.Equal(t, "one.example TLSv1.2", browse(t, "one.example", port, ""))
	require.Equal(t, "x.two.example TLSv1.3", browse(t, "x.two.example", port, ""))
	require.Empty(t, browse(t, "other.example", port, ""))
	document.extra(browserNames, "Chromium", "yes")
}
