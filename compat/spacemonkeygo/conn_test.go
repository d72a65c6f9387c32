package openssl_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spacemonkeygo/openssl"
)

// Dial verifies the certificate and the name, unless the program says otherwise.
func TestDialVerifies(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	addr := serve(t, issue(t, ca, "server", "DNS:localhost", false).ctx(t))
	wrong := serve(t, issue(t, ca, "server", "DNS:other.example", false).ctx(t))
	commonName := serve(t, issue(t, ca, "localhost", "", false).ctx(t))
	none, peer := openssl.VerifyNone, openssl.VerifyPeer
	for _, c := range []struct {
		name    string
		addr    string
		trusted bool
		mode    *openssl.VerifyOptions
		flags   openssl.DialFlags
		reason  string
	}{
		{"trusted", addr, true, nil, 0, ""},
		{"unknown CA", addr, false, nil, 0, "certificate"},
		{"unknown CA, only the name skipped, nothing asked", addr, false, nil, openssl.InsecureSkipHostVerification, ""},
		{"unknown CA, name skipped, VerifyPeer", addr, false, &peer, openssl.InsecureSkipHostVerification, "certificate"},
		{"unknown CA, VerifyNone", addr, false, &none, 0, ""},
		{"other name", wrong, true, nil, 0, openssl.ValidationError.Error()},
		{"other name, VerifyNone", wrong, true, &none, 0, openssl.ValidationError.Error()},
		{"other name, skipped", wrong, true, &peer, openssl.InsecureSkipHostVerification, ""},
		{"common name", commonName, true, nil, 0, ""},
		{"without SNI", addr, true, nil, openssl.DisableSNI, ""},
	} {
		var ctx *openssl.Ctx
		if ctx = (*identity)(nil).ctx(t); c.trusted {
			ctx = (*identity)(nil).ctx(t, ca)
		}
		if c.mode != nil {
			ctx.SetVerifyMode(*c.mode)
		}
		conn, err := openssl.Dial("tcp", c.addr, ctx, c.flags)
		if c.reason != "" {
			if err == nil || !strings.Contains(err.Error(), c.reason) || conn != nil {
				t.Errorf("%s: got %v, %v, want %q", c.name, conn, err, c.reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err := answered(conn); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if trusted := conn.VerifyResult() == openssl.Ok; trusted != c.trusted {
			t.Errorf("%s: VerifyResult is %v", c.name, conn.VerifyResult())
		}
		ok(t, conn.Close())
		ok(t, conn.Close())
	}
	ctx := (*identity)(nil).ctx(t) // trusts no CA of the server
	ctx.SetVerifyCallback(func(good bool, _ *openssl.CertificateStoreCtx) bool { return good })
	if conn, err := openssl.Dial("tcp", addr, ctx, 0); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a callback without a mode: got %v, %v", conn, err)
	}
	if conn, err := openssl.Dial("tcp", addr, nil, 0); err == nil {
		t.Errorf("nil context: %v", conn)
	}
	if _, err := openssl.Dial("tcp", "localhost", nil, 0); err == nil {
		t.Error("address without a port")
	}
}

// A server verifies clients as its mode says, and rejects them with an alert.
func TestServerVerifies(t *testing.T) {
	ca, other := issue(t, nil, "CA", "", true), issue(t, nil, "other CA", "", true)
	server, good, bad := issue(t, ca, "server", "DNS:localhost", false), issue(t, ca, "good", "", false), issue(t, other, "bad", "", false)
	for _, c := range []struct {
		mode   openssl.VerifyOptions
		accept []bool // none, good, bad
	}{
		{openssl.VerifyNone, []bool{true, true, true}},
		{openssl.VerifyPeer, []bool{true, true, false}},
		{openssl.VerifyPeer | openssl.VerifyFailIfNoPeerCert, []bool{false, true, false}},
		{openssl.VerifyPeer | openssl.VerifyFailIfNoPeerCert | openssl.VerifyClientOnce, []bool{false, true, false}},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for i, client := range []*identity{nil, good, bad} {
				name := fmt.Sprintf("mode %d, %x, client %d", c.mode, version, i)
				ctx := server.ctx(t, ca)
				ctx.SetVerify(c.mode, nil)
				below, out := pipe(t)
				conn := must[*openssl.Conn](t)(openssl.Server(below, ctx))
				done := echo(conn)
				config := &tls.Config{RootCAs: ca.pool(t), ServerName: "localhost", MinVersion: version, MaxVersion: version}
				if client != nil {
					cert := client.tls(t)
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
				}
				err := answered(tls.Client(out, config))
				if (err == nil) != c.accept[i] {
					t.Errorf("%s: %v", name, err)
				}
				if handshake := <-done; (handshake == nil) != c.accept[i] {
					t.Errorf("%s: %v", name, handshake)
				}
				if err != nil && !strings.Contains(err.Error(), "tls: ") {
					t.Errorf("%s: no alert, but %v", name, err)
				}
				if client == good && c.mode != openssl.VerifyNone {
					cert := must[*openssl.Certificate](t)(conn.PeerCertificate())
					if cert.GetSerialNumberHex() != good.cert.GetSerialNumberHex() {
						t.Errorf("%s: another certificate", name)
					}
					if chain := must[[]*openssl.Certificate](t)(conn.PeerCertificateChain()); len(chain) != 0 {
						t.Errorf("%s: %d certificates in the chain of a client", name, len(chain))
					}
				}
			}
		}
	}
}

// step is one call of a verify callback.
type step struct {
	ok    bool
	depth int
	code  openssl.VerifyResult
	name  string
}

// record is a callback that keeps its calls and returns what answer does.
func record(t *testing.T, calls *[]step, answer func(step) bool) openssl.VerifyCallback {
	return func(ok bool, store *openssl.CertificateStoreCtx) bool {
		name := must[*openssl.Name](t)(store.GetCurrentCert().GetSubjectName())
		cn, _ := name.GetEntry(openssl.NID_commonName)
		s := step{ok, store.Depth(), store.VerifyResult(), cn}
		if (store.Err() == nil) != (s.code == openssl.Ok) {
			t.Errorf("%v with error %v", s, store.Err())
		}
		*calls = append(*calls, s)
		return answer(s)
	}
}

// A verify callback gets the steps of OpenSSL, on both sides. If it refuses the peer,
// no data are exchanged.
func TestVerifyCallback(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	middle := issue(t, ca, "middle", "", true)
	leaf := issue(t, middle, "leaf", "DNS:localhost", false)
	chained := func(cas ...*identity) *openssl.Ctx {
		ctx := leaf.ctx(t, cas...)
		ok(t, ctx.AddChainCertificate(middle.cert))
		return ctx
	}
	good := []step{{true, 2, openssl.Ok, "CA"}, {true, 1, openssl.Ok, "middle"}, {true, 0, openssl.Ok, "leaf"}}
	unknown := openssl.UnableToGetIssuerCertLocally
	for _, c := range []struct {
		name     string
		trusted  bool
		mode     openssl.VerifyOptions
		answer   func(step) bool
		calls    []step // nil: only that there are some
		result   openssl.VerifyResult
		accepted bool
	}{
		{"all is well", true, openssl.VerifyPeer, func(s step) bool { return s.ok }, good, openssl.Ok, true},
		{"refuses a good leaf", true, openssl.VerifyPeer, func(s step) bool { return s.depth > 0 }, good, openssl.ApplicationVerification, false},
		{"refuses at once", true, openssl.VerifyPeer, func(s step) bool { return false }, good[:1], openssl.ApplicationVerification, false},
		{"refuses an unknown CA", false, openssl.VerifyPeer, func(s step) bool { return s.ok },
			[]step{{false, 1, unknown, "middle"}}, unknown, false},
		{"accepts an unknown CA", false, openssl.VerifyPeer, func(s step) bool { return true }, nil, unknown, true},
		{"VerifyNone on a client", false, openssl.VerifyNone, func(s step) bool { return false },
			[]step{{false, 1, unknown, "middle"}}, unknown, true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, client := range []bool{true, false} {
				if c.mode == openssl.VerifyNone && !client {
					continue
				}
				name := fmt.Sprintf("%s, %x, client=%v", c.name, version, client)
				var calls []step
				var ctx *openssl.Ctx
				if ctx = chained(); c.trusted {
					ctx = chained(ca)
				}
				ctx.SetVerify(c.mode, record(t, &calls, c.answer))
				cert := leaf.tls(t)
				cert.Certificate = append(cert.Certificate, middle.tls(t).Certificate[0])
				config := &tls.Config{
					Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert,
					MinVersion: version, MaxVersion: version,
				}
				a, b := pipe(t)
				var conn *openssl.Conn
				var done <-chan error
				if client {
					conn = must[*openssl.Conn](t)(openssl.Client(a, ctx))
					done = echo(tls.Server(b, config))
				} else {
					conn = must[*openssl.Conn](t)(openssl.Server(a, ctx))
					done = echo(tls.Client(b, config))
				}
				err := answered(conn)
				if (err == nil) != c.accepted {
					t.Errorf("%s: %v", name, err)
				}
				if err != nil && !errors.Is(conn.Handshake(), err) {
					t.Errorf("%s: the second error is %v", name, conn.Handshake())
				}
				if c.calls != nil && !slices.Equal(calls, c.calls) || len(calls) == 0 {
					t.Errorf("%s: got %v, want %v", name, calls, c.calls)
				}
				if conn.VerifyResult() != c.result {
					t.Errorf("%s: VerifyResult is %v, want %v", name, conn.VerifyResult(), c.result)
				}
				conn.Close()
				<-done
			}
		}
	}
}

// A callback that panics does not leave a connection that can be used.
func TestVerifyCallbackPanics(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	a, b := pipe(t)
	done := echo(tls.Server(b, &tls.Config{Certificates: []tls.Certificate{ca.tls(t)}}))
	ctx := (*identity)(nil).ctx(t)
	ctx.SetVerify(openssl.VerifyPeer, func(bool, *openssl.CertificateStoreCtx) bool { panic("of the test") })
	conn := must[*openssl.Conn](t)(openssl.Client(a, ctx))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		conn.Handshake()
	}()
	if _, err := conn.Write([]byte("secret")); err == nil {
		t.Error("data are sent to a peer that nobody has accepted")
	}
	conn.Close()
	<-done
}

// The server name callback chooses another context, refuses, and can change how the
// client is verified.
func TestServerNameCallback(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	first, second := issue(t, ca, "first", "DNS:first.example", false), issue(t, ca, "second", "DNS:second.example", false)
	ctx, other := first.ctx(t, ca), second.ctx(t, ca)
	other.SetVerify(openssl.VerifyPeer|openssl.VerifyFailIfNoPeerCert, nil)
	names := make(chan string, 10)
	ctx.SetTLSExtServernameCallback(func(ssl *openssl.SSL) openssl.SSLTLSExtErr {
		names <- ssl.GetServername()
		switch ssl.GetServername() {
		case "first.example":
		case "second.example":
			ssl.SetSSLCtx(other)
		case "open.example":
			ssl.SetSSLCtx(other)
			ssl.SetVerifyMode(openssl.VerifyNone)
			return openssl.SSLTLSEXTErrNoAck
		default:
			return openssl.SSLTLSEXTErrAlertFatal
		}
		return openssl.SSLTLSExtErrOK
	})
	for _, c := range []struct {
		name, cert string
		shows      bool
		accepted   bool
	}{
		{"first.example", "first", false, true},
		{"second.example", "second", false, false}, // the second context demands a certificate
		{"second.example", "second", true, true},
		{"open.example", "second", false, true},
		{"unknown.example", "", false, false},
		{"", "", false, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			below, out := pipe(t)
			conn := must[*openssl.Conn](t)(openssl.Server(below, ctx))
			done := echo(conn)
			config := &tls.Config{InsecureSkipVerify: true, ServerName: c.name, MinVersion: version, MaxVersion: version}
			if c.shows {
				config.Certificates = []tls.Certificate{second.tls(t)}
			}
			client := tls.Client(out, config)
			err := answered(client)
			if (err == nil) != c.accepted {
				t.Errorf("%+v: %v", c, err)
			}
			if got := <-names; got != c.name || conn.GetServername() != c.name {
				t.Errorf("%+v: the callback gets %q, and later it is %q", c, got, conn.GetServername())
			}
			if certs := client.ConnectionState().PeerCertificates; err == nil && certs[0].Subject.CommonName != c.cert {
				t.Errorf("%+v: got the certificate of %s", c, certs[0].Subject)
			}
			client.Close()
			<-done
		}
	}
}

// An end without close_notify is io.EOF between two records, and an error inside one.
func TestTruncation(t *testing.T) {
	server := issue(t, nil, "server", "", false)
	for _, cut := range []bool{false, true} {
		below, out := pipe(t)
		conn := must[*openssl.Conn](t)(openssl.Server(below, server.ctx(t)))
		raw := &cutter{Conn: out}
		client := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		go func() {
			client.Write([]byte("hello"))
			raw.cut = cut
			client.Write([]byte("world"))
			out.Close()
		}()
		got, err := io.ReadAll(conn)
		switch {
		case !cut && (err != nil || string(got) != "helloworld"):
			t.Errorf("between two records: %q, %v", got, err)
		case cut && (!errors.Is(err, io.ErrUnexpectedEOF) || string(got) != "hello"):
			t.Errorf("inside a record: %q, %v", got, err)
		}
	}
}

// cutter sends only the first bytes of what is written while cut is set.
type cutter struct {
	net.Conn
	cut bool
}

func (c *cutter) Write(b []byte) (int, error) {
	if c.cut {
		return c.Conn.Write(b[:len(b)-1])
	}
	return c.Conn.Write(b)
}

// New connections use a Ctx as it is when they begin, with all changes until then.
func TestCtxChanges(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	first, second := issue(t, ca, "first", "", false), issue(t, ca, "second", "", false)
	ctx := first.ctx(t)
	addr := serve(t, ctx)
	cn := func(config *tls.Config) string {
		config.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", addr, config)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		if err := answered(conn); err != nil {
			return err.Error()
		}
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := cn(&tls.Config{}); got != "first" {
		t.Fatal(got)
	}
	if err := ctx.UsePrivateKey(second.key); err == nil {
		t.Error("the key of another certificate is accepted")
	}
	ok(t, ctx.UseCertificate(second.cert))
	ok(t, ctx.UsePrivateKey(second.key))
	if got := cn(&tls.Config{}); got != "second" {
		t.Error(got)
	}
	ok(t, ctx.SetCipherList("ECDHE-ECDSA-AES256-GCM-SHA384"))
	if err := ctx.SetCipherList("no such cipher"); err == nil {
		t.Error("a list without ciphers is accepted")
	}
	gcm128 := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	if got := cn(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: gcm128}); !strings.Contains(got, "handshake failure") {
		t.Error(got)
	}
	ok(t, ctx.SetEllipticCurve(openssl.Secp384r1))
	if got := cn(&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}}); !strings.Contains(got, "handshake failure") {
		t.Error(got)
	}
	if got := cn(&tls.Config{}); got != "second" {
		t.Error(got)
	}
	ctx.SetVerifyMode(openssl.VerifyPeer | openssl.VerifyFailIfNoPeerCert)
	ok(t, ctx.GetCertificateStore().AddCertificate(ca.cert))
	if got := cn(&tls.Config{}); !strings.Contains(got, "tls: ") {
		t.Error(got)
	}
	if got := cn(&tls.Config{Certificates: []tls.Certificate{first.tls(t)}}); got != "second" {
		t.Error(got)
	}
}

// Wrong settings are errors of Server and Client, and name what is wrong.
func TestCtxErrors(t *testing.T) {
	server, client := pipe(t)
	id := issue(t, nil, "server", "", false)
	for want, change := range map[string]func(ctx *openssl.Ctx){
		"SetVerifyDepth":           func(ctx *openssl.Ctx) { ctx.SetVerifyDepth(0) },
		"SetOptions: 0x400 is not": func(ctx *openssl.Ctx) { ctx.SetOptions(0x400) }, // SSL_OP_ALLOW_NO_DHE_KEX
		"is not a verify mode":     func(ctx *openssl.Ctx) { ctx.SetVerifyMode(0x100) },
		"no TLS version is left":   func(ctx *openssl.Ctx) { ctx.SetOptions(0x08000000 | 0x20000000) }, // SSL_OP_NO_TLSv1_2, _3
	} {
		ctx := id.ctx(t)
		change(ctx)
		_, atServer := openssl.Server(server, ctx)
		_, atClient := openssl.Client(client, ctx)
		for _, err := range []error{atServer, atClient} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	}
	if _, err := openssl.Server(server, (*identity)(nil).ctx(t)); err == nil || !strings.Contains(err.Error(), "UseCertificate") {
		t.Errorf("server without a certificate: %v", err)
	}
	ctx := must[*openssl.Ctx](t)(openssl.NewCtx())
	ok(t, ctx.UseCertificate(id.cert))
	if _, err := openssl.Server(server, ctx); err == nil || !strings.Contains(err.Error(), "UsePrivateKey") {
		t.Errorf("server without a key: %v", err)
	}
	for _, version := range []openssl.SSLVersion{openssl.SSLv3, 0, 99} {
		if _, err := openssl.NewCtxWithVersion(version); err == nil {
			t.Errorf("version %d is accepted", version)
		}
	}
	if err := ctx.SetSessionId(make([]byte, 33)); err == nil {
		t.Error("a session id context of 33 bytes is accepted")
	}
	if err := ctx.SetEllipticCurve(1); err == nil {
		t.Error("curve 1 is accepted")
	}
}

// Options and versions take effect.
func TestCtxOptions(t *testing.T) {
	id := issue(t, nil, "server", "", false)
	version := func(ctx *openssl.Ctx) uint16 {
		conn, err := tls.Dial("tcp", serve(t, ctx), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return 0
		}
		defer conn.Close()
		return conn.ConnectionState().Version
	}
	ctx := id.ctx(t)
	if got := version(ctx); got != tls.VersionTLS13 {
		t.Errorf("default: %x", got)
	}
	if got := ctx.SetOptions(0x20000000); got&0x20000000 == 0 { // SSL_OP_NO_TLSv1_3
		t.Errorf("SetOptions returns %#x", got)
	}
	if got := version(ctx); got != tls.VersionTLS12 {
		t.Errorf("without TLS 1.3: %x", got)
	}
	if got := ctx.ClearOptions(0x20000000); got&0x20000000 != 0 || got != ctx.GetOptions() {
		t.Errorf("ClearOptions returns %#x", got)
	}
	if got := version(ctx); got != tls.VersionTLS13 {
		t.Errorf("cleared: %x", got)
	}
	ctx = must[*openssl.Ctx](t)(openssl.NewCtxWithVersion(openssl.TLSv1_2))
	ok(t, ctx.UseCertificate(id.cert))
	ok(t, ctx.UsePrivateKey(id.key))
	if got := version(ctx); got != tls.VersionTLS12 {
		t.Errorf("NewCtxWithVersion(TLSv1_2): %x", got)
	}
	if openssl.ReleaseBuffers != 0x10 || ctx.SetMode(openssl.ReleaseBuffers) != openssl.ReleaseBuffers || ctx.GetMode() != openssl.ReleaseBuffers {
		t.Error("SetMode")
	}
	if old := ctx.SetSessionCacheMode(openssl.SessionCacheOff); old != openssl.SessionCacheServer {
		t.Errorf("SetSessionCacheMode returns %d", old)
	}
}

// LoadVerifyLocations reads a file, and the files of a directory that OpenSSL reads.
func TestLoadVerifyLocations(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	pem, key := ca.pem(t)
	addr := serve(t, issue(t, ca, "server", "DNS:localhost", false).ctx(t))
	dir, empty := t.TempDir(), t.TempDir()
	file := write(t, empty, "ca.pem", append([]byte("text before\n"), pem...))
	write(t, dir, "0123abcd.0", pem)
	noCert := write(t, t.TempDir(), "key.pem", key)
	for _, c := range []struct {
		file, path string
		good       bool
	}{{file, "", true}, {"", dir, true}, {file, dir, true}, {"", empty, false}, {noCert, "", false}, {"", "", false}, {file + "x", "", false}, {"", dir + "x", false}} {
		ctx := (*identity)(nil).ctx(t)
		if err := ctx.LoadVerifyLocations(c.file, c.path); (err == nil) != c.good {
			t.Errorf("%q, %q: %v", c.file, c.path, err)
		}
		conn, err := openssl.Dial("tcp", addr, ctx, 0)
		if (err == nil) != c.good {
			t.Errorf("%q, %q: Dial: %v", c.file, c.path, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// Deadlines that are set before the handshake apply to the connection.
func TestDeadlines(t *testing.T) {
	server, _ := pipe(t)
	conn := must[*openssl.Conn](t)(openssl.Server(server, issue(t, nil, "server", "", false).ctx(t)))
	ok(t, conn.SetDeadline(time.Now().Add(-time.Second)))
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Read: %v", err)
	}
	if err := conn.Handshake(); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Handshake: %v", err)
	}
	if conn.LocalAddr() != server.LocalAddr() || conn.RemoteAddr() != server.RemoteAddr() || conn.UnderlyingConn() != server {
		t.Error("not the underlying connection")
	}
	if _, err := conn.PeerCertificate(); err == nil {
		t.Error("a certificate without a handshake")
	}
	if _, err := conn.CurrentCipher(); err == nil {
		t.Error("a cipher without a handshake")
	}
	ok(t, conn.Close())
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

// HTTP is served from two files, and the errors of the files are returned.
func TestListenAndServeTLS(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	id := issue(t, ca, "server", "DNS:localhost", false)
	cert, key := id.pem(t)
	dir := t.TempDir()
	certFile, keyFile := write(t, dir, "cert.pem", cert), write(t, dir, "key.pem", key)
	if err := openssl.ListenAndServeTLS("127.0.0.1:0", keyFile, certFile, nil); err == nil || !strings.Contains(err.Error(), keyFile) {
		t.Errorf("files exchanged: %v", err)
	}
	_, otherKey := issue(t, ca, "other", "", false).pem(t)
	if err := openssl.ListenAndServeTLS("127.0.0.1:0", certFile, write(t, dir, "other.pem", otherKey), nil); err == nil {
		t.Error("the key of another certificate is accepted")
	}
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })}
	go srv.Serve(openssl.NewListener(l, must[*openssl.Ctx](t)(openssl.NewCtxFromFiles(certFile, keyFile))))
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool(t), ServerName: "localhost"}}}
	resp := must[*http.Response](t)(client.Get("https://" + l.Addr().String()))
	defer resp.Body.Close()
	if body := must[[]byte](t)(io.ReadAll(resp.Body)); string(body) != "HTTP/1.1" {
		t.Errorf("got %q", body)
	}
	busy := &http.Server{Addr: l.Addr().String()}
	if err := openssl.ServerListenAndServeTLS(busy, certFile, keyFile); err == nil {
		t.Error("a port that is in use is accepted")
	}
}
