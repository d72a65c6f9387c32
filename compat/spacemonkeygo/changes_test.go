package openssl_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/spacemonkeygo/openssl"
)

// A Ctx whose certificate is being replaced does not end a server: between the two calls
// a handshake fails, as in the old module, and the listener goes on.
func TestRotationDoesNotEndTheServer(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	first, second := issue(t, ca, "first", "", false), issue(t, ca, "second", "", false)
	ctx := first.ctx(t)
	l := openssl.NewListener(must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), ctx)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	defer srv.Close()
	get := func() (string, error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		return resp.TLS.PeerCertificates[0].Subject.CommonName, nil
	}
	ok(t, ctx.UseCertificate(second.cert)) // even the first connection can find it like this
	if name, err := get(); err == nil {
		t.Errorf("the certificate of %s is served with the key of another", name)
	}
	ok(t, ctx.UsePrivateKey(second.key))
	if name, err := get(); err != nil || name != "second" {
		t.Errorf("%q, %v", name, err)
	}
	ctx.SetVerifyMode(openssl.VerifyPeer) // without CAs until the next call
	if _, err := get(); err == nil {
		t.Error("a connection is served with wrong settings")
	}
	ok(t, ctx.GetCertificateStore().AddCertificate(ca.cert))
	if name, err := get(); err != nil || name != "second" {
		t.Errorf("%q, %v", name, err)
	}
	select {
	case err := <-served:
		t.Errorf("Serve has ended: %v", err)
	default:
	}
}

// A listener whose Ctx has never worked returns an error at the first connection, since nothing
// else would.
func TestListenerOfWrongCtx(t *testing.T) {
	l := must[net.Listener](t)(openssl.Listen("tcp", "127.0.0.1:0", (*identity)(nil).ctx(t)))
	defer l.Close()
	client := must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))
	defer client.Close()
	if conn, err := l.Accept(); err == nil {
		t.Errorf("%v is accepted", conn)
	}
}

// early calls f before the first Write, when the handshake has begun.
type early struct {
	net.Conn
	once sync.Once
	f    func()
}

func (e *early) Write(b []byte) (int, error) {
	e.once.Do(e.f)
	return e.Conn.Write(b)
}

// The callback and the mode are fixed when the handshake begins: a change during the
// handshake does not lead to a peer that nobody has verified.
func TestVerifyModeChangesInTheHandshake(t *testing.T) {
	stranger := issue(t, nil, "stranger", "", false)
	refuse := func(ok bool, _ *openssl.CertificateStoreCtx) bool { return ok }
	accept := func(bool, *openssl.CertificateStoreCtx) bool { return true }
	for name, change := range map[string]func(ssl *openssl.SSL){
		"accepted from the beginning": func(*openssl.SSL) {},
		"the callback is taken away":  func(ssl *openssl.SSL) { ssl.SetVerify(openssl.VerifyPeer, nil) },
		"another callback":            func(ssl *openssl.SSL) { ssl.SetVerifyCallback(accept) },
		"VerifyNone":                  func(ssl *openssl.SSL) { ssl.SetVerifyMode(openssl.VerifyNone) },
	} {
		for _, client := range []bool{true, false} {
			ctx := stranger.ctx(t)
			if !client {
				ctx = stranger.ctx(t, issue(t, nil, "CA", "", true))
			}
			verify, accepted := refuse, name == "accepted from the beginning"
			if accepted {
				verify = accept
			}
			ctx.SetVerify(openssl.VerifyPeer|openssl.VerifyFailIfNoPeerCert, verify)
			a, b := pipe(t)
			below := &early{Conn: a}
			cert := stranger.tls(t)
			config := &tls.Config{
				Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
			}
			var conn *openssl.Conn
			var done <-chan error
			if client {
				conn = must[*openssl.Conn](t)(openssl.Client(below, ctx))
				done = echo(tls.Server(b, config))
			} else {
				conn = must[*openssl.Conn](t)(openssl.Server(below, ctx))
				done = echo(tls.Client(b, config))
			}
			below.f = func() { change(conn.SSL) }
			if err := conn.Handshake(); (err == nil) != accepted {
				t.Errorf("%s, client=%v: %v", name, client, err)
			}
			conn.Close()
			<-done
		}
	}
}

// After SetSSLCtx a client must satisfy both: what the connection demanded before, and
// what the new context demands.
func TestSetSSLCtxKeepsNoWeakerVerification(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	server, visitor, stranger := issue(t, ca, "server", "", false), issue(t, ca, "visitor", "", false), issue(t, nil, "stranger", "", false)
	all := func(bool, *openssl.CertificateStoreCtx) bool { return true }
	none := func(bool, *openssl.CertificateStoreCtx) bool { return false }
	valid := func(ok bool, _ *openssl.CertificateStoreCtx) bool { return ok }
	peer, required := openssl.VerifyPeer, openssl.VerifyPeer|openssl.VerifyFailIfNoPeerCert
	type policy struct {
		mode     openssl.VerifyOptions
		callback openssl.VerifyCallback
	}
	for _, c := range []struct {
		name                    string
		before, after           policy
		nobody, valid, stranger bool // who is accepted
	}{
		{"accepts all, then OpenSSL", policy{peer, all}, policy{peer, nil}, true, true, false},
		{"accepts all, then valid", policy{peer, all}, policy{peer, valid}, true, true, false},
		{"accepts all, then required", policy{peer, all}, policy{required, valid}, false, true, false},
		{"accepts all, then accepts all", policy{peer, all}, policy{required, all}, false, true, true},
		{"accepts all, then no demand", policy{peer, all}, policy{}, true, true, true},
		{"valid, then accepts all", policy{required, valid}, policy{peer, all}, false, true, false},
		{"OpenSSL, then accepts all", policy{peer, nil}, policy{peer, all}, true, true, false},
		{"OpenSSL, then accepts nobody", policy{peer, nil}, policy{peer, none}, true, false, false},
		{"no demand, then OpenSSL", policy{openssl.VerifyNone, all}, policy{peer, nil}, true, true, false},
		{"no demand, then accepts all", policy{}, policy{peer, all}, true, true, true},
	} {
		first, second := server.ctx(t, ca), server.ctx(t, ca)
		first.SetVerify(c.before.mode, c.before.callback)
		second.SetVerify(c.after.mode, c.after.callback)
		first.SetTLSExtServernameCallback(func(ssl *openssl.SSL) openssl.SSLTLSExtErr {
			ssl.SetSSLCtx(second)
			return openssl.SSLTLSExtErrOK
		})
		for i, id := range []*identity{nil, visitor, stranger} {
			below, out := pipe(t)
			conn := must[*openssl.Conn](t)(openssl.Server(below, first))
			done := echo(conn)
			config := &tls.Config{InsecureSkipVerify: true, ServerName: "name.example"}
			if id != nil {
				cert := id.tls(t)
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			client := tls.Client(out, config)
			err := answered(client)
			if want := []bool{c.nobody, c.valid, c.stranger}[i]; (err == nil) != want {
				t.Errorf("%s, client %d: accepted is %v, want %v: %v", c.name, i, err == nil, want, err)
			}
			client.Close()
			<-done
		}
	}
}

// The depth of the new context counts if it is smaller.
func TestSetSSLCtxDepth(t *testing.T) {
	for _, c := range []struct{ before, after, want int }{{-1, -1, -1}, {-1, 3, 3}, {3, -1, 3}, {5, 3, 3}, {3, 5, 3}} {
		var ctxs [2]*openssl.Ctx
		for i, depth := range []int{c.before, c.after} {
			ctxs[i] = issue(t, nil, "server", "", false).ctx(t, issue(t, nil, "CA", "", true))
			ctxs[i].SetVerifyMode(openssl.VerifyPeer)
			if depth >= 0 {
				ctxs[i].SetVerifyDepth(depth)
			}
		}
		below, _ := pipe(t)
		conn := must[*openssl.Conn](t)(openssl.Server(below, ctxs[0]))
		conn.SetSSLCtx(ctxs[1])
		if got := conn.GetVerifyDepth(); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}

// All functions of a Ctx, of a store and of a connection may be called during handshakes.
func TestParallelChanges(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	server := issue(t, ca, "server", "DNS:localhost", false)
	ctx, other := server.ctx(t, ca), server.ctx(t, ca)
	m := newManager(32)
	tickets := &openssl.TicketStore{
		CipherCtx: openssl.TicketCipherCtx{Cipher: must[*openssl.Cipher](t)(openssl.GetCipherByName("AES-256-CBC"))},
		DigestCtx: openssl.TicketDigestCtx{Digest: must[*openssl.Digest](t)(openssl.GetDigestByName("SHA256"))},
		Keys:      m,
	}
	dh := must[*openssl.DH](t)(openssl.LoadDHParametersFromPEM([]byte(ffdhe2048)))
	callback := func(bool, *openssl.CertificateStoreCtx) bool { return true }
	names := func(ssl *openssl.SSL) openssl.SSLTLSExtErr {
		ssl.SetSSLCtx(other)
		ssl.GetServername()
		return openssl.SSLTLSExtErrOK
	}
	onSSL := func(s *openssl.SSL) []func() error {
		return []func() error{
			func() error { s.SetVerifyMode(openssl.VerifyPeer); return nil },
			func() error { s.SetVerifyCallback(callback); s.GetVerifyCallback(); return nil },
			func() error { s.SetVerifyDepth(5 + s.GetVerifyDepth()&1); return nil },
			func() error {
				s.SetOptions(openssl.NoTicket)
				s.ClearOptions(openssl.NoTicket)
				s.GetOptions()
				return nil
			},
			func() error { s.SetSSLCtx(other); s.GetServername(); s.VerifyMode(); return nil },
		}
	}
	onCtx := []func() error{
		func() error { return ctx.UseCertificate(server.cert) },
		func() error { return ctx.UsePrivateKey(server.key) },
		func() error { return ctx.GetCertificateStore().AddCertificate(ca.cert) },
		func() error { ctx.SetTicketStore(tickets); m.New(); other.SetTicketStore(tickets); return nil },
		func() error {
			return errors.Join(ctx.SetCipherList("DEFAULT"), ctx.SetEllipticCurve(openssl.Prime256v1), ctx.SetDHParameters(dh))
		},
		func() error {
			ctx.SetVerify(openssl.VerifyPeer, callback)
			ctx.SetVerify(openssl.VerifyNone, nil)
			return nil
		},
		func() error {
			ctx.SetOptions(openssl.NoTicket)
			ctx.ClearOptions(openssl.NoTicket)
			ctx.GetOptions()
			return nil
		},
		func() error {
			ctx.SetVerifyDepth(5)
			ctx.GetVerifyDepth()
			ctx.SetMode(openssl.ReleaseBuffers)
			ctx.GetMode()
			return nil
		},
		func() error {
			ctx.SetTimeout(ctx.GetTimeout())
			ctx.SessSetCacheSize(ctx.SessGetCacheSize())
			return nil
		},
	}
	for _, sni := range []openssl.TLSExtServernameCallback{names, nil} {
		ctx.SetTLSExtServernameCallback(sni)
		below, out := pipe(t)
		conn := must[*openssl.Conn](t)(openssl.Server(below, ctx))
		client := must[*openssl.Conn](t)(openssl.Client(out, (*identity)(nil).ctx(t, ca)))
		onConn := func(c *openssl.Conn) []func() error {
			return append(onSSL(c.SSL), func() error {
				c.SessionReused()
				c.CurrentCipher()
				c.VerifyResult()
				c.ConnectionState()
				c.VerifyHostname("localhost")
				c.GetSession()
				return nil
			})
		}
		done := echo(conn)
		var group sync.WaitGroup
		start := make(chan struct{})
		errs := make(chan error, 100)
		for _, f := range append(append(onConn(conn), onConn(client)...), onCtx...) {
			group.Go(func() {
				<-start
				for range 5 {
					if err := f(); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		for range 2 { // two goroutines read and write
			group.Go(func() {
				<-start
				if _, err := client.Write([]byte("hello")); err != nil {
					errs <- fmt.Errorf("write: %w", err)
				}
				if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
					errs <- fmt.Errorf("read: %w", err)
				}
			})
		}
		close(start)
		group.Wait()
		client.Close()
		<-done
		close(errs)
		for err := range errs {
			t.Error(err)
		}
	}
}
