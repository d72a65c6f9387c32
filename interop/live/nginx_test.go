package live_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

const nginxPackage = "nginx-light"

// nginxPeer is a proxy that accepts TLS for a web server of the test (server), and a
// proxy that adds TLS for our web server (client).
func nginxPeer() *peer {
	return &peer{
		name: "nginx", debian: nginxPackage, http: true, serverALPN: "http/1.1",
		version: func(t testing.TB) string {
			out, _ := run(t, peers.FindDaemon(t, nginxPackage, "nginx"), "-v")
			return firstMatch(`nginx/(\S+)`, out)
		},
		client: nginxClient,
		server: nginxServer,
		lacks: map[string]string{
			"client " + again: "way to ask for it",
			"server " + again: "way to ask for it",

			"client " + stapling: "check of a stapled response", "client " + mustStaple: "check of the extension", "client " + alpn: "ALPN towards a backend",
		},
		quirks: quirks{answersInHTTP: true, clientSilent: true, clientLeaves: []error{io.EOF}},
	}
}

func startNginx(t testing.TB, port, server string) *peers.Program {
	t.Helper()
	dir := t.TempDir()
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr info;
events {}
http {
	access_log off; keepalive_timeout 0; client_max_body_size 1m;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server {
		%[2]s
	}
}
`, dir, server)
	file := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	p := peers.StartForeign(t, nil, peers.FindDaemon(t, nginxPackage, "nginx"), "-p", dir, "-e", "stderr", "-c", file)
	p.AwaitPort(port)
	return p
}

func nginxServer(t testing.TB, c call) service {
	var result atomic.Pointer[outcome]
	result.Store(new(outcome))
	var done atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err == nil && bytes.Equal(got, c.want) {
			done.Add(1)
		}
		result.Store(&outcome{
			version: r.Header.Get("X-Version"), cipher: r.Header.Get("X-Cipher"), cert: r.Header.Get("X-Subject"),
			resumed: yesNo(r.Header.Get("X-Reused") == "r"),
		})
		w.Write(c.send)
	}))
	t.Cleanup(backend.Close)
	port := peers.FreePort(t)
	ask := ""
	if c.ask {
		ask = fmt.Sprintf("ssl_verify_client on; ssl_client_certificate %s;", c.ca)
	}
	if c.crl != "" {
		ask += fmt.Sprintf(" ssl_crl %s;", c.crl)
	}
	if c.staple != "" {
		ask += fmt.Sprintf(" ssl_stapling on; ssl_stapling_file %s;", c.staple)
	}
	p := startNginx(t, port, fmt.Sprintf(`listen 127.0.0.1:%s ssl; ssl_certificate %s; ssl_certificate_key %s; ssl_protocols %s; %s
		location / {
			proxy_pass %s;
			proxy_set_header X-Version $ssl_protocol; proxy_set_header X-Cipher $ssl_cipher; proxy_set_header X-Subject $ssl_client_s_dn;
			proxy_set_header X-Reused $ssl_session_reused;
		}`, port, c.crt, c.key, c.version, ask, backend.URL))
	return service{addr: "127.0.0.1:" + port, end: func() outcome {
		stop(p)
		result := *result.Load()
		result.done, result.text = done.Load() == int64(c.times()), p.Output()
		return result
	}}
}

// stop ends a daemon.
func stop(p *peers.Program) {
	p.Signal(syscall.SIGTERM)
	p.Wait()
}

func nginxClient(t testing.TB, c call) outcome {
	port := peers.FreePort(t)
	crt, reuse := "", "off"
	if c.visits > 0 {
		reuse = "on"
	}
	if c.crt != "" {
		crt = fmt.Sprintf("proxy_ssl_certificate %s; proxy_ssl_certificate_key %s;", c.crt, c.key)
	}
	if c.auth != "" {
		crt += " proxy_ssl_conf_command SignatureAlgorithms " + map[string]string{"RSA": "RSA-PSS+SHA256", "ECDSA": "ECDSA+SHA256"}[c.auth] + ";"
	}
	p := startNginx(t, port, fmt.Sprintf(`listen 127.0.0.1:%s;
		location / {
			proxy_pass https://%s; proxy_ssl_name %s; proxy_ssl_server_name on; proxy_ssl_protocols %s; proxy_ssl_session_reuse %s;
			proxy_ssl_verify on; proxy_ssl_trusted_certificate %s; %s
		}`, port, c.addr, c.host(), c.version, reuse, c.ca, crt))
	client, done := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: peers.Patience}, true
	for range c.times() {
		resp, err := client.Post("http://127.0.0.1:"+port+"/", "text/plain", bytes.NewReader(c.send))
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.NoError(t, err)
		done = done && resp.StatusCode == http.StatusOK && bytes.Equal(got, c.want)
	}
	stop(p)
	return outcome{done: done, text: strings.TrimSpace(p.Output())}
}
