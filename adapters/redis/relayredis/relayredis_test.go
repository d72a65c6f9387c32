package relayredis_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/adapters/redis/relayredis"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/relay"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// startRedis starts a redis-server and returns its port.
func startRedis(t *testing.T, args ...string) (string, *peers.Program) {
	t.Helper()
	port := peers.FreePort(t)
	args = append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no"}, args...)
	p := peers.StartForeign(t, nil, peers.Find(t, "redis-server", "redis-server"), args...)
	p.AwaitPort(port)
	return port, p
}

func secretFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("5e", 32)+"\n"), 0o600))
	return file
}

// machine is a relay with its configuration.
type machine struct {
	*relay.Server
	log testkit.Log
}

// parse returns the configuration of a machine with two relays.
func parse(t *testing.T, sessions string, more ...string) *config.Config {
	t.Helper()
	backend := testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
		io.WriteString(conn, "hello")
		io.Copy(io.Discard, conn)
	})
	text := "[sessions]\n" + sessions
	for _, name := range []string{"a", "b"} {
		text += fmt.Sprintf("[[relay]]\nname = %q\nlisten = [\"tls:127.0.0.1:0\"]\ncrt = %q\nkey = %q\nbackend = %q\n%s\n",
			name, testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"), backend, strings.Join(more, "\n"))
	}
	c, err := config.Parse([]byte(text))
	require.NoError(t, err)
	return c
}

func startRelay(t *testing.T, c *config.Config) *machine {
	t.Helper()
	m := new(machine)
	var err error
	m.Server, err = relay.NewWith(c, slog.New(slog.NewTextHandler(&m.log, nil)), relayredis.Open)
	require.NoError(t, err)
	go m.Serve()
	t.Cleanup(func() {
		m.Close()
		if t.Failed() {
			t.Log(m.log.String())
		}
	})
	return m
}

// counters returns the counters of the process, below "sslrelay".
func (m *machine) counters(t *testing.T) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	m.Counters().ServeHTTP(w, httptest.NewRequest("GET", "/debug/vars", nil))
	var all map[string]map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &all))
	return all["sslrelay"]
}

func visit(t *testing.T, m *machine, relay string, config *tls.Config) (resumed bool) {
	t.Helper()
	conn, err := tls.Dial("tcp", m.Addrs(relay)[0].String(), config)
	require.NoError(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	testkit.Hear(t, conn, "hello")
	return conn.ConnectionState().DidResume
}

// A relay resumes the sessions of the relay with the same name on another machine, and of no
// other relay. It does so after a reload, and while Redis is gone.
func TestRelaysShareSessions(t *testing.T) {
	port, redis := startRedis(t, "--requirepass", "pass word")
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("pass word\n"), 0o600))
	sessions := fmt.Sprintf("redis = \"redis://127.0.0.1:%s/1\"\nredis-password = \"file:%s\"\nsecret-file = %q\n", port, password, secretFile(t))
	c := parse(t, sessions)
	one, two := startRelay(t, c), startRelay(t, parse(t, sessions))
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		client := testkit.GoClient(t, func(c *tls.Config) {
			c.MinVersion, c.MaxVersion, c.ClientSessionCache = version, version, tls.NewLRUClientSessionCache(1)
		})
		require.False(t, visit(t, one, "a", client), name)
		require.True(t, visit(t, two, "a", client), name)
		require.True(t, visit(t, one, "a", client), name)
		require.False(t, visit(t, two, "b", client), "%s: another relay resumes the session", name)
		require.True(t, visit(t, one, "b", client), name)
		require.NoError(t, one.Reload(c))
		require.True(t, visit(t, one, "b", client), "%s: the reload loses the session", name)
	}
	relays := two.counters(t)["relays"].(map[string]any)
	require.EqualValues(t, 2, relays["a"].(map[string]any)["handshakes_resumed"])
	require.EqualValues(t, 0, relays["b"].(map[string]any)["handshakes_resumed"])
	shared := one.counters(t)["sessions"].(map[string]any)
	require.EqualValues(t, 0, shared["redis_errors"])
	require.NotZero(t, shared["redis_polls"])
	require.Contains(t, []any{0., 1.}, shared["ticket_keys_derived"])

	redis.Kill()
	redis.Wait()
	three := startRelay(t, parse(t, sessions))
	require.Contains(t, three.log.String(), "level=WARN msg=sessions")
	require.NotContains(t, three.log.String(), "pass word")
	require.NotZero(t, three.counters(t)["sessions"].(map[string]any)["redis_errors"])
	client := testkit.GoClient(t, func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) })
	require.False(t, visit(t, three, "a", client))
	require.True(t, visit(t, one, "a", client), "a relay that was started without Redis makes tickets that the others cannot read")
}

// returning makes a client that resumes stored sessions, in TLS 1.2 too, and reports
// whether a connection did.
func returning(t *testing.T, highest sslfilter.Version, changes ...testkit.Change) func(addr net.Addr) bool {
	d := sslnet.Dialer{Ctx: testkit.Ctx(t, testkit.Client(append(changes, testkit.UpTo(highest))...)), Sessions: sslsession.NewCache(4)}
	return func(addr net.Addr) bool {
		t.Helper()
		conn, err := d.Dial("tcp", addr.String())
		require.NoError(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testkit.Patience))
		testkit.Hear(t, conn, "hello")
		return conn.(*sslnet.Conn).State().Resumed
	}
}

// of returns a counter of a relay.
func (m *machine) of(t *testing.T, relay, name string) float64 {
	t.Helper()
	return m.counters(t)["relays"].(map[string]any)[relay].(map[string]any)[name].(float64)
}

// With sessions.stateful, the sessions themselves are in Redis. A relay resumes those of the
// relay with the same name on another machine, and of no other relay. A session that is
// deleted in Redis is not resumed. Without Redis every client is served.
func TestRelaysStoreSessions(t *testing.T) {
	for name, more := range map[string][]string{
		"no certificate": nil,
		"certificate":    {"requirevalidclientcert = true", "resume-client-cert = true", fmt.Sprintf("cacrt = %q", testkit.AbsPKI("root.crt"))},
		"server name":    {"servernames = [\"localhost\"]"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				port, redis := startRedis(t)
				sessions := fmt.Sprintf("redis = \"redis://127.0.0.1:%s\"\nsecret-file = %q\nstateful = true\n", port, secretFile(t))
				c := parse(t, sessions, more...)
				one, two := startRelay(t, c), startRelay(t, parse(t, sessions, more...))
				visit := returning(t, highest, func(o *sslfilter.Options) { o.Crt, o.Key = testkit.PKI("client.crt"), testkit.PKI("client.key") })
				stored := func(m *machine, n float64) {
					testkit.Eventually(t, func() bool { return m.of(t, "a", "sessions_stored") >= n }, "the session is stored")
				}
				require.False(t, visit(one.Addrs("a")[0]))
				full := map[bool]float64{false: 1, true: 2}[highest == sslfilter.VersionTLS13] // the client offers any of them
				stored(one, full)
				require.True(t, visit(two.Addrs("a")[0]))
				if highest == sslfilter.VersionTLS13 { // each visit gives another session
					stored(two, 1)
				}
				require.NoError(t, one.Reload(c))
				require.True(t, visit(one.Addrs("a")[0]), "the reload loses the session")
				require.EqualValues(t, 1, one.of(t, "a", "sessions_found"))
				require.EqualValues(t, 0, one.of(t, "a", "sessions_failed"))
				if highest == sslfilter.VersionTLS13 {
					testkit.Eventually(t, func() bool { return one.of(t, "a", "sessions_stored") > one.of(t, "a", "handshakes") }, "the session is stored")
				}
				require.False(t, visit(two.Addrs("b")[0]), "another relay resumes the session")

				admin := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:" + port})
				defer admin.Close()
				require.NoError(t, admin.FlushAll(t.Context()).Err())
				require.False(t, visit(one.Addrs("a")[0]))
				require.NotZero(t, one.of(t, "a", "sessions_missing"))
				require.EqualValues(t, 1, one.of(t, "a", "not_resumed_not_stored"))

				redis.Kill()
				redis.Wait()
				require.False(t, visit(one.Addrs("a")[0]))
				require.False(t, visit(two.Addrs("a")[0]))
				testkit.Eventually(t, func() bool {
					return one.of(t, "a", "sessions_failed") > 0 && one.counters(t)["sessions"].(map[string]any)["store_errors"].(float64) > 0
				}, "the failure is counted")
			})
		})
	}
}

// -check reads the secret and the address without connecting, and an error names the key.
func TestCheck(t *testing.T) {
	check := func(sessions string, more ...string) (string, int) {
		var out bytes.Buffer
		found := relay.CheckWith(&out, parse(t, sessions, more...), time.Now(), relayredis.Open)
		return out.String(), found.Errors
	}
	file := secretFile(t)
	open := filepath.Join(t.TempDir(), "open")
	require.NoError(t, os.WriteFile(open, []byte(strings.Repeat("5e", 32)), 0o600))
	require.NoError(t, os.Chmod(open, 0o644))
	out, failed := check(fmt.Sprintf("redis = \"rediss://127.0.0.1:1\"\nredis-cacrt = %q\nsecret-file = %q\n", testkit.AbsPKI("root.crt"), file))
	require.Zero(t, failed, out)
	require.Contains(t, out, "shared through 127.0.0.1:1, sealed with "+file)
	out, failed = check(fmt.Sprintf("redis = \"redis://127.0.0.1:1\"\nsecret-file = %q\nstateful = true\n", file))
	require.Zero(t, failed, out)
	require.Contains(t, out, "stored in 127.0.0.1:1, sealed with "+file)
	for sessions, want := range map[string]string{
		fmt.Sprintf("redis = \"redis://h\"\nsecret-file = %q\n", file+"x"):                                      "sessions.secret-file: secret file",
		fmt.Sprintf("redis = \"redis://h\"\nsecret-file = %q\n", open):                                          "mode 0644",
		fmt.Sprintf("redis = \"http://hunter2@h\"\nsecret-file = %q\n", file):                                   "sessions.redis: address of Redis: want redis://",
		fmt.Sprintf("redis = \"redis://h\"\nredis-cacrt = \"x\"\nsecret-file = %q\n", file):                     "sessions.redis-cacrt: sessions.redis is an address without TLS",
		fmt.Sprintf("redis = \"rediss://h\"\nredis-cacrt = \"/none\"\nsecret-file = %q\n", file):                "sessions.redis-cacrt: ",
		fmt.Sprintf("redis = \"redis://u:hunter2@h\"\nredis-password = \"env:HOME\"\nsecret-file = %q\n", file): "sessions.redis-password: sessions.redis has a password too",
		fmt.Sprintf("redis = \"redis://h\"\nredis-password = \"env:SSLFILTER_NONE\"\nsecret-file = %q\n", file): "sessions.redis-password: the environment variable SSLFILTER_NONE is not set",
		fmt.Sprintf("redis = \"redis://h\"\nredis-password = \"file:/none/here\"\nsecret-file = %q\n", file):    "sessions.redis-password: ",
	} {
		out, failed := check(sessions)
		require.Equal(t, 1, failed, out)
		require.Contains(t, out, want)
		require.NotContains(t, out, "hunter2")
	}
}
