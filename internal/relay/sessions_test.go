package relay

import (
	"bytes"
	"context"
	"expvar"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// A relay without a Redis client does not start with [sessions], and names the program
// that has one.
func TestSessionsNeedAnotherProgram(t *testing.T) {
	c, err := config.Parse([]byte("[sessions]\nredis = \"redis://127.0.0.1\"\nsecret-file = \"/none\"\n" +
		relayTable(`listen = ["tls:127.0.0.1:0"]`, crt(), `backend = "127.0.0.1:1"`)))
	require.NoError(t, err)
	_, err = New(c, slog.New(slog.DiscardHandler))
	require.EqualError(t, err, "sslrelay: sessions.redis: this program has no Redis client; github.com/seed-014b8713/sslfilter/adapters/redis/cmd/sslrelay is the same relay with one")
	var out bytes.Buffer
	require.Equal(t, 1, Check(&out, c, time.Now()).Errors)
	require.Contains(t, out.String(), "adapters/redis/cmd/sslrelay")
}

// scopes are Sessions that note for which relays they have keys.
type scopes map[string]*sslfilter.TicketKeys

func (s scopes) TicketKeys(relay string) (*sslfilter.TicketKeys, error) {
	if s[relay] == nil {
		s[relay] = new(sslfilter.TicketKeys)
	}
	return s[relay], nil
}

func (s scopes) Retain(relays ...string) {
	maps.DeleteFunc(s, func(name string, _ *sslfilter.TicketKeys) bool { return !slices.Contains(relays, name) })
}

func (s scopes) Store(string) sslnet.SessionStore { return nil }
func (s scopes) Start(context.Context) error      { return nil }
func (s scopes) Counters() map[string]expvar.Var  { return nil }
func (s scopes) String() string                   { return "scopes" }
func (s scopes) Close() error                     { return nil }

func (s scopes) names() []string { return slices.Sorted(maps.Keys(s)) }

// The shared keys of a relay that a reload removes are forgotten, and so are those of a
// new relay if the reload fails. The relays that stay keep their keys.
func TestSessionsOfRemovedRelays(t *testing.T) {
	listen := "127.0.0.1:" + peers.FreePort(t)
	parsed := func(relays ...string) *config.Config {
		text := "[sessions]\nredis = \"redis://127.0.0.1\"\nsecret-file = \"/none\"\n"
		for _, relay := range relays {
			name, key, _ := strings.Cut(relay, " ")
			if key == "" {
				key = testkit.AbsPKI("server.key")
			}
			text += fmt.Sprintf("[[relay]]\nname = %q\nlisten = [\"tls:%s\"]\nservernames = [\"%s.test\"]\ncrt = %q\nkey = %q\nbackend = \"127.0.0.1:1\"\n",
				name, listen, name, testkit.AbsPKI("server.crt"), key)
		}
		c, err := config.Parse([]byte(text))
		require.NoError(t, err)
		return c
	}
	shared := make(scopes)
	s, err := NewWith(parsed("a", "b"), slog.New(slog.DiscardHandler), func(*config.Sessions, *slog.Logger) (Sessions, error) { return shared, nil })
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, []string{"a", "b"}, shared.names())
	a, b := shared["a"], shared["b"]

	require.ErrorContains(t, s.Reload(parsed("a", "c", "d /none")), "/none")
	require.Equal(t, []string{"a", "b"}, shared.names(), "a reload that failed")
	require.NoError(t, s.Reload(parsed("a", "c")))
	require.Equal(t, []string{"a", "c"}, shared.names())
	require.Same(t, a, shared["a"])
	require.NoError(t, s.Reload(parsed("a", "b")))
	require.Equal(t, []string{"a", "b"}, shared.names())
	require.Same(t, a, shared["a"])
	require.NotSame(t, b, shared["b"])
}

// visitor is a client that keeps its sessions, and reports whether a connection resumed
// one.
func visitor(t *testing.T, highest sslfilter.Version, more ...testkit.Change) func(addr string) bool {
	ctx, cache := testkit.Ctx(t, testkit.Client(append(more, testkit.UpTo(highest))...)), sslsession.NewCache(8)
	return func(addr string) bool {
		conn := sslnet.Client(testkit.Dial(t, addr), ctx)
		require.NoError(t, conn.SetSessions(cache))
		testkit.Exchange(t, conn, "hello") // also brings the tickets of TLS 1.3
		resumed := conn.State().Resumed
		require.NoError(t, conn.Close())
		return resumed
	}
}

func withCert(o *sslfilter.Options) {
	o.Crt, o.Key = testkit.PKI("client-ec.crt"), testkit.PKI("client-ec.key")
}

func reload(t *testing.T, f *fixture, text string) error {
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return f.Reload(c)
}

// A client resumes its session after a reload, and with resume-client-cert also a client
// with a certificate.
func TestSessionsSurviveAReload(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		for name, lines := range map[string]string{
			"no certificate": "",
			"certificate":    fmt.Sprintf("requirevalidclientcert = true\nresume-client-cert = true\ncacrt = %q\n", testkit.AbsPKI("root.crt")),
		} {
			t.Run(name, func(t *testing.T) {
				text := relayTable(`listen = ["tls:127.0.0.1:0"]`, crt(), lines, fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
				f, resumes := startAll(t, text), visitor(t, highest, withCert)
				require.False(t, resumes(f.addr()))
				require.True(t, resumes(f.addr()))
				require.NoError(t, reload(t, f, text))
				require.True(t, resumes(f.addr()))
				require.EqualValues(t, 2, f.Server.all()[0].count.resumed.Value())
				for why, count := range f.Server.all()[0].count.notResumed {
					require.Zero(t, count.Value(), why)
				}
			})
		}
	})
}

// If a session is resumed, the current allow-clients decides whether its client is served.
func TestSessionsOfAllowedClients(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		var reached atomic.Int32
		echo := backend(t, func(conn net.Conn) {
			reached.Add(1)
			testkit.Echo(conn)
		})
		text := func(allowed string) string {
			return relayTable(`listen = ["tls:127.0.0.1:0"]`, requiring(allowed), "resume-client-cert = true\n", fmt.Sprintf("backend = %q", echo))
		}
		f := startAll(t, text("cn:client EC"))
		ctx, cache := testkit.Ctx(t, testkit.Client(testkit.UpTo(highest), withCert)), sslsession.NewCache(8)
		visit := func(allowed bool) (resumed bool) {
			conn := sslnet.Client(testkit.Dial(t, f.addr()), ctx)
			defer conn.Close()
			require.NoError(t, conn.SetSessions(cache))
			require.NoError(t, conn.Handshake())
			resumed = conn.State().Resumed
			if allowed {
				testkit.Exchange(t, conn, "hello")
			} else {
				_, err := io.ReadAll(conn)
				require.Error(t, err, "the end is not an orderly one")
			}
			return resumed
		}
		require.False(t, visit(true))
		require.True(t, visit(true))
		require.NoError(t, reload(t, f, text("cn:client valid")))
		require.True(t, visit(false), "the certificate is valid, and the client is not allowed any more")
		require.EqualValues(t, 1, f.count(func(c *counters) value64 { return &c.certDenied }))
		f.logs(`error="the client is not in allow-clients"`)
		require.EqualValues(t, 2, reached.Load())
		require.NoError(t, reload(t, f, text("cn:client EC")))
		visit(true)
		require.EqualValues(t, 3, reached.Load())
	})
}

// Two relays with the same file of keys resume each other's sessions. A reload reads new
// keys, and with a wrong file it changes nothing.
func TestSessionsTicketKeys(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		dir, key := t.TempDir(), func(b byte) []byte { return bytes.Repeat([]byte{b}, sslfilter.TicketKeySize) }
		file := write(t, dir+"/keys", key(1))
		text := fmt.Sprintf("[sessions]\nticket-keys = %q\n", file) +
			relayTable(`listen = ["tls:127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
		one, other := startAll(t, text), startAll(t, text)
		resumes := func(from, at *fixture) bool {
			visit := visitor(t, highest)
			require.False(t, visit(from.addr()))
			return visit(at.addr())
		}
		require.True(t, resumes(one, other))

		write(t, file, append(key(2), key(1)...)) // rotation: the old key still decrypts
		require.NoError(t, reload(t, one, text))
		require.True(t, resumes(other, one))
		require.False(t, resumes(one, other), "the other one has not read the new key")

		write(t, file, key(3)[1:])
		require.ErrorContains(t, reload(t, one, text), "sessions.ticket-keys: "+file+": the file has 79 bytes; a ticket key has 80")
		require.True(t, resumes(other, one), "the keys are as before")

		write(t, file, key(3))
		require.NoError(t, reload(t, one, text))
		require.False(t, resumes(other, one), "the old keys are gone")
		require.EqualValues(t, 1, one.Server.all()[0].count.notResumed[sslfilter.NotResumedUnknownKey].Value())
		require.True(t, resumes(one, one))
	})
}

// A reload without the file of keys forgets its keys, and a later reload can bring a file back.
func TestSessionsTicketKeysRemoved(t *testing.T) {
	file := write(t, t.TempDir()+"/keys", bytes.Repeat([]byte{1}, sslfilter.TicketKeySize))
	relay := relayTable(`listen = ["tls:127.0.0.1:0"]`, crt(), fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
	with := fmt.Sprintf("[sessions]\nticket-keys = %q\n", file) + relay
	f := startAll(t, with)
	visit := visitor(t, sslfilter.VersionTLS13)
	require.False(t, visit(f.addr()))
	require.True(t, visit(f.addr()))
	keys := weak.Make(f.Server.keys.file)
	require.NotNil(t, keys.Value())

	require.NoError(t, reload(t, f, relay))
	require.False(t, visit(f.addr()))
	require.True(t, visit(f.addr()))
	testkit.Eventually(t, func() bool {
		runtime.GC()
		return keys.Value() == nil
	}, "the keys of the file are not in use any more")

	require.NoError(t, reload(t, f, with))
	require.False(t, visit(f.addr()))
	require.True(t, visit(f.addr()))
}

func TestSessionsTicketKeysCheck(t *testing.T) {
	check := func(t *testing.T, text string) (Findings, string) {
		c, err := config.Parse([]byte(text + relayTable(`listen = ["tls:127.0.0.1:0"]`, crt(), `backend = "127.0.0.1:1"`)))
		require.NoError(t, err)
		var out bytes.Buffer
		return Check(&out, c, time.Now()), out.String()
	}
	file := write(t, t.TempDir()+"/keys", bytes.Repeat([]byte{1, 2}, 80))
	found, out := check(t, fmt.Sprintf("[sessions]\nticket-keys = %q\n", readable(t, file)))
	require.Contains(t, out, "ERROR: sessions.ticket-keys: "+file+": ", "two keys of one name")
	require.Equal(t, 1, found.Errors)

	write(t, file, append(bytes.Repeat([]byte{1}, 80), bytes.Repeat([]byte{2}, 80)...))
	found, out = check(t, fmt.Sprintf("[sessions]\nticket-keys = %q\n", readable(t, file)))
	require.Contains(t, out, "ticket keys: 2 in "+file+"; the one named 01010101010101010101010101010101 encrypts")
	require.Contains(t, out, "WEAK: sessions.ticket-keys: every user of the system has access to "+file)
	require.Zero(t, found.Errors)
}
