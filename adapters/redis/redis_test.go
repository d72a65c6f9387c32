package sslredis_test

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func init() { redis.SetLogger(quiet{}) }

// quiet discards the log messages of go-redis, which reports each failed connection.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// server is a redis-server without persistence on a port of its own.
type server struct {
	t    testing.TB
	port string
	args []string
	*peers.Program
}

func program(t testing.TB) string { return peers.Find(t, "redis-server", "redis-server") }

// start starts a redis-server. Its port stays the same when it is started again.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{t: t, port: peers.FreePort(t), args: args}
	s.start()
	return s
}

func (s *server) start() {
	s.t.Helper()
	port := "--port"
	if slices.Contains(s.args, "--tls-cert-file") {
		port = "--tls-port"
	}
	args := append([]string{"--port", "0", port, s.port, "--bind", "127.0.0.1", "--dir", s.t.TempDir(), "--save", "", "--appendonly", "no", "--enable-debug-command", "yes"}, s.args...)
	s.Program = peers.StartForeign(s.t, nil, program(s.t), args...)
	s.AwaitPort(s.port)
	s.Await("eady to accept connections")
}

// kill ends the process, which loses everything.
func (s *server) kill() {
	s.t.Helper()
	s.Kill()
	s.Wait()
}

func (s *server) addr() string { return "127.0.0.1:" + s.port }

// admin returns a plain client, for what an operator does.
func (s *server) admin() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true})
	s.t.Cleanup(func() { c.Close() })
	return c
}

// do executes one command as the operator.
func (s *server) do(args ...any) any {
	s.t.Helper()
	got, err := s.admin().Do(s.t.Context(), args...).Result()
	require.NoError(s.t, err)
	return got
}

// client returns a client of sslredis for an address.
func client(t testing.TB, addrs ...string) redis.UniversalClient {
	t.Helper()
	return clientOf(t, sslredis.ClientOptions{Addrs: addrs})
}

func clientOf(t testing.TB, o sslredis.ClientOptions) redis.UniversalClient {
	t.Helper()
	c, err := sslredis.NewClient(o)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// secret returns a Secret with one 32-byte secret for each byte of bs, which it repeats.
func secret(t testing.TB, bs ...byte) *sslredis.Secret {
	t.Helper()
	var list [][]byte
	for _, b := range bs {
		own := make([]byte, 32)
		for i := range own {
			own[i] = b
		}
		list = append(list, own)
	}
	s, err := sslredis.NewSecret(list...)
	require.NoError(t, err)
	return s
}

// options are the options of a server of the fleet that uses addr.
func options(t testing.TB, addr string) sslredis.Options {
	return sslredis.Options{Client: client(t, addr), Secret: secret(t, 1)}
}

func newStore(t testing.TB, o sslredis.Options) *sslredis.Store {
	t.Helper()
	s, err := sslredis.NewStore(o)
	require.NoError(t, err)
	return s
}

// patient returns a context that ends when something hangs.
func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	t.Cleanup(cancel)
	return ctx
}

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
	off time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now.Add(c.off)
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func file(t testing.TB, name string) string { return filepath.Join(t.TempDir(), name) }
