package openssl_test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/spacemonkeygo/openssl"
)

// A client resumes the session of an earlier connection, and verifies the server again.
func TestDialSession(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	id := issue(t, ca, "server", "DNS:localhost", false)
	for _, old := range []bool{false, true} {
		server, client := id.ctx(t), (*identity)(nil).ctx(t, ca)
		name := "TLS 1.3"
		if old {
			name = "TLS 1.2"
			server.SetOptions(0x20000000) // SSL_OP_NO_TLSv1_3
		}
		addr := serve(t, server)
		connect := func(ctx *openssl.Ctx, session []byte, want bool, why string) []byte {
			t.Helper()
			conn, err := openssl.DialSession("tcp", addr, ctx, 0, session)
			if err != nil {
				t.Errorf("%s: %s: %v", name, why, err)
				return nil
			}
			defer conn.Close()
			ok(t, answered(conn))
			if conn.SessionReused() != want || conn.ConnectionState().SessionReused != want {
				t.Errorf("%s: %s: resumed is %v", name, why, conn.SessionReused())
			}
			if cert := must[*openssl.Certificate](t)(conn.PeerCertificate()); cert.GetSerialNumberHex() != id.cert.GetSerialNumberHex() {
				t.Errorf("%s: %s: another certificate", name, why)
			}
			return must[[]byte](t)(conn.GetSession())
		}
		first := connect(client, nil, false, "the first connection")
		connect(client, first, true, "the session is offered")
		connect((*identity)(nil).ctx(t, ca), first, true, "with another context")
		stranger := (*identity)(nil).ctx(t, issue(t, nil, "other CA", "", true))
		if conn, err := openssl.DialSession("tcp", addr, stranger, 0, first); err == nil {
			t.Errorf("%s: a context that does not trust the CA resumes the session: %v", name, conn.SessionReused())
		}
		var calls []step
		asked := (*identity)(nil).ctx(t, ca)
		asked.SetVerify(openssl.VerifyPeer, record(t, &calls, func(s step) bool { return s.ok }))
		connect(asked, connect(asked, nil, false, "with a callback"), true, "resumed with a callback")
		if len(calls) != 4 {
			t.Errorf("%s: the callback gets %v, want 2 certificates in each connection", name, calls)
		}
		asked.SetVerifyCallback(func(bool, *openssl.CertificateStoreCtx) bool { return false })
		if conn, err := openssl.DialSession("tcp", addr, asked, 0, first); err == nil {
			t.Errorf("%s: a resumed session is not judged by the callback: %v", name, conn.SessionReused())
		}
		for _, junk := range []string{"junk", string(first[:len(first)/2])} {
			if _, err := openssl.DialSession("tcp", addr, client, 0, []byte(junk)); err == nil {
				t.Errorf("%s: a session of %d bytes is accepted", name, len(junk))
			}
		}
	}
	below, out := pipe(t)
	conn := must[*openssl.Conn](t)(openssl.Server(below, id.ctx(t)))
	if _, err := conn.GetSession(); err == nil {
		t.Error("a server has a session")
	}
	if _, err := must[*openssl.Conn](t)(openssl.Client(out, id.ctx(t))).GetSession(); err == nil {
		t.Error("a client has a session before the handshake")
	}
}

// A server that verifies clients resumes their sessions, and verifies the clients again.
func TestServerSessions(t *testing.T) {
	ca := issue(t, nil, "CA", "", true)
	id, visitor := issue(t, ca, "server", "DNS:localhost", false), issue(t, ca, "visitor", "", false)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		name := fmt.Sprintf("%x", version)
		ctx := id.ctx(t, ca)
		var calls []step
		accept := true
		ctx.SetVerify(openssl.VerifyPeer, record(t, &calls, func(s step) bool { return s.ok && accept }))
		sessions := new(cache)
		connect := func() (resumed bool, err error) {
			below, out := pipe(t)
			conn := must[*openssl.Conn](t)(openssl.Server(below, ctx))
			done := echo(conn)
			client := tls.Client(out, &tls.Config{
				InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: sessions, MinVersion: version, MaxVersion: version,
				Certificates: []tls.Certificate{visitor.tls(t)},
			})
			err = answered(client)
			client.Close()
			<-done
			return client.ConnectionState().DidResume, err
		}
		for i := range 2 {
			if resumed, err := connect(); err != nil || resumed != (i > 0) {
				t.Errorf("%s: connection %d: resumed is %v, error %v", name, i, resumed, err)
			}
		}
		if len(calls) != 4 {
			t.Errorf("%s: the callback gets %v, want 2 certificates in each connection", name, calls)
		}
		accept = false
		if _, err := connect(); err == nil {
			t.Errorf("%s: a resumed session is not judged by the callback", name)
		}
	}
}
