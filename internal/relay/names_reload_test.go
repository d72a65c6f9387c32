package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A reload changes names, certificates, backends, and relays that share addresses.
func TestNamesReload(t *testing.T) {
	one := func(names ...string) string { return named(t, "one", names, greeter(t, "one")) }
	web := fmt.Sprintf("mode = \"http\"\nbackend = %q", mirror(t))
	f := share(t, one("a.test"))
	f.reaches("z.test", "one", anyName)

	require.NoError(t, f.reload(one("a.test"), named(t, "two", []string{"b.test"}, greeter(t, "two"))), "a relay is added")
	old := f.reaches("b.test", "two")
	f.reaches("a.test", "one")
	f.refuses("z.test", anyName)
	require.Contains(t, f.countersJSON(), `"two": {`)
	require.Contains(t, f.countersJSON(), `"listeners": {"tls:`+f.at+`": {`)

	require.NoError(t, f.reload(named(t, "two", []string{"a.test"}, greeter(t, "new two")), one("b.test", "c.test")), "names and order are changed")
	conn := f.reaches("a.test", "new two")
	require.Equal(t, []string{"a.test"}, conn.ConnectionState().PeerCertificates[0].DNSNames)
	f.reaches("b.test", "one")
	testkit.Exchange(t, old, "still here")

	for text, want := range map[string]string{
		one("a.test") + named(t, "two", []string{"a.test"}, greeter(t, "x")):                                            `relay "two": servernames: "a.test" belongs to relay "one" already, which shares tls:` + f.at,
		one("a.test") + named(t, "two", nil, greeter(t, "x")):                                                           `relay "two": servernames: is missing, and the certificate has no DNS name`,
		one("a.test") + named(t, "two", []string{"b.test"}, greeter(t, "x"), `cacrt = "nowhere"`):                       `relay "two": cacrt (nowhere)`,
		one("a.test") + strings.Replace(named(t, "two", []string{"b.test"}, greeter(t, "x")), "ADDR", "127.0.0.1:0", 1): `a change of listen of relay "two" (tls:127.0.0.1:0 is new) needs a restart`,
		one("a.test") + named(t, "two", []string{"b.test"}, web):                                                        `a change of mode of relay "two" needs a restart`,
		named(t, "two", []string{"a.test"}, greeter(t, "x"), `listen = ["127.0.0.1:1"]`):                                `(tls:` + f.at + ` is missing) needs a restart`,
	} {
		require.ErrorContains(t, f.reload(text), want)
		f.reaches("a.test", "new two")
		f.reaches("c.test", "one")
	}

	require.NoError(t, f.reload(one("c.test"), named(t, "web", []string{"w.test"}, web)), "a relay is removed, and one in mode http added")
	conn, err := f.dial("w.test")
	require.NoError(t, err)
	kept := newLines(t, conn)
	status, _ := kept.ask(getRoot)
	require.Equal(t, 200, status)
	f.refuses("a.test")
	require.NotContains(t, f.countersJSON(), `"two": {`)
	require.Len(t, f.all(), 3, "relay two still has connections")
	testkit.Exchange(t, old, "still here")

	removed := f.relay("web")
	require.NoError(t, f.reload(one("c.test")), "the relay in mode http is removed")
	require.Nil(t, f.listeners[0].current.Load().names)
	status, body := kept.ask(getRoot)
	require.Equal(t, 200, status)
	require.NotEmpty(t, body)
	_, err = kept.in.ReadByte()
	require.Equal(t, io.EOF, err, "the kept connection ends with its next answer")
	conn.Close()
	<-removed.handoff.closed // its HTTP server ends after its last connection
	f.reaches("w.test", "one", anyName)
	require.NoError(t, old.CloseWrite())
	io.ReadAll(old)

	require.NoError(t, f.reload(one("c.test"), named(t, "two", []string{"b.test"}, web)), "a name is used again, in another mode")
	conn, err = f.dial("b.test")
	require.NoError(t, err)
	status, _ = newLines(t, conn).ask(getRoot)
	require.Equal(t, 200, status)
	require.EqualValues(t, 1, f.relay("two").count.accepted.Value())
}

// A client that has sent a part of its ClientHello before a reload gets the relay of
// the new configuration; no context that is freed is used.
func TestNamesReloadDuringAHandshake(t *testing.T) {
	one := named(t, "one", []string{"a.test"}, greeter(t, "one"))
	f := share(t, one, named(t, "two", []string{"b.test"}, greeter(t, "two")))
	halt := &halting{TCPConn: testkit.Dial(t, f.at), at: 20, half: make(chan struct{}), go_: make(chan struct{})}
	c := clientConfig(t)
	c.ServerName = "b.test"
	conn := tls.Client(halt, c)
	done := make(chan error, 1)
	go func() { done <- conn.Handshake() }()
	<-halt.half
	testkit.Eventually(t, func() bool { return f.lobby().active.Value() == 1 }, "the connection was not accepted")
	require.NoError(t, f.reload(one, named(t, "three", []string{"b.test"}, greeter(t, "three"))))
	close(halt.go_)
	require.NoError(t, <-done)
	testkit.Hear(t, conn, "three\n")
	require.EqualValues(t, 1, f.relay("three").count.accepted.Value())
}

// halting stops in the middle of the first write.
type halting struct {
	*net.TCPConn
	at        int
	half, go_ chan struct{}
}

func (h *halting) Write(b []byte) (int, error) {
	if at := h.at; at > 0 {
		h.at = 0
		if n, err := h.TCPConn.Write(b[:at]); err != nil {
			return n, err
		}
		close(h.half)
		<-h.go_
		n, err := h.TCPConn.Write(b[at:])
		return at + n, err
	}
	return h.TCPConn.Write(b)
}

// Reloads, clients and the end of the relay at the same time.
func TestNamesReloadUnderLoad(t *testing.T) {
	one := named(t, "one", []string{"a.test"}, greeter(t, "one"))
	two := named(t, "two", []string{"b.test"}, greeter(t, "two"))
	f := share(t, one, two)
	stop := make(chan struct{})
	errs := make(chan error, 4)
	for i := range 4 {
		go func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					errs <- nil
					return
				default:
				}
				name, want := "a.test", "one\n"
				if (i+n)%2 == 1 {
					name, want = "b.test", "two\n"
				}
				c := clientConfig(t)
				c.ServerName = name
				conn, err := tls.Dial("tcp", f.at, c)
				if err == nil {
					conn.SetDeadline(time.Now().Add(testkit.Patience))
					got := make([]byte, 4)
					_, err = io.ReadFull(conn, got)
					if err == nil && string(got) != want {
						err = fmt.Errorf("%s got %q", name, got)
					}
					conn.Close()
				}
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range 20 {
		require.NoError(t, f.reload(two, one))
		require.NoError(t, f.reload(one, two))
	}
	close(stop)
	for range 4 {
		require.NoError(t, <-errs)
	}
}
