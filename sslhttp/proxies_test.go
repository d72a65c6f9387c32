package sslhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http/httpproxy"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// protoSite is a server of net/http over crypto/tls at a loopback address. Its
// certificate has that address.
func protoSite(t *testing.T, version uint16, addr string) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Skipf("%s is not an address of this machine: %v", addr, err)
	}
	key := testkit.Key(t, "client.key")
	der := testkit.DER(t, testkit.Mint(t, x509.Certificate{IPAddresses: []net.IP{net.ParseIP(addr)}, DNSNames: []string{"localhost"}}))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	s.Listener.Close()
	s.Listener, s.EnableHTTP2 = l, true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: version, MaxVersion: version}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// throughPeer makes requests through a real proxy: to servers at an IPv4 and an IPv6
// address and by a name, with both protocols and with TLS 1.2 and 1.3.
func throughPeer(t *testing.T, proxy string) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, addr := range []string{"127.0.0.1", "::1"} {
			for _, protocols := range [][]string{both, {"http/1.1"}} {
				t.Run(fmt.Sprint(tls.VersionName(version), " ", addr, protocols), func(t *testing.T) {
					site := protoSite(t, version, addr)
					tr := transport(t, protocols...)
					tr.Base = &http.Transport{Proxy: proxyURL(proxy)}
					sites := []string{site}
					if addr != "::1" {
						sites = append(sites, strings.Replace(site, addr, "localhost", 1))
					}
					for _, site := range sites {
						for range 2 {
							text, resp := get(t, tr, site)
							require.Equal(t, map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[len(protocols) == 2], text)
							require.EqualValues(t, version, resp.TLS.Version)
							require.Len(t, resp.TLS.VerifiedChains, 1)
						}
					}
				})
			}
		}
	}
}

// refusedBy makes a request through proxy, which must fail with text and without the
// password.
func refusedBy(t *testing.T, proxy, site, text string) {
	t.Helper()
	tr := transport(t, both...)
	tr.Base = &http.Transport{Proxy: proxyURL(proxy)}
	_, _, err := tryGet(tr, site)
	require.ErrorContains(t, err, text)
	require.ErrorContains(t, err, "proxyconnect tcp: "+proxy[:strings.Index(proxy, "//")])
	require.NotContains(t, err.Error(), "secret")
}

func TestTinyproxy(t *testing.T) {
	path := peers.Find(t, "tinyproxy", "tinyproxy")
	port := peers.FreePort(t)
	config := filepath.Join(t.TempDir(), "tinyproxy.conf")
	require.NoError(t, os.WriteFile(config, []byte("Port "+port+"\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nBasicAuth joe secret\n"), 0o600))
	peers.Start(t, path, "-d", "-c", config).AwaitPort(port)
	throughPeer(t, "http://joe:secret@127.0.0.1:"+port)
	site := protoSite(t, tls.VersionTLS13, "127.0.0.1")
	refusedBy(t, "http://127.0.0.1:"+port, site, "with 40") // 401 or 407, by the version of tinyproxy
	refusedBy(t, "http://joe:secret2@127.0.0.1:"+port, site, "with 40")
	refusedBy(t, "http://joe:secret@127.0.0.1:"+port, "https://"+testkit.ClosedPort(t), "with 500")
	t.Run("over TLS", func(t *testing.T) { // the proxy has another CA than the server
		crt := testkit.SelfSigned(t, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true})
		server := &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{testkit.DER(t, crt)}, PrivateKey: testkit.Key(t, "client.key")}},
			ClientAuth:   tls.RequestClientCert, NextProtos: []string{"http/1.1"},
		}
		shown := make(chan int, 100)
		front := testkit.Serve(t, testkit.Listen(t), func(below net.Conn) {
			c := tls.Server(below, server)
			if c.Handshake() != nil {
				return
			}
			shown <- len(c.ConnectionState().PeerCertificates)
			back := testkit.Dial(t, "127.0.0.1:"+port)
			go io.Copy(back, c)
			io.Copy(c, back)
		})
		for _, protocols := range [][]string{both, nil} {
			tr := transport(t, protocols...)
			tr.Base = &http.Transport{Proxy: proxyURL("https://joe:secret@" + front)}
			_, _, err := tryGet(tr, site)
			require.ErrorContains(t, err, "certificate verify failed")
			tr = transport(t, protocols...)
			tr.Base = &http.Transport{Proxy: proxyURL("https://joe:secret@" + front)}
			tr.ProxyDialer = &sslnet.Dialer{Ctx: testkit.Ctx(t, sslfilter.Options{Client: true, CACrtMem: [][]byte{crt}, ALPN: both})}
			text, _ := get(t, tr, site)
			require.Equal(t, map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"}[protocols != nil], text)
			require.Zero(t, <-shown, "the proxy does not get the client certificate")
			tr = transport(t, protocols...)
			tr.ProxyDialer = &sslnet.Dialer{Ctx: tr.Dialer.Ctx, NetDialer: new(net.Dialer)}
			_, _, err = tryGet(tr, site)
			require.ErrorContains(t, err, "ProxyDialer.NetDialer")
		}
	})
}

func TestMicrosocks(t *testing.T) {
	path := peers.Find(t, "microsocks", "microsocks")
	for _, user := range []string{"", "joe:secret@"} {
		t.Run("user "+user, func(t *testing.T) {
			port := peers.FreePort(t)
			args := []string{"-i", "127.0.0.1", "-p", port}
			if user != "" {
				args = append(args, "-u", "joe", "-P", "secret")
			}
			peers.Start(t, path, args...).AwaitPort(port)
			throughPeer(t, "socks5://"+user+"127.0.0.1:"+port)
			refusedBy(t, "socks5h://"+user+"127.0.0.1:"+port, "https://"+testkit.ClosedPort(t), "connection refused")
			if user != "" {
				site := protoSite(t, tls.VersionTLS13, "127.0.0.1")
				refusedBy(t, "socks5://joe:secret2@127.0.0.1:"+port, site, "rejected the user name and password")
				refusedBy(t, "socks5://127.0.0.1:"+port, site, "none of the offered authentication methods")
			}
		})
	}
}

// Without Base, the proxies of the environment are used, as with net/http. net/http
// reads the environment once, so that a process of its own is needed.
func TestProxyFromEnvironment(t *testing.T) {
	if os.Getenv("SSLHTTP_CHILD") == "" {
		child := exec.Command(os.Args[0], "-test.run=^TestProxyFromEnvironment$")
		for _, v := range os.Environ() {
			if !strings.Contains(strings.ToLower(v), "_proxy=") {
				child.Env = append(child.Env, v)
			}
		}
		child.Env = append(child.Env, "SSLHTTP_CHILD=1", "NO_PROXY=.direct.test")
		out, err := child.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return
	}
	s := serve(t, serverOptions(), http.HandlerFunc(whoami))
	p := &tunnels{backend: s.addr, asked: make(chan *http.Request, 10)}
	proxy := httptest.NewServer(p)
	defer proxy.Close()
	os.Setenv("HTTPS_PROXY", proxy.URL)
	tr := transport(t, both...)
	text, _ := get(t, tr, "https://server.test")
	require.Contains(t, text, "HTTP/2.0 tls=true cert=true")
	require.Equal(t, "server.test:443", (<-p.asked).RequestURI)
	_, _, err := tryGet(tr, "https://a.direct.test")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "proxyconnect")
	tr = transport(t, both...)
	tr.Base = new(http.Transport) // has no Proxy
	_, _, err = tryGet(tr, "https://server.test")
	require.Error(t, err)
	require.Empty(t, p.asked)
}

// badProxies are proxies that do not do what they should, by what they do on each
// connection after they have read the request, and the text of the error.
var badProxies = map[string]struct {
	answer string // then the proxy waits for the end
	cut    bool   // then the proxy closes the connection
	want   string
}{
	"closes":                   {"", true, "unexpected EOF"},
	"closes in the answer":     {"HTTP/1.1 200 OK\r\nX-Y: z\r\n", true, "unexpected EOF"},
	"closes after the answer":  {"HTTP/1.1 200 OK\r\n\r\n", true, "EOF"},
	"junk":                     {"\x16\x03\x01 junk\r\n\r\n", false, "malformed HTTP"},
	"much junk":                {strings.Repeat("junk", 1<<20) + "\r\n\r\n", false, "bytes cut]"},
	"junk in the tunnel":       {"HTTP/1.1 200 OK\r\n\r\n", false, ""}, // more follows later
	"bytes in the answer":      {"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03", false, "3 bytes follow"},
	"a body":                   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, "2 bytes follow"},
	"407":                      {"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno", false, "with 407 Proxy Authentication Required"},
	"502":                      {"HTTP/1.0 502 Bad Gateway\r\n\r\n", true, "with 502 Bad Gateway"},
	"redirect":                 {"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.test\r\n\r\n", false, "with 302"},
	"101":                      {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", false, "with 101"},
	"only interim answers":     {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10), false, "interim responses"},
	"silence":                  {"", false, "deadline exceeded"},
	"control characters":       {"HTTP/1.1 403 \x1b]0;evil\x07\r\n\r\n", false, `with 403 \x1b]0;evil\a`},
	"control characters first": {"HTTQ \x1b[31m\r\n\r\n", false, `malformed HTTP`},
	"silence in the answer":    {"HTTP/1.1 200 OK\r\nX-", false, "deadline exceeded"},
	"silence in the tunnel":    {"HTTP/1.1 200 OK\r\n\r\n", false, "deadline exceeded"},
}

// A bad proxy causes an error that says why. The connection to it is closed.
func TestBadProxies(t *testing.T) {
	for name, test := range badProxies {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			addr := testkit.Serve(t, testkit.Listen(t), func(c net.Conn) {
				br := bufio.NewReader(c)
				req, err := http.ReadRequest(br)
				if err != nil {
					ended <- err
					return
				}
				io.WriteString(c, test.answer)
				if test.cut {
					c.(*net.TCPConn).CloseWrite()
				}
				if name == "junk in the tunnel" {
					io.CopyN(io.Discard, br, 1) // the ClientHello
					io.WriteString(c, strings.Repeat("junk", 100))
				}
				_, err = io.Copy(io.Discard, br)
				if err == nil && req.Method != http.MethodConnect {
					err = errors.New(req.Method)
				}
				ended <- err
			})
			tr := transport(t, both...)
			tr.Base = &http.Transport{Proxy: proxyURL("http://joe:secret@" + addr)}
			patience := testkit.Patience
			if strings.HasPrefix(name, "silence") {
				patience = 100 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", "https://server.test", nil)
			require.NoError(t, err)
			_, err = tr.RoundTrip(req)
			require.ErrorContains(t, err, test.want)
			require.Less(t, len(err.Error()), 2000)
			require.NotContains(t, err.Error(), "secret")
			require.NotContains(t, err.Error(), "\x1b")
			if err := <-ended; err != nil && !strings.Contains(err.Error(), "reset") {
				require.NoError(t, err)
			}
		})
	}
}

// The error of a malformed proxy URL has no part of its password, wherever the parser
// has put it.
func TestProxyErrorsHaveNoPassword(t *testing.T) {
	for _, setting := range []string{"http://joe:secret@[::1", "http://joe:x/secret@127.0.0.1:1", "http://joe:x#secret@127.0.0.1:1", "http://joe:secret@127.0.0.1:1"} {
		config := httpproxy.Config{HTTPSProxy: setting}
		tr := transport(t, both...)
		tr.Base = &http.Transport{
			Proxy:       func(req *http.Request) (*url.URL, error) { return config.ProxyFunc()(req.URL) },
			DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") },
		}
		req, err := http.NewRequest("GET", "https://server.test", nil)
		require.NoError(t, err)
		_, err = tr.RoundTrip(req)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret", setting)
	}
}

// A host name that would change the request to the proxy is refused.
func TestProxyHostNames(t *testing.T) {
	tr := transport(t, both...)
	tr.Base = &http.Transport{Proxy: proxyURL("http://127.0.0.1:1")}
	for _, host := range []string{"a b:443", "a\tb:443", "a\r\nX: y:443", "a\x7fb"} {
		_, err := tr.RoundTrip(&http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: host}, Header: http.Header{}})
		require.ErrorContains(t, err, "space or a control character", host)
	}
}

// Any answer of the 2xx class opens the tunnel, even after interim answers.
func TestProxySuccess(t *testing.T) {
	s := serve(t, serverOptions(), http.HandlerFunc(whoami))
	for _, answer := range []string{
		"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 \r\n\r\n",
	} {
		addr := testkit.Serve(t, testkit.Listen(t), func(c net.Conn) {
			br := bufio.NewReader(c)
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			back := testkit.Dial(t, s.addr)
			io.WriteString(c, answer)
			go io.Copy(back, br)
			io.Copy(c, back)
		})
		tr := transport(t, both...)
		tr.Base = &http.Transport{Proxy: proxyURL("http://" + addr)}
		text, _ := get(t, tr, "https://server.test")
		require.Contains(t, text, "HTTP/2.0 tls=true", answer)
		tr.CloseIdleConnections()
	}
}

// scripted is a connection whose peer sends fixed bytes and then ends.
type scripted struct {
	net.Conn
	r io.Reader
}

func (s *scripted) Read(b []byte) (int, error)  { return s.r.Read(b) }
func (s *scripted) Write(b []byte) (int, error) { return len(b), nil }

// FuzzProxy lets a proxy answer with any bytes: the request fails with an error of
// bounded length that has no password, or the TLS handshake fails after it.
func FuzzProxy(f *testing.F) {
	for _, test := range badProxies {
		if len(test.answer) < 1000 {
			f.Add([]byte(test.answer), false)
		}
	}
	f.Add([]byte{5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80}, true)
	f.Add([]byte{5, 2, 1, 0, 5, 0, 0, 3, 4, 'n', 'a', 'm', 'e', 0, 80}, true)
	f.Add([]byte{5, 0, 5, 5, 0, 4}, true)
	ctx := testkit.Ctx(f, clientOptions(both...))
	f.Fuzz(func(t *testing.T, answer []byte, socks bool) {
		proxy := "http://joe:secret@proxy.test"
		if socks {
			proxy = "socks5://joe:secret@proxy.test"
		}
		tr := &sslhttp.Transport{
			Dialer: &sslnet.Dialer{Ctx: ctx},
			Base: &http.Transport{Proxy: proxyURL(proxy), DialContext: func(context.Context, string, string) (net.Conn, error) {
				a, _ := net.Pipe()
				return &scripted{a, bytes.NewReader(answer)}, nil
			}},
		}
		_, _, err := tryGet(tr, "https://server.test")
		require.Error(t, err)
		require.Less(t, len(err.Error()), 5000)
		if !bytes.Contains(answer, []byte("secret")) {
			require.NotContains(t, err.Error(), "secret")
		}
	})
}
