package sslstaple_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslstaple"
)

// responder runs "openssl ocsp" for a CA of the test PKI with an index with these entries, and
// returns its URL and a function that ends it.
func responder(t testing.TB, port, ca string, entries ...string) (url string, end func()) {
	t.Helper()
	index := filepath.Join(t.TempDir(), "index.txt")
	var text []byte
	for _, line := range entries {
		text = append(text, line+"\n"...)
	}
	require.NoError(t, os.WriteFile(index, text, 0o600))
	p := peers.StartForeign(t, nil, peers.Find(t, "openssl", "openssl"), "ocsp", "-port", port, "-index", index, "-CA", testkit.PKI("root.crt"),
		"-rsigner", testkit.PKI(ca+".crt"), "-rkey", testkit.PKI(ca+".key"), "-nmin", "60")
	p.Await("aiting for OCSP client connections") // a connection without a request would hold it up
	end = func() {
		p.Kill()
		p.Wait()
	}
	return "http://127.0.0.1:" + port + "/", end
}

const (
	goodLine    = "V\t490101000000Z\t\t1001\tunknown\t/CN=localhost"
	revokedLine = "R\t490101000000Z\t240501120000Z,keyCompromise\t1001\tunknown\t/CN=localhost"
	otherLine   = "V\t490101000000Z\t\t1002\tunknown\t/CN=localhost"
)

// staple returns a Staple of server.crt, whose issuer is known.
func staple(t testing.TB) *sslfilter.Staple {
	t.Helper()
	s := new(sslfilter.Staple)
	testkit.Ctx(t, testkit.Server(func(o *sslfilter.Options) { o.CACrt, o.Staple = testkit.PKI("root.crt"), s }))
	return s
}

// A real responder: a good certificate, a revoked one, one that it does not know, and a
// responder that signs with the key of another CA.
func TestFetch(t *testing.T) {
	for name, c := range map[string]struct {
		ca, line string
		status   sslfilter.OCSPStatus
		text     string
	}{
		"good":       {"root", goodLine, sslfilter.OCSPGood, ""},
		"revoked":    {"root", revokedLine, sslfilter.OCSPRevoked, ""},
		"unknown":    {"root", otherLine, sslfilter.OCSPMissing, "does not know"},
		"other key":  {"other", goodLine, sslfilter.OCSPMissing, "not signed"},
		"no support": {"", "", sslfilter.OCSPMissing, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			port := peers.FreePort(t)
			url := "http://127.0.0.1:" + port
			if c.ca != "" {
				url, _ = responder(t, port, c.ca, c.line)
			}
			s := staple(t)
			err := sslstaple.Fetch(t.Context(), s, sslstaple.Options{URL: url})
			require.Equal(t, c.status, s.Status().Status)
			if c.text != "" {
				require.ErrorContains(t, err, c.text)
				return
			}
			require.NoError(t, err)
			require.WithinDuration(t, time.Now().Add(time.Hour), s.Status().NextUpdate, 10*time.Minute)
		})
	}
}

// Answers that no responder should give are errors, and change nothing.
func TestFetchRefuses(t *testing.T) {
	good := testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt")})
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		text   string
	}{
		"tryLater": {func(w http.ResponseWriter) { w.Write(testkit.OCSPError(3)) }, "tryLater"},
		"status":   {func(w http.ResponseWriter) { http.Error(w, "gone", http.StatusBadGateway) }, "502"},
		"empty":    {func(http.ResponseWriter) {}, "no response"},
		"page":     {func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, "malformed"},
		"long":     {func(w http.ResponseWriter) { w.Write(make([]byte, sslstaple.MaxResponse+1)) }, "more than"},
		"other certificate": {func(w http.ResponseWriter) {
			w.Write(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "client.crt")}))
		}, "another certificate"},
		"replayed": {func(w http.ResponseWriter) {
			w.Write(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), From: time.Now().Add(-2 * time.Hour)}))
		}, "older than the current one"},
		"expired": {func(w http.ResponseWriter) {
			w.Write(testkit.OCSPResponse(t, testkit.OCSP{Cert: testkit.Cert(t, "server.crt"), Until: time.Now().Add(-time.Minute)}))
		}, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.answer(w) }))
			defer srv.Close()
			s := staple(t)
			require.NoError(t, s.Set(good))
			require.ErrorContains(t, sslstaple.Fetch(t.Context(), s, sslstaple.Options{URL: srv.URL}), c.text)
			require.Equal(t, sslfilter.OCSPGood, s.Status().Status)
		})
	}
}

func TestFetchNeedsAResponder(t *testing.T) {
	s := staple(t)
	require.Equal(t, sslstaple.ErrNoResponder, sslstaple.Keep(t.Context(), s, sslstaple.Options{}))
	for _, url := range []string{"ldap://x/", "http:///x", "x", "http://x\x7f/"} {
		o := sslstaple.Options{URL: url}
		require.Error(t, o.Validate())
		require.Equal(t, o.Validate(), sslstaple.Keep(t.Context(), s, o))
	}
	require.NoError(t, (&sslstaple.Options{}).Validate())
	require.NoError(t, (&sslstaple.Options{URL: "http://x/"}).Validate())
	var usage *sslfilter.UsageError
	require.ErrorAs(t, sslstaple.Keep(t.Context(), new(sslfilter.Staple), sslstaple.Options{URL: "http://x/"}), &usage)
}

// Keep refreshes after half of the validity, waits longer after each failure, keeps the
// good response in the meantime, and succeeds when the responder is back.
func TestKeep(t *testing.T) {
	port := peers.FreePort(t)
	url, end := responder(t, port, "root", goodLine)
	s := staple(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, goOn := make(chan sslstaple.Event), make(chan struct{})
	result := make(chan error, 1)
	log := new(testkit.Log)
	go func() {
		result <- sslstaple.Keep(ctx, s, sslstaple.WithWait(sslstaple.Options{URL: url, Log: log.Logger(), Event: func(e sslstaple.Event) { events <- e }},
			func(ctx context.Context, _ time.Duration) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-goOn:
					return nil
				}
			}))
	}()
	e := <-events
	require.NoError(t, e.Err)
	require.Equal(t, sslfilter.OCSPGood, e.Result.Status)
	require.InDelta(t, 30*time.Minute, e.Next, float64(5*time.Minute), "half of an hour, less up to a tenth")
	end()
	for i, most := range []time.Duration{sslstaple.MinWait, 2 * sslstaple.MinWait, 4 * sslstaple.MinWait, 8 * sslstaple.MinWait} {
		goOn <- struct{}{}
		e = <-events
		require.Error(t, e.Err)
		require.Equal(t, sslfilter.OCSPGood, e.Result.Status, "the old response")
		require.LessOrEqual(t, e.Next, most, "%d", i)
		require.Greater(t, e.Next, most/2)
	}
	for range 10 {
		goOn <- struct{}{}
		e = <-events
	}
	require.InDelta(t, 30*time.Minute, e.Next, float64(5*time.Minute), "half of the rest, less up to a tenth")
	responder(t, port, "root", revokedLine)
	goOn <- struct{}{}
	e = <-events
	require.NoError(t, e.Err)
	require.Equal(t, sslfilter.OCSPRevoked, e.Result.Status)
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	require.Contains(t, log.String(), "the certificate is revoked")
	require.Contains(t, log.String(), "not refreshed")
}

// While the responder fails, Keep waits longer each time, but at most for an hour, for half of
// the time until the response expires, or for five minutes if there is no response to staple.
func TestKeepRetries(t *testing.T) {
	cert, now := testkit.Cert(t, "server.crt"), time.Now()
	for name, c := range map[string]struct {
		response *testkit.OCSP
		limit    time.Duration
	}{
		"a week left":             {&testkit.OCSP{Until: now.Add(7 * 24 * time.Hour)}, sslstaple.MaxRetry},
		"twenty minutes left":     {&testkit.OCSP{Until: now.Add(20 * time.Minute)}, 10 * time.Minute},
		"a minute left":           {&testkit.OCSP{Until: now.Add(time.Minute)}, sslstaple.MinWait},
		"twenty minutes, revoked": {&testkit.OCSP{Until: now.Add(20 * time.Minute), Status: 1}, 10 * time.Minute},
		"undated":                 {&testkit.OCSP{Forever: true, From: now.Add(-24*time.Hour + 20*time.Minute)}, 10 * time.Minute},
		"undated, a day left":     {&testkit.OCSP{Forever: true, From: now}, sslstaple.MaxRetry},
		"no response":             {nil, sslstaple.MaxWithout},
	} {
		t.Run(name, func(t *testing.T) {
			s := staple(t)
			if c.response != nil {
				c.response.Cert = cert
				require.NoError(t, s.Set(testkit.OCSPResponse(t, *c.response)))
			}
			ctx, cancel := context.WithCancel(t.Context())
			var waits []time.Duration
			err := sslstaple.Keep(ctx, s, sslstaple.WithWait(sslstaple.Options{URL: "http://127.0.0.1:" + peers.FreePort(t) + "/", Event: func(e sslstaple.Event) {
				require.Error(t, e.Err)
				if waits = append(waits, e.Next); len(waits) == 12 {
					cancel()
				}
			}}, func(ctx context.Context, _ time.Duration) error { return ctx.Err() }))
			require.ErrorIs(t, err, context.Canceled)
			for i, wait := range waits {
				most := min(sslstaple.MinWait<<i, c.limit)
				require.LessOrEqual(t, wait, most, "%d", i)
				require.Greater(t, wait, most*8/10, "%d", i)
			}
		})
	}
}

// A slow responder does not hold up the end of Keep.
func TestKeepEndsWhileAResponderIsSlow(t *testing.T) {
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // so that the server notices that the client leaves
		asked.Add(1)
		<-r.Context().Done()
	}))
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	s := staple(t)
	go func() { result <- sslstaple.Keep(ctx, s, sslstaple.Options{URL: srv.URL}) }()
	testkit.Eventually(t, func() bool { return asked.Load() > 0 }, "no request")
	cancel()
	require.True(t, errors.Is(<-result, context.Canceled))
}
