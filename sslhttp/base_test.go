package sslhttp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/websocket"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// goSite is a server of net/http over crypto/tls that speaks both protocols.
func goSite(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	cert := testkit.KeyPair(t, "server.crt", "server.key")
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// A WebSocket to a server that offers HTTP/2: as the first request, after a request
// over HTTP/2, and through a reverse proxy.
func TestWebSocket(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/echo", websocket.Handler(func(c *websocket.Conn) { io.Copy(c, c) }))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	back := goSite(t, mux)
	target, err := url.Parse(back)
	require.NoError(t, err)
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("known=%t", known), func(t *testing.T) {
			tr := transport(t, both...)
			if known {
				text, _ := get(t, tr, back)
				require.Equal(t, "HTTP/2.0", text)
			}
			front := serve(t, serverOptions(), &httputil.ReverseProxy{
				Transport: tr, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
			})
			below, err := sslnet.Dial("tcp", front.addr, testkit.Ctx(t, clientOptions("http/1.1")))
			require.NoError(t, err)
			defer below.Close()
			config, err := websocket.NewConfig("wss://"+front.addr+"/echo", "https://localhost")
			require.NoError(t, err)
			ws, err := websocket.NewClient(config, below)
			require.NoError(t, err)
			for _, text := range []string{"hello", strings.Repeat("long ", 10000)} {
				_, err = io.WriteString(ws, text)
				require.NoError(t, err)
				got := make([]byte, len(text))
				_, err = io.ReadFull(ws, got)
				require.NoError(t, err)
				require.Equal(t, text, string(got))
			}
			text, _ := get(t, tr, back)
			require.Equal(t, "HTTP/2.0", text, "other requests still share a connection of HTTP/2")
		})
	}
}

// Base or the Dialer makes the underlying connections, for http and https.
func TestDialFunctions(t *testing.T) {
	secure, plain := goSite(t, http.NotFoundHandler()), httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	var dialed atomic.Value
	count := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed.Store(addr)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	refuse := errors.New("the egress filter rejects it")
	for name, test := range map[string]struct {
		base   *http.Transport
		dialer *net.Dialer
		refuse bool
	}{
		"DialContext":       {base: &http.Transport{DialContext: count}},
		"Dial":              {base: &http.Transport{Dial: func(network, addr string) (net.Conn, error) { return count(context.Background(), network, addr) }}},
		"the egress filter": {base: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, refuse }}, refuse: true},
		"nothing":           {base: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, nil }}, refuse: true},
		"NetDialer":         {dialer: &net.Dialer{ControlContext: func(_ context.Context, _, addr string, _ syscall.RawConn) error { dialed.Store(addr); return nil }}},
		"and Base":          {base: new(http.Transport), dialer: &net.Dialer{ControlContext: func(_ context.Context, _, addr string, _ syscall.RawConn) error { dialed.Store(addr); return nil }}},
		"NetDialer no":      {dialer: &net.Dialer{ControlContext: func(context.Context, string, string, syscall.RawConn) error { return refuse }}, refuse: true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := transport(t, both...)
			tr.Base, tr.Dialer.NetDialer = test.base, test.dialer
			for _, site := range []string{secure, plain.URL} {
				dialed.Store("")
				_, _, err := tryGet(tr, site)
				if test.refuse {
					require.Error(t, err)
					if name != "nothing" {
						require.ErrorIs(t, err, refuse)
					}
					continue
				}
				require.NoError(t, err)
				require.Equal(t, site[strings.Index(site, "//")+2:], dialed.Load())
			}
		})
	}
}

// tunnels is an HTTP proxy that supports only CONNECT. It always connects to
// backend, and sends each request to asked.
type tunnels struct {
	backend string
	asked   chan *http.Request
	refuse  int
	extra   string
	dial    func(context.Context, string, string) (net.Conn, error) // default: that of a net.Dialer
}

func (p *tunnels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked <- r
	switch {
	case p.refuse != 0:
		http.Error(w, "no", p.refuse)
		return
	case r.Method != http.MethodConnect:
		w.Header().Set("X-Proxied", "yes")
		fmt.Fprint(w, r.URL)
		return
	}
	dial := p.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	back, err := dial(r.Context(), "tcp", p.backend)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	fmt.Fprint(client, "HTTP/1.1 200 Connection established\r\n\r\n"+p.extra)
	go func() {
		io.Copy(back, client)
		back.Close()
	}()
	io.Copy(client, back)
	client.Close()
}

func proxyURL(u string) func(*http.Request) (*url.URL, error) {
	return func(*http.Request) (*url.URL, error) { return url.Parse(u) }
}

// Through a proxy, the Dialer does TLS with the server from end to end: the server
// gets the client certificate, and the client verifies the server's name.
func TestProxies(t *testing.T) {
	s := serve(t, serverOptions(), http.HandlerFunc(whoami))
	_, port, err := net.SplitHostPort(s.addr)
	require.NoError(t, err)
	site := "https://server.test:" + port // only the proxy knows where that is
	p := &tunnels{backend: s.addr, asked: make(chan *http.Request, 10)}
	plain := httptest.NewServer(p)
	defer plain.Close()
	secure := httptest.NewUnstartedServer(p)
	cert := testkit.KeyPair(t, "server.crt", "server.key")
	secure.EnableHTTP2, secure.TLS = true, &tls.Config{Certificates: []tls.Certificate{cert}}
	secure.StartTLS()
	defer secure.Close()
	for scheme, at := range map[string]string{"http": plain.URL, "https": secure.URL} {
		for _, protocols := range [][]string{both, {"http/1.1"}, nil} {
			t.Run(fmt.Sprint(scheme, protocols), func(t *testing.T) {
				var told atomic.Int32
				tr := transport(t, protocols...)
				tr.Base = &http.Transport{
					Proxy:              proxyURL(strings.Replace(at, "//", "//joe:secret@", 1)),
					ProxyConnectHeader: http.Header{"X-Extra": {"one"}},
					OnProxyConnectResponse: func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
						told.Add(int32(resp.StatusCode))
						return nil
					},
				}
				for range 2 { // both requests use one connection
					text, resp := get(t, tr, site)
					require.Contains(t, text, "tls=true cert=true")
					require.Contains(t, text, "valid=true")
					if len(protocols) == 2 {
						require.Contains(t, text, "HTTP/2.0")
					}
					require.Equal(t, "server.test:"+port, resp.Request.URL.Host)
					require.Len(t, resp.TLS.VerifiedChains, 1)
				}
				asked := <-p.asked
				require.Equal(t, "CONNECT server.test:"+port, asked.Method+" "+asked.RequestURI)
				require.Equal(t, "one", asked.Header.Get("X-Extra"))
				require.Equal(t, "Basic am9lOnNlY3JldA==", asked.Header.Get("Proxy-Authorization"))
				require.Empty(t, p.asked)
				require.EqualValues(t, 200, told.Load())
				text, resp := get(t, tr, "http://server.test/path")
				require.Equal(t, "http://server.test/path", text)
				require.Equal(t, "yes", resp.Header.Get("X-Proxied"))
				<-p.asked
			})
		}
	}
	fails := func(name string, base *http.Transport, text string) {
		t.Run(name, func(t *testing.T) {
			tr := transport(t, both...)
			tr.Base = base
			_, _, err := tryGet(tr, site)
			require.ErrorContains(t, err, text)
			require.NotContains(t, err.Error(), "secret")
		})
	}
	hook := errors.New("of the hook")
	fails("GetProxyConnectHeader", &http.Transport{Proxy: proxyURL(plain.URL), GetProxyConnectHeader: func(context.Context, *url.URL, string) (http.Header, error) {
		return nil, hook
	}}, hook.Error())
	fails("OnProxyConnectResponse", &http.Transport{Proxy: proxyURL(plain.URL), OnProxyConnectResponse: func(context.Context, *url.URL, *http.Request, *http.Response) error {
		return hook
	}}, hook.Error())
	fails("Proxy", &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, hook }}, hook.Error())
	fails("a scheme", &http.Transport{Proxy: proxyURL("ftp://joe:secret@localhost")}, `got "ftp"`)
	p.extra = "HTTP/1.1 200 OK\r\n\r\n"
	fails("bytes after the answer", &http.Transport{Proxy: proxyURL(plain.URL)}, "19 bytes follow")
	p.refuse = http.StatusForbidden
	fails("refused", &http.Transport{Proxy: proxyURL(strings.Replace(plain.URL, "//", "//joe:secret@", 1))}, "with 403 Forbidden")
}

// The Transport waits for a proxy that sends nothing as long as the context of the
// request allows.
func TestSilentProxy(t *testing.T) {
	l := testkit.Listen(t)
	for _, scheme := range []string{"http", "https", "socks5"} {
		tr := transport(t, both...)
		tr.Base = &http.Transport{Proxy: proxyURL(scheme + "://" + l.Addr().String())}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, "GET", "https://server.test", nil)
		require.NoError(t, err)
		_, err = tr.RoundTrip(req)
		require.ErrorIs(t, err, context.DeadlineExceeded, scheme)
		cancel()
	}
}

// Requests to one server through different proxies do not share connections.
func TestProxiesShareNothing(t *testing.T) {
	s := serve(t, serverOptions(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) }))
	asked := make(chan *http.Request, 10)
	var proxies []*httptest.Server
	for range 2 {
		p := httptest.NewServer(&tunnels{backend: s.addr, asked: asked})
		defer p.Close()
		proxies = append(proxies, p)
	}
	for _, protocols := range [][]string{both, {"http/1.1"}} {
		tr := transport(t, protocols...)
		tr.Base = &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
			switch r.URL.Path {
			case "/0":
				return url.Parse(proxies[0].URL)
			case "/1":
				return url.Parse(proxies[1].URL)
			}
			return nil, nil
		}}
		from := map[string]string{}
		for range 2 {
			for _, path := range []string{"/0", "/1", "/direct"} {
				text, _ := get(t, tr, s.url+path)
				if from[path] != "" {
					require.Equal(t, from[path], text, "it is kept")
				}
				from[path] = text
			}
		}
		require.NotEqual(t, from["/0"], from["/1"])
		require.NotEqual(t, from["/0"], from["/direct"])
		require.NotEqual(t, from["/1"], from["/direct"])
	}
}

// socksServer is a SOCKS 5 proxy that always connects to backend, and sends the
// address of each request to asked.
func socksServer(t *testing.T, backend, user, password string, code byte) (addr string, asked chan string) {
	l := testkit.Listen(t)
	asked = make(chan string, 10)
	serveOne := func(c net.Conn) error {
		r := bufio.NewReader(c)
		field := func() string {
			n, _ := r.ReadByte()
			b := make([]byte, n)
			io.ReadFull(r, b)
			return string(b)
		}
		r.ReadByte()
		method := byte(0)
		if user != "" {
			method = 2
		}
		if !strings.Contains(field(), string(method)) {
			method = 0xff
		}
		c.Write([]byte{5, method})
		if method == 2 {
			r.ReadByte()
			bad := byte(1)
			if field() == user && field() == password {
				bad = 0
			}
			c.Write([]byte{1, bad})
		}
		head := make([]byte, 4)
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		host := ""
		switch head[3] {
		case 1, 4:
			ip := make(net.IP, map[byte]int{1: 4, 4: 16}[head[3]])
			io.ReadFull(r, ip)
			host = ip.String()
		case 3:
			host = field()
		}
		port := make([]byte, 2)
		io.ReadFull(r, port)
		asked <- net.JoinHostPort(host, fmt.Sprint(int(port[0])<<8+int(port[1])))
		c.Write([]byte{5, code, 0, 3, 4, 'n', 'a', 'm', 'e', 0, 1})
		if code != 0 {
			return nil
		}
		back, err := net.Dial("tcp", backend)
		if err != nil {
			return err
		}
		go func() {
			io.Copy(back, r)
			back.Close()
		}()
		_, err = io.Copy(c, back)
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serveOne(c)
			}()
		}
	}()
	return l.Addr().String(), asked
}

func TestSOCKS(t *testing.T) {
	s := serve(t, serverOptions(), http.HandlerFunc(whoami))
	_, port, err := net.SplitHostPort(s.addr)
	require.NoError(t, err)
	for _, scheme := range []string{"socks5", "socks5h"} {
		for _, user := range []string{"", "joe"} {
			at, asked := socksServer(t, s.addr, user, "secret", 0)
			if user != "" {
				at = "joe:secret@" + at
			}
			for _, host := range []string{"server.test", "127.0.0.1"} {
				tr := transport(t, both...)
				tr.Base = &http.Transport{Proxy: proxyURL(scheme + "://" + at)}
				text, _ := get(t, tr, "https://"+host+":"+port)
				require.Contains(t, text, "HTTP/2.0 tls=true cert=true")
				require.Equal(t, host+":"+port, <-asked)
			}
		}
	}
	for name, test := range map[string]struct {
		user, password string
		code           byte
		url            string
		want           string
	}{
		"refused":         {code: 2, want: "ruleset"},
		"an unknown code": {code: 77, want: "unknown reply 77"},
		"wrong password":  {user: "joe", password: "other", url: "joe:secret@", want: "rejected the user name"},
		"no password":     {user: "joe", password: "other", want: "none of the offered authentication methods"},
		"a name too long": {user: "joe", url: strings.Repeat("x", 256) + ":secret@", want: "1 to 255 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			at, _ := socksServer(t, s.addr, test.user, test.password, test.code)
			tr := transport(t, both...)
			tr.Base = &http.Transport{Proxy: proxyURL("socks5://" + test.url + at)}
			_, _, err := tryGet(tr, "https://server.test:"+port)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
}

// fieldsOfBase says what handles each field of http.Transport. If a new version of
// Go adds a field, decide how to handle it before you add a line here.
var fieldsOfBase = map[string]string{
	"Proxy":                  "routeOf, through; net/http for http URLs",
	"OnProxyConnectResponse": "askHTTP; net/http for http URLs",
	"DialContext":            "setDial",
	"Dial":                   "setDial",
	"DialTLSContext":         "refused",
	"DialTLS":                "refused",
	"TLSClientConfig":        "refused, but for what net/http itself sets",
	"TLSHandshakeTimeout":    "secure",
	"DisableKeepAlives":      "net/http",
	"DisableCompression":     "net/http",
	"MaxIdleConns":           "net/http, for each protocol",
	"MaxIdleConnsPerHost":    "net/http",
	"MaxConnsPerHost":        "net/http",
	"IdleConnTimeout":        "net/http",
	"ResponseHeaderTimeout":  "net/http",
	"ExpectContinueTimeout":  "net/http",
	"TLSNextProto":           "an empty one in setProtocols; refused otherwise",
	"ProxyConnectHeader":     "askHTTP; net/http for http URLs",
	"GetProxyConnectHeader":  "askHTTP; net/http for http URLs",
	"MaxResponseHeaderBytes": "net/http, askHTTP",
	"WriteBufferSize":        "net/http",
	"ReadBufferSize":         "net/http",
	"ForceAttemptHTTP2":      "HTTP/2 is always tried if ALPN offers it",
	"HTTP2":                  "net/http",
	"Protocols":              "setProtocols; net/http for http URLs",
}

func TestEveryFieldOfBaseIsLookedAt(t *testing.T) {
	fields := reflect.TypeFor[http.Transport]()
	for i := range fields.NumField() {
		if field := fields.Field(i); field.IsExported() {
			require.Contains(t, fieldsOfBase, field.Name, "http.Transport has a new field: make sslhttp.Transport handle or reject it")
		}
	}
}

// The error for a field that cannot take effect names the field. Fields that
// net/http itself sets in a Transport are not errors.
func TestRefusedFields(t *testing.T) {
	site := goSite(t, http.NotFoundHandler())
	dial := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("not called") }
	for want, base := range map[string]*http.Transport{
		"Base.DialTLSContext":                     {DialTLSContext: dial},
		"Base.DialTLS ":                           {DialTLS: func(string, string) (net.Conn, error) { return nil, nil }},
		"Base.TLSNextProto":                       {TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{"h2": nil}},
		"Base.TLSClientConfig.RootCAs":            {TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}},
		"Base.TLSClientConfig.MinVersion":         {TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}},
		"Base.TLSClientConfig.NextProtos":         {TLSClientConfig: &tls.Config{NextProtos: []string{"http/1.1"}}},
		"Base.TLSClientConfig.InsecureSkipVerify": {TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		"Base.DialContext are both":               {DialContext: dial},
		"Base.Protocols has neither":              {Protocols: new(http.Protocols)},
	} {
		tr := transport(t, both...)
		tr.Base = base
		if strings.Contains(want, "both") {
			tr.Dialer.NetDialer = new(net.Dialer)
		}
		_, _, err := tryGet(tr, site)
		require.ErrorContains(t, err, want)
	}
	used := http.DefaultTransport.(*http.Transport).Clone()
	used.Proxy = nil
	_, _, err := tryGet(used, site)
	require.Error(t, err) // the certificate, by now with what net/http sets
	for name, base := range map[string]*http.Transport{"used": used, "a clone": used.Clone()} {
		tr := transport(t, both...)
		tr.Base = base
		_, resp := get(t, tr, site)
		require.Equal(t, 2, resp.ProtoMajor, name)
	}
}

// Protocols of Base restrict the protocols of https, within Options.ALPN.
func TestProtocolsOfBase(t *testing.T) {
	site := goSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	only := func(set ...func(*http.Protocols, bool)) *http.Transport {
		p := new(http.Protocols)
		for _, set := range set {
			set(p, true)
		}
		return &http.Transport{Protocols: p}
	}
	h1, h2 := (*http.Protocols).SetHTTP1, (*http.Protocols).SetHTTP2
	for name, test := range map[string]struct {
		base *http.Transport
		alpn []string
		want string // empty if an error is wanted
	}{
		"both":                  {only(h1, h2), both, "HTTP/2.0"},
		"HTTP1":                 {only(h1), both, "HTTP/1.1"},
		"HTTP1, ALPN h2":        {only(h1), []string{"h2"}, "HTTP/1.1"},
		"HTTP2":                 {only(h2), both, "HTTP/2.0"},
		"HTTP2 without ALPN":    {only(h2), nil, ""},
		"an empty TLSNextProto": {&http.Transport{TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}, both, "HTTP/1.1"},
	} {
		tr := transport(t, test.alpn...)
		tr.Base = test.base
		text, _, err := tryGet(tr, site)
		if test.want == "" {
			require.Error(t, err, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, test.want, text, name)
	}
	tr := transport(t, both...)
	tr.Base = only(h2)
	req, err := http.NewRequest("GET", site, nil)
	require.NoError(t, err)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	_, err = tr.RoundTrip(req)
	require.ErrorContains(t, err, "HTTP1")
}

// TLSHandshakeTimeout of Base ends a handshake even if the Dialer's timeout is
// longer.
func TestTLSHandshakeTimeoutOfBase(t *testing.T) {
	l := testkit.Listen(t)
	tr := transport(t, both...)
	tr.Base, tr.Dialer.HandshakeTimeout = &http.Transport{TLSHandshakeTimeout: 20 * time.Millisecond}, time.Hour
	_, _, err := tryGet(tr, "https://"+l.Addr().String())
	require.ErrorIs(t, err, sslnet.ErrHandshakeTimeout)
}

// A request with a scheme that is registered in Base goes to Base.
func TestRegisteredSchemes(t *testing.T) {
	base := new(http.Transport)
	base.RegisterProtocol("file", http.NewFileTransport(http.Dir(testkit.PKI("."))))
	tr := transport(t, both...)
	tr.Base = base
	text, _ := get(t, tr, "file:///root.crt")
	require.Contains(t, text, "BEGIN CERTIFICATE")
}
