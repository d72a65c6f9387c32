package interop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// An old server asks the client for a new handshake in the middle of the data. The
// handshake succeeds, and data that is sent in the meantime is not lost, as it is in the
// original.
func TestRenegotiationAskedForByAServer(t *testing.T) {
	server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2",
		"-no_ticket", "-no_cache", // a resumed session shows no certificate
		"-cert", testkit.PKI("server.crt"), "-key", testkit.PKI("server.key"))
	addr := server.await("ACCEPT ", 1)
	w := newWire(t, testkit.Dial(t, addr), testkit.Client())
	w.pumpUntil("the handshake", w.HandshakeDone)
	require.Equal(t, "TLSv1.2", w.Version())
	w.say("before\n")
	server.await("before", 1)

	server.say("R\n")
	// The request is on its way: the next bytes that arrive are its first.
	w.got, w.err = w.Receive(w.got, <-w.in)
	require.NoError(t, w.err)
	require.NoError(t, w.Send([]byte("sent in the middle\n")))
	hello := w.Outgoing(nil)
	require.NotEmpty(t, hello)
	require.Equal(t, byte(22), hello[0], "a handshake record")
	require.False(t, w.Flushed(), "data wait for the end of the handshake")
	_, err := w.conn.Write(hello)
	require.NoError(t, err)
	w.pumpUntil("the second handshake", w.Flushed)
	server.await("sent in the middle", 1)

	server.say("reply\n")
	w.pumpUntilGot("reply\n")
	w.say("after\n")
	server.await("after", 1)
	require.True(t, w.ClientCertValid(), "the verdict of the second handshake")
	require.Len(t, w.ClientCertIDs(), 2, "only of the second handshake")
}

// An answer of OpenSSL after our close_notify is dropped, because the peer would take
// it for plain text.
func TestRenegotiationAskedForAfterOurEnd(t *testing.T) {
	server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2",
		"-cert", testkit.PKI("server.crt"), "-key", testkit.PKI("server.key"))
	w := newWire(t, testkit.Dial(t, server.await("ACCEPT ", 1)), testkit.Client())
	w.pumpUntil("the handshake", w.HandshakeDone)
	server.say("R\n")
	request := <-w.in
	require.NoError(t, w.CloseWrite())
	require.NotEmpty(t, w.Outgoing(nil), "our close_notify")
	_, err := w.Receive(nil, request)
	require.NoError(t, err)
	require.Empty(t, w.Outgoing(nil))
}

// Each renegotiation costs a client as much as a handshake, and the server
// next to nothing.
func TestRenegotiationsOfAServerAreBounded(t *testing.T) {
	const most = 16
	server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2",
		"-cert", testkit.PKI("server.crt"), "-key", testkit.PKI("server.key"))
	w := newWire(t, testkit.Dial(t, server.await("ACCEPT ", 1)), testkit.Client())
	w.pumpUntil("the handshake", w.HandshakeDone)
	for i := range most {
		server.say("R\n")
		w.got, w.err = w.Receive(w.got, <-w.in)
		require.NoError(t, w.err, "renegotiation %d", i+1)
		w.flush()
		said := fmt.Sprintf("still here after %d\n", i+1)
		w.say(said)
		w.pumpUntil("the new handshake", w.Flushed)
		server.await(strings.TrimSuffix(said, "\n"), 1)
	}
	server.say("R\n")
	_, err := w.Receive(nil, <-w.in)
	require.ErrorContains(t, err, "more than 16 renegotiations")
	require.Equal(t, err, w.Filter.Err())
}

// Without the extended master secret two connections can share their keys
// (RFC 7627), so there is nothing that only their two ends know.
func TestNoExporterWithoutTheExtendedMasterSecret(t *testing.T) {
	l := testkit.Listen(t)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	start(t, "gnutls-bin", "gnutls-cli", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2:%NO_SESSION_HASH",
		"--x509cafile", testkit.PKI("root.crt"), "--port", port, "localhost")
	w := newWire(t, accept(t, l), testkit.Server())
	w.pumpUntil("the handshake", w.HandshakeDone)
	_, err = w.ExportKeyingMaterial("EXPORTER-test", nil, 32)
	require.ErrorContains(t, err, "RFC 7627")
	require.Nil(t, w.TLSUnique())
}

// In a new handshake a server sends a certificate, possibly another one, long before
// it proves possession of the key. Until then the certificate is not valid.
func TestNotValidBeforeARenegotiationProvesTheKey(t *testing.T) {
	server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", "-tls1_2",
		"-no_ticket", "-no_cache", // a resumed session shows no certificate
		"-cert", testkit.PKI("server.crt"), "-key", testkit.PKI("server.key"))
	w := newWire(t, testkit.Dial(t, server.await("ACCEPT ", 1)), sslfilter.Options{Client: true, CACrt: testkit.PKI("root.crt"), InsecureSkipVerify: true})
	w.pumpUntil("the handshake", w.HandshakeDone)
	require.True(t, w.ClientCertValid())
	server.say("R\n")
	w.deliver(<-w.in, "the request")
	require.NoError(t, w.Send([]byte("kept until the end\n")))
	shown := 0
	byteByByte(w, "the second handshake", func() bool {
		if !w.ClientCertValid() {
			require.False(t, w.Flushed())
			require.False(t, w.Peer().Valid)
			require.True(t, w.ClientCertExists())
			shown++
		}
		return w.Flushed()
	})
	require.NotZero(t, shown, "the certificate was never checked before the proof")
	require.True(t, w.ClientCertValid())

	// This time the proof never arrives.
	server.say("R\n")
	w.deliver(<-w.in, "the request")
	byteByByte(w, "the certificate", func() bool { return !w.ClientCertValid() })
	_, err := w.Receive(nil, bytes.Repeat([]byte{0xff}, 1<<15))
	require.Error(t, err)
	require.False(t, w.ClientCertValid())
	require.False(t, w.Peer().Valid)
}

// byteByByte delivers single bytes until ok holds. The rest of the input that arrived
// with the last byte is dropped.
func byteByByte(w *wire, what string, ok func() bool) {
	w.t.Helper()
	done := false
	w.pumpUntilFed(what, func(b []byte) bool {
		for i := 0; i < len(b) && !done; i++ {
			w.deliver(b[i:i+1], what)
			done = ok()
		}
		return done
	})
}

// A server that asks for a new handshake and then closes never completes it. Reading
// ends as usual, and every later attempt to send returns an error.
func TestCloseInTheMiddleOfARenegotiation(t *testing.T) {
	const script = "testdata/renegotiate-and-close.pl"
	peers.FindFor(t, script, "libnet-ssleay-perl", "perl")
	for name, speak := range map[string]func(*wire) error{
		"nothing to say": nil,
		"CloseWrite":     func(w *wire) error { return w.CloseWrite() },
		"Send":           func(w *wire) error { return w.Send([]byte("too late")) },
		"Detach":         func(w *wire) error { _, err := w.Detach(); return err },
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, "libnet-ssleay-perl", "perl", script, testkit.PKI("server.crt"), testkit.PKI("server.key"))
			w := newWire(t, testkit.Dial(t, server.await("ACCEPT ", 1)), testkit.Client())
			w.pumpUntil("the end", func() bool { return errors.Is(w.err, io.EOF) })
			require.Equal(t, "bye\n", string(w.got))
			require.NoError(t, w.Err())
			if speak == nil {
				require.True(t, w.Flushed())
				return
			}
			err := speak(w)
			require.Empty(t, w.Outgoing(nil))
			var failure *sslfilter.Error
			require.ErrorAs(t, w.Err(), &failure)
			require.Contains(t, failure.Error(), "in the middle of a renegotiation")
			if name == "Detach" {
				require.Same(t, failure, err)
			}
		})
	}
}

// A server rejects a client's request for a new handshake and continues. GnuTLS and
// OpenSSL, as clients, both give up then.
func TestRenegotiationAskedForByAClient(t *testing.T) {
	options := testkit.Server(testkit.TLS12)
	t.Run("gnutls-cli", func(t *testing.T) {
		l := testkit.Listen(t)
		port := l.Addr().String()[strings.LastIndex(l.Addr().String(), ":")+1:]
		client := start(t, "gnutls-bin", "gnutls-cli", "--rehandshake", "--x509cafile", testkit.PKI("root.crt"), "--port", port, "localhost")
		w := newWire(t, accept(t, l), options)
		w.pumpUntil("the handshake", w.HandshakeDone)
		refused(t, w)
		client.await("A TLS warning alert has been received", 1)
	})
	t.Run("openssl s_client", func(t *testing.T) {
		l := testkit.Listen(t)
		client := start(t, "openssl", "openssl", "s_client", "-connect", l.Addr().String(), "-CAfile", testkit.PKI("root.crt"))
		w := newWire(t, accept(t, l), options)
		w.pumpUntil("the handshake", w.HandshakeDone)
		client.say("hello\n")
		w.pumpUntilGot("hello\n")
		client.say("R\n")
		refused(t, w)
		client.await("RENEGOTIATING", 1)
	})
}

// refused receives the ClientHello of a renegotiation and checks that it is rejected.
func refused(t *testing.T, w *wire) {
	t.Helper()
	plain, err := w.Receive(nil, <-w.in)
	require.NoError(t, err)
	require.Empty(t, plain)
	alert := w.Outgoing(nil)
	require.NotEmpty(t, alert, "it must be rejected at once")
	require.Equal(t, byte(21), alert[0], "an alert record")
	_, err = w.conn.Write(alert)
	require.NoError(t, err)
	require.NoError(t, w.Err())
	require.NoError(t, w.Send([]byte("goes on")))
	require.NotEmpty(t, w.Outgoing(nil))
}
