package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// named returns the lines of a relay on the shared address with a certificate for
// these names. The address is written as ADDR.
func named(t *testing.T, name string, dnsNames []string, lines ...string) string {
	t.Helper()
	crt := testkit.TempFile(t, name+".crt", testkit.Mint(t, x509.Certificate{DNSNames: dnsNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}))
	text := fmt.Sprintf("[[relay]]\nname = %q\ncrt = %q\nkey = %q\n", name, crt, testkit.AbsPKI("client.key"))
	if all := strings.Join(lines, "\n"); strings.Contains(all, "listen = ") {
		text += all + "\n"
	} else {
		text += "listen = [\"tls:ADDR\"]\n" + all + "\n"
	}
	return text
}

// sharing is a fixture whose relays share an address.
type sharing struct {
	*fixture
	at string
}

// share starts relays on a port that is free.
func share(t *testing.T, tables ...string) *sharing {
	t.Helper()
	for try := 0; ; try++ {
		addr := testkit.ClosedPort(t)
		c := parseShared(t, addr, tables...)
		log := new(testkit.Log)
		s, err := New(c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if errors.Is(err, syscall.EADDRINUSE) && try < 20 { // another program has taken the port
			continue
		}
		require.NoError(t, err)
		f := &sharing{&fixture{Server: s, t: t, log: log}, addr}
		go f.Serve()
		t.Cleanup(func() {
			f.Close()
			if t.Failed() {
				t.Log(log.String())
			}
		})
		return f
	}
}

func parseShared(t *testing.T, addr string, tables ...string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(strings.ReplaceAll(strings.Join(tables, ""), "ADDR", addr)))
	require.NoError(t, err)
	return c
}

func (f *sharing) reload(tables ...string) error {
	f.t.Helper()
	return f.Reload(parseShared(f.t, f.at, tables...))
}

// relay returns the running relay with a name.
func (f *sharing) relay(name string) *relay {
	f.t.Helper()
	r := f.running(name)
	require.NotNil(f.t, r, name)
	return r
}

func (f *sharing) lobby() *counters { return f.listeners[0].lobby.count }

// dial connects a client that asks for a name, with a certificate of the test PKI.
// An empty name is not sent.
func (f *sharing) dial(name string, changes ...func(*tls.Config)) (*tls.Conn, error) {
	f.t.Helper()
	c := clientConfig(f.t)
	c.ServerName = name
	if name == "" {
		c.InsecureSkipVerify = true
	}
	for _, change := range changes {
		change(c)
	}
	conn := tls.Client(testkit.Dial(f.t, f.at), c)
	return conn, conn.Handshake()
}

// greeter is a backend that greets and is then an echo.
func greeter(t *testing.T, text string) string {
	t.Helper()
	return fmt.Sprintf("backend = %q", backend(t, func(conn net.Conn) {
		io.WriteString(conn, text+"\n")
		testkit.Echo(conn)
	}))
}

// reaches expects that a client with a name gets to a backend, and returns the
// connection.
func (f *sharing) reaches(name, greeting string, changes ...func(*tls.Config)) *tls.Conn {
	f.t.Helper()
	conn, err := f.dial(name, changes...)
	require.NoError(f.t, err, name)
	testkit.Hear(f.t, conn, greeting+"\n")
	testkit.Exchange(f.t, conn, "hello")
	return conn
}

// refuses expects the alert unrecognized_name.
func (f *sharing) refuses(name string, changes ...func(*tls.Config)) {
	f.t.Helper()
	_, err := f.dial(name, changes...)
	require.ErrorContains(f.t, err, "tls: unrecognized name", name)
}

func anyName(c *tls.Config) { c.InsecureSkipVerify = true }

func withTLS12(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }

// The server name chooses the relay with its certificate and its backend: the exact
// name first, then the wildcard, then the default.
func TestNamesChooseTheRelay(t *testing.T) {
	f := share(t,
		named(t, "first", []string{"a.test", "*.wild.test"}, greeter(t, "first")),
		named(t, "second", []string{"other.test"}, greeter(t, "second"), `servernames = ["b.test", "exact.wild.test", "*.Sub.wild.test."]`),
		named(t, "third", []string{"third.test"}, greeter(t, "third"), `servernames = []`, `default-server = true`))
	for name, want := range map[string]string{
		"a.test": "first", "A.tEST": "first", "x.wild.test": "first", "X.WILD.test": "first",
		"b.test": "second", "exact.wild.test": "second", "y.sub.wild.test": "second",
		"third.test": "third", "other.test": "third", "wild.test": "third", "sub.wild.test": "first", "x.y.wild.test": "third", "": "third", "a.test.evil.test": "third",
	} {
		for _, version := range []func(*tls.Config){withTLS12, func(*tls.Config) {}} {
			conn := f.reaches(name, want, anyName, version)
			own := conn.ConnectionState().PeerCertificates[0].DNSNames[0]
			require.Equal(t, map[string]string{"first": "a.test", "second": "other.test", "third": "third.test"}[want], own, name)
			require.NoError(t, conn.CloseWrite())
			io.ReadAll(conn)
			conn.Close()
		}
	}
	require.EqualValues(t, 2*14, f.lobby().accepted.Value())
	require.EqualValues(t, 2*5, f.relay("first").count.accepted.Value())
	require.EqualValues(t, 2*3, f.relay("second").count.handshakes.Value())
	require.EqualValues(t, 2*6, f.relay("third").count.forwarded.Value())
	testkit.Eventually(t, func() bool {
		active := f.lobby().active.Value()
		for _, name := range []string{"first", "second", "third"} {
			active += f.relay(name).count.active.Value()
		}
		return active == 0
	}, "connections are counted as active after their end")
	f.logs(`msg="connection ended" relay=second connection=`)
	require.Regexp(t, `msg="connection ended" relay=second connection=\d+ client=127.0.0.1:\d+ servername=exact.wild.test `, f.log.String())
	require.Contains(t, f.log.String(), "msg=listening relay=\"first, second, third\" mode=tcp address=tls:")
}

// A name that a client chose cannot forge log lines or make them long, and does not
// match the name of a relay by accident.
func TestNamesOfHostileClients(t *testing.T) {
	f := share(t, named(t, "a", []string{"a.test"}, greeter(t, "a")), named(t, "b", []string{"*.b.test", "k.test"}, greeter(t, "b")))
	refused := []string{"c.test", "x\" relay=a msg=\"y", "a.test\nlevel=WARN", "\u212a.test", ".b.test", strings.Repeat("x", 255), "*", "a", "test", "a.test/", "a.test:443", "\x1b[31m"}
	for _, name := range refused {
		f.refuses(name)
	}
	f.refuses("", anyName)
	for range 2 {
		f.reaches("a.test.", "a", func(c *tls.Config) { c.InsecureSkipVerify = true })
	}
	testkit.Eventually(t, func() bool { return f.lobby().handshakesFailed.Value() == int64(len(refused)+1) }, "not all were refused")
	require.EqualValues(t, len(refused)+1, f.lobby().namesRefused.Value())
	require.Zero(t, f.relay("b").count.accepted.Value())
	f.logs("the client has no server name, and no relay has default-server")
	f.logs(`no relay has the server name \"c.test\"`)
	f.logs(`level=INFO msg="connection failed" listener=tls:` + f.at)
	for line := range strings.Lines(f.log.String()) {
		require.True(t, strings.HasPrefix(line, "time="), line)
		require.Less(t, len(line), 1000)
		require.NotContains(t, line, "\x1b")
	}
	require.Contains(t, string(f.countersJSON()), `"names_refused": 13`)
}

func (f *sharing) countersJSON() string { return f.process.vars.String() }

// Each relay has its own policy about client certificates.
func TestNamesHaveTheirOwnPolicy(t *testing.T) {
	cas := fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true", testkit.AbsPKI("root.crt"))
	f := share(t,
		named(t, "open", []string{"open.test"}, greeter(t, "open"), `minversion = "1.3"`),
		named(t, "closed", []string{"closed.test"}, greeter(t, "closed"), cas))
	f.reaches("open.test", "open")
	_, err := f.dial("open.test", withTLS12)
	require.Error(t, err)
	for _, version := range []func(*tls.Config){withTLS12, func(*tls.Config) {}} {
		f.reaches("closed.test", "closed", version, func(c *tls.Config) {
			c.Certificates = []tls.Certificate{testkit.KeyPair(t, "client.crt", "client.key")}
		})
		conn, err := f.dial("closed.test", version)
		if err == nil { // in TLS 1.3 the refusal comes later
			_, err = conn.Read(make([]byte, 1))
		}
		require.Error(t, err)
	}
	for name, failed := range map[string]int64{"open": 1, "closed": 2} {
		testkit.Eventually(t, func() bool { return f.relay(name).count.handshakesFailed.Value() == failed }, "not %d failures of %s", failed, name)
	}
	require.EqualValues(t, 2, f.relay("closed").count.certValid.Value())
}

// FIPS mode is a policy of one relay.
func TestNamesAndFIPS(t *testing.T) {
	conf := testkit.FIPSConfig(t)
	f := share(t,
		named(t, "open", []string{"open.test"}, greeter(t, "open")),
		named(t, "strict", []string{"strict.test"}, greeter(t, "strict"), fmt.Sprintf("fips = true\nfips-config = %q", conf)))
	for _, name := range []string{"open", "strict"} {
		conn := f.reaches(name+".test", name)
		require.NoError(t, conn.CloseWrite())
		io.ReadAll(conn)
	}
	f.logs("cipher=TLS_AES_256_GCM_SHA384 certificate=none providers=fips")
	require.NotRegexp(t, "relay=open .*providers=", f.log.String())
}

// A session of one relay is not resumed with another: that relay may ask for a
// certificate. The same client resumes it with the same relay.
func TestNamesDoNotShareSessions(t *testing.T) {
	cas := fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true", testkit.AbsPKI("root.crt"))
	f := share(t,
		named(t, "open", []string{"open.test", "too.test"}, greeter(t, "open")),
		named(t, "other", []string{"other.test"}, greeter(t, "other")),
		named(t, "closed", []string{"closed.test"}, greeter(t, "closed"), cas))
	for _, version := range []func(*tls.Config){withTLS12, func(*tls.Config) {}} {
		cache := tls.NewLRUClientSessionCache(10)
		oneSession := func(c *tls.Config) { c.ClientSessionCache = alwaysSame{cache} }
		conn := f.reaches("open.test", "open", anyName, version, oneSession)
		require.False(t, conn.ConnectionState().DidResume)
		for _, name := range []string{"open.test", "too.test"} { // the same relay
			conn = f.reaches(name, "open", anyName, version, oneSession)
			require.True(t, conn.ConnectionState().DidResume, name)
		}
		conn = f.reaches("other.test", "other", anyName, version, func(c *tls.Config) { c.ClientSessionCache = alwaysSame{cache} })
		require.False(t, conn.ConnectionState().DidResume)
		require.Equal(t, []string{"other.test"}, conn.ConnectionState().PeerCertificates[0].DNSNames)

		cache = tls.NewLRUClientSessionCache(10)
		f.reaches("open.test", "open", anyName, version, oneSession)
		conn, err := f.dial("closed.test", anyName, version, oneSession)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		require.ErrorContains(t, err, "tls: ")
		require.False(t, conn.ConnectionState().DidResume)
	}
	require.Zero(t, f.relay("closed").count.handshakes.Value())
}

// alwaysSame offers the same session to every server.
type alwaysSame struct{ tls.ClientSessionCache }

func (c alwaysSame) Get(string) (*tls.ClientSessionState, bool) { return c.ClientSessionCache.Get("x") }

func (c alwaysSame) Put(_ string, s *tls.ClientSessionState) { c.ClientSessionCache.Put("x", s) }
