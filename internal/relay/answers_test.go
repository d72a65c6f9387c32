package relay

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/bounded"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// plainHTTP starts a relay without TLS for a backend.
func plainHTTP(t *testing.T, backend string, more ...string) *fixture {
	t.Helper()
	return start(t, append([]string{`mode = "http"`, `listen = ["plain:127.0.0.1:0"]`, fmt.Sprintf("backend = %q", backend)}, more...)...)
}

// addresses starts a backend that answers with the address of the connection.
func addresses(t *testing.T) (addr string, open *atomic.Int64) {
	open = new(atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, r.RemoteAddr)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), open
}

const getRoot = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestBackendConnectionsAreNotShared(t *testing.T) {
	addr, open := addresses(t)
	f := plainHTTP(t, addr)
	one, two := newLines(t, testkit.Dial(t, f.addr())), newLines(t, testkit.Dial(t, f.addr()))
	_, first := one.ask(getRoot)
	_, second := two.ask(getRoot)
	require.NotEqual(t, first, second)
	_, again := one.ask(getRoot)
	require.Equal(t, first, again, "the client's own connection is kept")
	one.Close()
	testkit.Eventually(t, func() bool { return open.Load() == 1 }, "the backend's connection outlives the client's")
	_, third := newLines(t, testkit.Dial(t, f.addr())).ask(getRoot)
	require.NotEqual(t, first, third)
}

func TestBackendConnectionEndsAfterABody(t *testing.T) {
	addr, _ := addresses(t)
	for _, reuse := range []bool{false, true} {
		f := plainHTTP(t, addr, fmt.Sprintf("reuse-after-body = %v", reuse))
		for _, method := range []string{"GET", "OPTIONS", "DELETE", "TRACE", "BREW", "post", "POST", "PUT", "PATCH"} {
			c := newLines(t, testkit.Dial(t, f.addr()))
			_, first := c.ask(method + " / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
			_, second := c.ask(getRoot)
			kept := reuse && (method == "POST" || method == "PUT" || method == "PATCH")
			require.Equal(t, kept, first == second, method)
			_, third := c.ask(method + " / HTTP/1.1\r\nHost: x\r\n\r\n")
			require.Equal(t, second, third, "%s without a body", method)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	f := plainHTTP(t, backend(t, func(conn net.Conn) { t.Error("the backend was reached") }))
	refused := []string{
		"CONNECT b:1 HTTP/1.1", "CONNECT / HTTP/1.1", "connect b:1 HTTP/1.1", "CONNECT b:1 HTTP/1.0", "CONNECT [::1]:1 HTTP/1.1",
		"GET x:@evil/ HTTP/1.1", "GET foo:bar HTTP/1.1", "GET mailto:a HTTP/1.1", "GET ftp://x/ HTTP/1.1", "GET http:/x HTTP/1.1",
		"GET http://user@x/ HTTP/1.1", "GET * HTTP/1.1", "PRI * HTTP/2.0", "PRI * HTTP/1.1", "PRI / HTTP/1.1",
	}
	for _, line := range refused {
		c := newLines(t, testkit.Dial(t, f.addr()))
		c.say(line + "\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + getRoot)
		r, err := http.ReadResponse(c.in, nil)
		require.NoError(t, err, line)
		want := http.StatusBadRequest
		if strings.EqualFold(line[:7], "CONNECT") {
			want = http.StatusMethodNotAllowed
			require.NotEmpty(t, r.Header["Allow"])
		}
		require.Equal(t, want, r.StatusCode, line)
		require.True(t, r.Close, line)
		_, err = io.ReadAll(r.Body)
		require.NoError(t, err)
		c.end()
	}
	require.EqualValues(t, len(refused), f.count(func(c *counters) value64 { return &c.httpRefused }))
	f.logs(`level=INFO msg="request refused"`)
	require.NotContains(t, f.log.String(), "level=WARN")
	for _, line := range []string{"x HTTP/1.1", "GET x HTTP/1.1"} { // net/http refuses them itself
		c := newLines(t, testkit.Dial(t, f.addr()))
		c.say(line + "\r\nHost: x\r\n\r\n")
		c.expect("400")
	}
}

// requestLines starts a backend that answers with the first line of the request.
func requestLines(t *testing.T) (addr string, requests *atomic.Int64) {
	requests = new(atomic.Int64)
	return backend(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			requests.Add(1)
			io.Copy(io.Discard, r.Body)
			text := fmt.Sprintf("%s %s", r.Method, r.RequestURI)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	}), requests
}

func TestOptionsOfTheServer(t *testing.T) {
	addr, _ := requestLines(t)
	c := newLines(t, testkit.Dial(t, plainHTTP(t, addr).addr()))
	_, body := c.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, "OPTIONS *", body)
	_, body = c.ask("GET http://x HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, "GET /", body)
}

func TestAmbiguousLengthEndsTheConnection(t *testing.T) {
	addr, requests := requestLines(t)
	f := plainHTTP(t, addr)
	for _, text := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: identity\r\n\r\n",
	} {
		before := requests.Load()
		c := newLines(t, testkit.Dial(t, f.addr()))
		c.say(text + getRoot)
		r, err := http.ReadResponse(c.in, nil)
		require.NoError(t, err, text)
		require.Equal(t, 200, r.StatusCode, text)
		io.Copy(io.Discard, r.Body)
		c.end()
		require.Equal(t, before+1, requests.Load(), text)
	}
}

// uploading returns a request that waits for status 100 before it sends its body.
func uploading(length int) string {
	return fmt.Sprintf("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", length)
}

// upload sends a request, and its body after status 100.
func upload(t *testing.T, f *fixture) {
	t.Helper()
	c := newLines(t, testkit.Dial(t, f.addr()))
	c.say(uploading(5))
	c.expect("HTTP/1.1 100 Continue")
	c.expect("\r\n")
	c.say("hello")
	c.expect("HTTP/1.1 200 OK")
}

func TestExpectWaitsForTheBackend(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		expectation := make(chan string, 1)
		f := plainHTTP(t, backend(t, func(conn net.Conn) {
			in := bufio.NewReader(conn)
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			expectation <- r.Header.Get("Expect")
			io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			if b, _ := in.ReadByte(); b != 0 {
				t.Error("a body that was refused was sent")
			}
		}))
		c := newLines(t, testkit.Dial(t, f.addr()))
		c.say(strings.Replace(uploading(5), "100-continue", "y 100-CONTINUE", 1))
		c.expect("HTTP/1.1 413 ")
		require.Equal(t, "100-continue", <-expectation)
	})
	t.Run("allowed", func(t *testing.T) {
		f := plainHTTP(t, backend(t, func(conn net.Conn) {
			speak(t, conn, "C: PUT / HTTP/1.1")
			io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			in := bufio.NewReader(conn)
			for line := ""; line != "\r\n"; {
				var err error
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			io.CopyN(io.Discard, in, 5)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}))
		upload(t, f)
	})
	t.Run("ignored", func(t *testing.T) {
		f := plainHTTP(t, backend(t, func(conn net.Conn) {
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}))
		upload(t, f)
	})
}

// The client gets complete interim responses of the backend and of the relay.
func TestInterimAnswersBesideABody(t *testing.T) {
	const size = 64 << 10
	f := plainHTTP(t, backend(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		var writing sync.Mutex
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			done := make(chan struct{})
			var wait sync.WaitGroup
			wait.Go(func() {
				writing.Lock()
				defer writing.Unlock()
				for range 20 {
					io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
				}
				<-done
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			})
			io.Copy(io.Discard, r.Body)
			close(done)
			wait.Wait()
			if r.Close {
				return
			}
		}
	}))
	body := strings.Repeat("x", size)
	for range 50 {
		c := newLines(t, testkit.Dial(t, f.addr()))
		c.say(uploading(size))
		continued := 0
		for {
			r, err := http.ReadResponse(c.in, nil)
			require.NoError(t, err)
			switch r.StatusCode {
			case 100:
				require.Empty(t, r.Header)
				if continued++; continued == 1 {
					go io.WriteString(c.Conn, body)
				}
				continue
			case 103:
				require.Equal(t, "</a>; rel=preload", r.Header.Get("Link"))
				continue
			}
			require.Equal(t, 200, r.StatusCode)
			text, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			require.Equal(t, "ok", string(text))
			break
		}
		require.Equal(t, 1, continued)
		c.Close()
	}
	c := newLines(t, testkit.Dial(t, f.addr())) // HTTP/1.0 knows no interim answers
	c.say("PUT / HTTP/1.0\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx")
	c.expect("200 OK")
}

// The client can read a response that is sent before the end of the request.
func TestEarlyAnswersAreDelivered(t *testing.T) {
	refuse := backend(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
		}
	})
	silent := backend(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	deaf := backend(t, func(conn net.Conn) { conn.SetReadDeadline(time.Time{}); <-t.Context().Done() })
	for name, c := range map[string]struct {
		backend string
		status  int
	}{"413": {refuse, 413}, "502": {testkit.ClosedPort(t), 502}, "504": {silent, 504}, "504, and nothing is read": {deaf, 504}} {
		t.Run(name, func(t *testing.T) {
			f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", c.backend),
				`response-timeout = "300ms"`, `idle-timeout = "20s"`)
			for range 2 {
				conn := dialTLS(t, f.addr())
				const size = 8 << 20
				fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
				for sent := 0; sent < size; { // a client that reads only afterwards
					n, err := conn.Write(make([]byte, 256<<10))
					if sent += n; err != nil {
						break
					}
				}
				r, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				require.Equal(t, c.status, r.StatusCode)
				_, err = io.ReadAll(r.Body)
				require.NoError(t, err)
				conn.Close()
			}
		})
	}
}

// A backend that is too slow causes status 504, and not an end by idle-timeout.
func TestSlowBackendsAre504(t *testing.T) {
	silent := backend(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	for name, limits := range map[string][]string{
		"response-timeout":     {`response-timeout = "100ms"`},
		"backend-timeout":      {`backend-timeout = "100ms"`},
		"idle-timeout":         {`idle-timeout = "100ms"`},
		"idle-timeout is less": {`idle-timeout = "100ms"`, `response-timeout = "1h"`},
	} {
		t.Run(name, func(t *testing.T) {
			f := plainHTTP(t, silent, limits...)
			for _, text := range []string{getRoot, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"} {
				c := newLines(t, testkit.Dial(t, f.addr()))
				status, _ := c.ask(text)
				require.Equal(t, http.StatusGatewayTimeout, status)
			}
			require.EqualValues(t, 2, f.count(func(c *counters) value64 { return &c.backendFailed }))
			f.logs("status=504")
		})
	}
}

// A response that the backend does not complete is not completed for the client.
func TestIncompleteResponseIsNotAnEnd(t *testing.T) {
	const head, part = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n", "the beginning"
	f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0", "plain:127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "%s%x\r\n%s\r\n", head, len(part), part)
		}
	})))
	for i, addr := range f.Addrs("r") {
		for _, version := range []string{"1.0", "1.1"} {
			conn := net.Conn(testkit.Dial(t, addr.String()))
			if i == 0 {
				tls := tls.Client(conn, clientConfig(t))
				require.NoError(t, tls.Handshake())
				conn = tls
			}
			fmt.Fprintf(conn, "GET / HTTP/%s\r\nHost: x\r\n\r\n", version)
			got, err := io.ReadAll(conn)
			require.Error(t, err, "HTTP/%s: %q", version, got)
			require.Contains(t, string(got), part)
		}
	}
}

func TestBackendIsInTheLog(t *testing.T) {
	addr := mirror(t)
	f := plainHTTP(t, addr)
	newLines(t, testkit.Dial(t, f.addr())).ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	f.logs("connection ended")
	require.Regexp(t, `msg="connection ended".*backend=\S*`+addr, f.log.String())
}

// hugeName returns a client certificate with a name of 45,000 control characters.
func hugeName(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).Lsh(big.NewInt(1), 150), Subject: pkix.Name{CommonName: strings.Repeat("\x01", 45000)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Texts from a client's certificate are shortened everywhere.
func TestNamesAreBounded(t *testing.T) {
	f := httpRelay(t)
	config := clientConfig(t)
	huge := hugeName(t)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &huge, nil } // crypto/tls would not choose it, because no CA that the relay names has issued it
	conn := tls.Client(testkit.Dial(t, f.addr()), config)
	require.NoError(t, conn.Handshake())
	c := newLines(t, conn)
	for range 3 {
		_, body := c.ask(getRoot)
		require.Equal(t, []string{"invalid"}, header(body, "X-Client-Verdict"))
		for _, name := range []string{"X-Client-Subject", "X-Client-Issuer"} {
			value := header(body, name)[0]
			require.Contains(t, value, "bytes cut]")
			require.Less(t, len(value), bounded.MaxText+64)
		}
		require.Less(t, len(body), 8<<10)
	}
	c.Close()
	f.logs("connection ended")
	for line := range strings.Lines(f.log.String()) {
		require.Less(t, len(line), 8<<10)
	}
}

// The texts of the verdict are reused, and a revocation has an effect nevertheless.
func TestRevocationIsSeenByTheNextRequest(t *testing.T) {
	file := copyPKI(t, "crl.pem")
	replace(t, file("crl.pem"), testkit.AbsPKI("crl-other.pem"))
	f := httpRelay(t)
	ctx, err := sslfilter.NewCtx(sslfilter.Options{ // the options of the relay, but the CRL file is read for each check
		Crt: testkit.AbsPKI("server.crt"), Key: testkit.AbsPKI("server.key"), CACrt: testkit.AbsPKI("root.crt"), ClientCert: true, CACRL: file("crl.pem")})
	require.NoError(t, err)
	old := f.relays[0].current.Load()
	st, err := newState(old.conf, f.Server.log, nil)
	require.NoError(t, err)
	st.server.Close()
	st.server = ctx
	f.adopt(old.relay, st)
	old.relay.current.Store(st)
	f.listeners[0].current.Store(&sections{all: []*state{st}})
	old.retire()
	c := newLines(t, dialTLS(t, f.addr(), "client-revoked"))
	_, body := c.ask(getRoot)
	require.Equal(t, []string{"valid"}, header(body, "X-Client-Verdict"))
	replace(t, file("crl.pem"), testkit.AbsPKI("crl-all.pem"))
	_, body = c.ask(getRoot)
	require.Equal(t, []string{"invalid"}, header(body, "X-Client-Verdict"))
}

// A small response and its header share a TLS record. The header is sent alone if the rest
// does not come within flushDelay, which happens on a busy machine.
func TestSmallAnswerIsOneRecord(t *testing.T) {
	text := strings.Repeat("x", 1024)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
	defer s.Close()
	f := start(t, `mode = "http"`, `listen = ["127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", s.Listener.Addr().String()))
	below := &recordCounter{Conn: testkit.Dial(t, f.addr())}
	conn := tls.Client(below, clientConfig(t))
	require.NoError(t, conn.Handshake())
	c := newLines(t, conn)
	c.ask(getRoot) // session tickets come with the first answer
	together := 0
	for range 20 {
		below.wire.Reset()
		_, body := c.ask(getRoot)
		require.Equal(t, text, body)
		if below.records(t) == 1 {
			together++
		}
	}
	require.GreaterOrEqual(t, together, 5, "of 20 responses")
}

// recordCounter keeps the bytes that were read.
type recordCounter struct {
	net.Conn
	wire bytes.Buffer
}

func (c *recordCounter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wire.Write(b[:n])
	return n, err
}

func (c *recordCounter) records(t *testing.T) (n int) {
	for wire := c.wire.Bytes(); len(wire) > 0; n++ {
		require.Greater(t, len(wire), 5)
		wire = wire[5+(int(wire[3])<<8|int(wire[4])):]
	}
	return n
}
