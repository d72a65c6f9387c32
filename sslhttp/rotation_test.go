package sslhttp_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// renewed returns a client's Ctx whose certificate has this serial number.
func renewed(t testing.TB, serial int64, protocols ...string) *sslfilter.Ctx {
	t.Helper()
	o := clientOptions(protocols...)
	o.Crt, o.CrtMem = "", testkit.Mint(t, x509.Certificate{
		SerialNumber: big.NewInt(serial), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return testkit.Ctx(t, o)
}

// recorder is a server of net/http over crypto/tls that requires client certificates
// and answers with the serial number of each. It knows the connections that are open,
// from the handshake on: the client may keep one that has not served a request.
type recorder struct {
	*httptest.Server
	release chan struct{}   // closed by the test: requests for /slow get their second half
	ended   <-chan struct{} // the test has ended

	mu   sync.Mutex
	open map[string]int64 // serial number by the client's address
}

func newRecorder(t testing.TB, version uint16) *recorder {
	r := &recorder{release: make(chan struct{}), ended: t.Context().Done(), open: make(map[string]int64)}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.EnableHTTP2 = true
	r.TLS = testkit.GoServer(t, func(c *tls.Config) {
		c.ClientAuth, c.MinVersion, c.MaxVersion = tls.RequireAndVerifyClientCert, version, version
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			own := r.TLS.Clone()
			own.VerifyConnection = func(s tls.ConnectionState) error {
				r.opened(hello.Conn, s)
				return nil
			}
			return own, nil
		}
	})
	r.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.open, c.RemoteAddr().String())
		}
	}
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *recorder) opened(c net.Conn, s tls.ConnectionState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c.RemoteAddr().String()] = s.PeerCertificates[0].SerialNumber.Int64()
}

func (r *recorder) serve(w http.ResponseWriter, req *http.Request) {
	serial := req.TLS.PeerCertificates[0].SerialNumber.Int64()
	io.Copy(io.Discard, req.Body)
	fmt.Fprintln(w, serial)
	if req.URL.Path == "/slow" {
		http.NewResponseController(w).Flush()
		select {
		case <-r.release:
		case <-r.ended:
		}
		fmt.Fprintln(w, serial)
	}
}

// serials returns the serial numbers of the open connections.
func (r *recorder) serials() map[int64]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	set := make(map[int64]bool)
	for _, serial := range r.open {
		set[serial] = true
	}
	return set
}

// eachRotation runs f for HTTP/1.1 and HTTP/2 with TLS 1.2 and 1.3.
func eachRotation(t *testing.T, f func(t *testing.T, version uint16, protocols []string)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, protocols := range [][]string{both, {"http/1.1"}} {
			t.Run(fmt.Sprint(tls.VersionName(version), protocols), func(t *testing.T) {
				f(t, version, protocols)
			})
		}
	}
}

// Under load, no request fails while the client certificate is replaced and the old
// Ctx is closed at once. Each request that begins after SetCtx has returned is made
// with the new certificate, and the old connections are closed.
func TestRotationUnderLoad(t *testing.T) {
	eachRotation(t, func(t *testing.T, version uint16, protocols []string) {
		r := newRecorder(t, version)
		d := &sslnet.Dialer{Ctx: renewed(t, 1, protocols...)}
		tr := &sslhttp.Transport{Dialer: d}
		defer tr.CloseIdleConnections()
		const workers, last = 8, 8
		var mu sync.Mutex
		current := int64(1)
		errs := make(chan error, workers)
		seen := make(chan struct{})
		for range workers {
			go func() {
				for {
					mu.Lock()
					oldest := current
					mu.Unlock()
					err := post(tr, r.URL, oldest)
					if err != nil || oldest == last {
						errs <- err
						return
					}
					select {
					case seen <- struct{}{}:
					default:
					}
				}
			}()
		}
		for serial := int64(2); serial <= last; serial++ {
			for range 2 * workers {
				select {
				case <-seen:
				case err := <-errs:
					require.NoError(t, err)
				}
			}
			old := d.CurrentCtx()
			d.SetCtx(renewed(t, serial, protocols...))
			old.Close()
			mu.Lock()
			current = serial
			mu.Unlock()
		}
		for range workers {
			require.NoError(t, <-errs)
		}
		testkit.Eventually(t, func() bool { return len(r.serials()) == 1 }, "connections with old certificates are open: %v", r.serials())
		require.True(t, r.serials()[last])
	})
}

// post sends a body that cannot be sent twice. The certificate must not be older than
// oldest.
func post(tr http.RoundTripper, url string, oldest int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", url, io.NopCloser(strings.NewReader("body")))
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var serial int64
	if _, err := fmt.Fscanln(resp.Body, &serial); err != nil {
		return err
	}
	if serial < oldest {
		return fmt.Errorf("a request was made with the certificate %d after SetCtx had returned with %d", serial, oldest)
	}
	return nil
}

// A response that is in progress at the time of SetCtx is completed. Its connection is
// closed afterwards, however the response ends, and takes no other request.
func TestRotationDuringAResponse(t *testing.T) {
	eachRotation(t, func(t *testing.T, version uint16, protocols []string) {
		for name, end := range map[string]func(*recorder, *http.Response, context.CancelFunc) error{
			"read": func(r *recorder, resp *http.Response, _ context.CancelFunc) error {
				close(r.release)
				text, err := io.ReadAll(resp.Body)
				if err == nil && string(text) != "1\n" {
					err = fmt.Errorf("read %q", text)
				}
				resp.Body.Close()
				return err
			},
			"not read": func(_ *recorder, resp *http.Response, _ context.CancelFunc) error {
				return resp.Body.Close()
			},
			"canceled": func(_ *recorder, resp *http.Response, cancel context.CancelFunc) error {
				cancel()
				resp.Body.Close()
				return nil
			},
		} {
			r := newRecorder(t, version)
			d := &sslnet.Dialer{Ctx: renewed(t, 1, protocols...)}
			tr := &sslhttp.Transport{Dialer: d}
			ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
			req, err := http.NewRequestWithContext(ctx, "GET", r.URL+"/slow", nil)
			require.NoError(t, err)
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			testkit.Hear(t, resp.Body, "1\n")
			d.SetCtx(renewed(t, 2, protocols...))
			require.Equal(t, map[int64]bool{1: true}, r.serials())
			text, resp2 := get(t, tr, r.URL)
			require.Equal(t, "2\n", text)
			require.Equal(t, len(protocols) == 2, resp2.ProtoMajor == 2)
			require.Equal(t, map[int64]bool{1: true, 2: true}, r.serials())
			require.NoError(t, end(r, resp, cancel), name)
			cancel()
			if name != "read" {
				close(r.release)
			}
			testkit.Eventually(t, func() bool { return !r.serials()[1] }, "%s: the connection with the old certificate is open", name)
			require.True(t, r.serials()[2], "the other connection is kept")
			tr.CloseIdleConnections()
			testkit.Eventually(t, func() bool { return len(r.serials()) == 0 }, "a connection is left")
		}
	})
}

// A Transport makes no request while its Dialer has no Ctx. SetCtx can also give the
// first one.
func TestRotationWithoutACtx(t *testing.T) {
	r := newRecorder(t, tls.VersionTLS13)
	d := new(sslnet.Dialer)
	tr := &sslhttp.Transport{Dialer: d}
	defer tr.CloseIdleConnections()
	_, _, err := tryGet(tr, r.URL)
	require.ErrorContains(t, err, "without Dialer or its Ctx")
	d.SetCtx(renewed(t, 3, both...))
	text, _ := get(t, tr, r.URL)
	require.Equal(t, "3\n", text)
	d.SetCtx(nil)
	_, _, err = tryGet(tr, r.URL)
	require.ErrorContains(t, err, "without Dialer or its Ctx")
	d.SetCtx(renewed(t, 4, "http/1.1")) // the new Ctx determines the protocols
	text, resp := get(t, tr, r.URL)
	require.Equal(t, "4\n", text)
	require.Equal(t, 1, resp.ProtoMajor)
}

// A request waits for its connection while the Ctx is replaced, so that its connection
// has the new certificate. After the first Ctx is set again, a new request does not use
// that connection.
func TestRotationBackAndForth(t *testing.T) {
	eachRotation(t, func(t *testing.T, version uint16, protocols []string) {
		r := newRecorder(t, version)
		dialing, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		first, second := renewed(t, 1, protocols...), renewed(t, 2, protocols...)
		tr := &sslhttp.Transport{Dialer: &sslnet.Dialer{Ctx: first}}
		tr.Base = &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			once.Do(func() {
				close(dialing)
				<-goOn
			})
			return new(net.Dialer).DialContext(ctx, network, addr)
		}}
		defer tr.CloseIdleConnections()
		answer := make(chan string, 1)
		go func() {
			text, _, err := tryGet(tr, r.URL)
			answer <- fmt.Sprint(text, err)
		}()
		<-dialing
		tr.Dialer.SetCtx(second)
		close(goOn)
		require.Equal(t, "2\n<nil>", <-answer)
		tr.Dialer.SetCtx(first)
		text, _ := get(t, tr, r.URL)
		require.Equal(t, "1\n", text)
	})
}
