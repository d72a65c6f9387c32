package sslredis_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

type clientOptions = sslredis.ClientOptions

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		url  string
		want clientOptions
		tls  bool
	}{
		{"redis://localhost", clientOptions{Addrs: []string{"localhost:6379"}}, false},
		{"redis://localhost:6380/2", clientOptions{Addrs: []string{"localhost:6380"}, DB: 2}, false},
		{"rediss://me:p%40ss:w@redis.example.org:1", clientOptions{Addrs: []string{"redis.example.org:1"}, Username: "me", Password: "p@ss:w"}, true},
		{"redis://:p@[::1]:6379/?pool=5", clientOptions{Addrs: []string{"[::1]:6379"}, Password: "p", PoolSize: 5}, false},
		{"redis://[::1]", clientOptions{Addrs: []string{"[::1]:6379"}}, false},
		{"redis://[fe80::1%25eth0]:1", clientOptions{Addrs: []string{"[fe80::1%25eth0]:1"}}, false},
		{"redis://::1", clientOptions{Addrs: []string{"[::1]:6379"}}, false},
		{"unix:///run/redis.sock?db=1", clientOptions{Addrs: []string{"/run/redis.sock"}, DB: 1}, false},
		{"redis://a:1,b:2/?master=m", clientOptions{Addrs: []string{"a:1", "b:2"}, MasterName: "m"}, false},
		{"rediss://a,b?cluster=true", clientOptions{Addrs: []string{"a:6379", "b:6379"}, Cluster: true}, true},
	} {
		got, tls, err := sslredis.ParseURL(c.url)
		require.NoError(t, err, c.url)
		require.Equal(t, c.want, got, c.url)
		require.Equal(t, c.tls, tls, c.url)
	}
	for _, url := range []string{
		"", "localhost:6379", "http://hunter2@localhost", "redis://", "redis://:hunter2@", "redis://a,b", "redis://a/x", "redis://a/-1", "redis://a:b:c",
		"redis://a?x=1", "redis://a?cluster=x", "redis://a?cluster=true&master=m", "redis://a/1?cluster=true", "redis://a?db=1&db=2", "redis://a#b",
		"unix://host/path", "unix://", "redis://a?%zz", "redis://me:hunter2%zz@a", "redis://a?pool=-1", "redis://a,,b?cluster=true",
		"redis://:hunter2", "redis://me:hunter2", "redis://:hunter2/0", "redis://a:1,me:hunter2?cluster=true", "redis://me:x:hunter2", "redis://a/hunter2", "redis://a?hunter2=1",
		"redis://a:0", "redis://a:65536", "redis://a:-1", "redis://a:+1", "redis://:6379", "redis://[hunter2]:1:1", "redis://me:[hunter2", "unix://:hunter2/x",
		"redis://me:x/hunter2@a:1", "redis://me:x?hunter2@a:1", "redis://me:x#hunter2@a:1",
	} {
		_, _, err := sslredis.ParseURL(url)
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err := sslredis.NewClient(clientOptions{})
	require.Error(t, err)
}

// Nothing prints a password or a secret.
func TestNothingPrintsSecrets(t *testing.T) {
	o := sslredis.ClientOptions{Addrs: []string{"localhost:1"}, Username: "me", Password: "hunter2", SentinelPassword: "hunter2"}
	keys := secret(t, 1)
	k, err := sslredis.NewKeeper(sslredis.Options{Client: clientOf(t, clientOptions{Addrs: o.Addrs}), Secret: keys})
	require.NoError(t, err)
	_, err = k.TicketKeys("web")
	require.NoError(t, err)
	key := k.Keys("web")[0]
	store := newStore(t, k.Options)
	for _, v := range []any{o, &o, keys, *keys, k, k.Options, store, []any{k, keys, o}, struct{ Secret *sslredis.Secret }{keys}} {
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("", "v", v)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			fmt.Fprintf(&log, verb+"\n", v)
		}
		for _, leak := range append([]string{"hunter2", fmt.Sprintf("%x", "hunter2")}, leaks(append(keys.Derived(), key[:])...)...) {
			require.NotContains(t, log.String(), leak, "%T", v)
		}
	}
	require.Equal(t, "Redis at localhost:1", fmt.Sprint(o))
	require.Equal(t, "ticket keys that change every 1h0m0s", fmt.Sprintf("%+v", k))
	require.Equal(t, "secret of a fleet", fmt.Sprintf("%#v", *keys))

}

// leaks returns the beginning of a key in the forms of package fmt and of JSON.
func leaks(keys ...[]byte) (list []string) {
	for _, key := range keys {
		key = key[:6]
		goForm, _, _ := strings.Cut(fmt.Sprintf("%#v", key), "}")
		list = append(list, fmt.Sprintf("%x", key), fmt.Sprintf("%x", string(key)), strings.Trim(fmt.Sprint(key), "[]"), strings.TrimPrefix(goForm, "[]byte{"))
	}
	return list
}

// shares checks that a session of one client is found by another one, and that a Keeper
// works.
func shares(t *testing.T, o sslredis.ClientOptions) {
	t.Helper()
	ctx := patient(t)
	a := newStore(t, sslredis.Options{Client: clientOf(t, o), Secret: secret(t, 1)})
	b := newStore(t, sslredis.Options{Client: clientOf(t, o), Secret: secret(t, 1)})
	for i := range 20 { // in many slots of a Cluster
		own := fmt.Appendf(nil, "session %d", i)
		require.NoError(t, a.Store(ctx, own, own, hence(time.Hour)))
		got, err := b.Load(ctx, own)
		require.NoError(t, err)
		require.Equal(t, own, got)
		if i%2 > 0 {
			continue
		}
		require.NoError(t, b.Delete(ctx, own))
		got, err = a.Load(ctx, own)
		require.NoError(t, err)
		require.Nil(t, got)
	}
	k, err := sslredis.NewKeeper(sslredis.Options{Client: clientOf(t, o), Secret: secret(t, 1)})
	require.NoError(t, err)
	require.NoError(t, k.Step(ctx))
	require.NotZero(t, k.Stats().Made)
}

func TestClientUnixSocket(t *testing.T) {
	socket := file(t, "redis.sock")
	start(t, "--unixsocket", socket)
	shares(t, sslredis.ClientOptions{Addrs: []string{socket}})
}

func TestClientPassword(t *testing.T) {
	s := start(t, "--requirepass", "x")
	shares(t, sslredis.ClientOptions{Addrs: []string{s.addr()}, Password: "x", DB: 3})
	store := newStore(t, sslredis.Options{Client: clientOf(t, sslredis.ClientOptions{Addrs: []string{s.addr()}, Password: "y"}), Secret: secret(t, 1)})
	require.ErrorContains(t, store.Store(patient(t), id, data, hence(time.Hour)), "WRONGPASS")
}

// A connection with TLS uses this library, which verifies the certificate of Redis.
func TestClientTLS(t *testing.T) {
	s := start(t, "--tls-cert-file", testkit.AbsPKI("server.crt"), "--tls-key-file", testkit.AbsPKI("server.key"),
		"--tls-ca-cert-file", testkit.AbsPKI("root.crt"), "--tls-auth-clients", "no")
	ctx := testkit.Ctx(t, testkit.Client(testkit.ServerName("")))
	shares(t, sslredis.ClientOptions{Addrs: []string{"localhost:" + s.port}, TLS: ctx})

	other, err := sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: testkit.PKI("client.crt")})
	require.NoError(t, err)
	defer other.Close()
	for _, wrong := range []sslredis.ClientOptions{
		{Addrs: []string{"localhost:" + s.port}, TLS: other},
		{Addrs: []string{"127.0.0.2:" + s.port}, TLS: ctx}, // nobody listens there
		{Addrs: []string{"localhost:" + s.port}},
	} {
		store := newStore(t, sslredis.Options{Client: clientOf(t, wrong), Secret: secret(t, 1)})
		require.Error(t, store.Store(patient(t), id, data, hence(time.Hour)))
	}
}

func TestClientSentinel(t *testing.T) {
	master := start(t)
	shares(t, sslredis.ClientOptions{Addrs: []string{startSentinel(t, master).addr()}, MasterName: "fleet"})
}

func TestClientCluster(t *testing.T) {
	nodes := startCluster(t)
	shares(t, sslredis.ClientOptions{Addrs: []string{nodes[0].addr()}, Cluster: true})
	for _, n := range nodes {
		require.NotZero(t, n.do("DBSIZE"), "a node of the Cluster has no key")
	}
}

// startCluster starts a Cluster of two nodes.
func startCluster(t *testing.T) (nodes []*server) {
	t.Helper()
	for range 2 {
		nodes = append(nodes, start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "5000"))
	}
	nodes[0].do("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
	nodes[1].do("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
	nodes[0].do("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
	for _, n := range nodes {
		testkit.Eventually(t, func() bool {
			return strings.Contains(n.do("CLUSTER", "INFO").(string), "cluster_state:ok") && strings.Contains(n.do("CLUSTER", "INFO").(string), "cluster_slots_ok:16384")
		}, "the Cluster does not begin")
	}
	return nodes
}

// Sessions are found, stored and deleted while a node of a Cluster hands its slots to the
// other: before the key moves, after it has moved (ASK), and when the slot has moved (MOVED).
func TestClientClusterMovesSlots(t *testing.T) {
	nodes := startCluster(t)
	from, to := nodes[0], nodes[1]
	fromID, toID := from.do("CLUSTER", "MYID"), to.do("CLUSTER", "MYID")
	o := sslredis.Options{Client: clientOf(t, sslredis.ClientOptions{Addrs: []string{from.addr()}, Cluster: true}), Secret: secret(t, 1)}
	store, ctx := newStore(t, o), patient(t)
	ids := make([][]byte, 20)
	for i := range ids {
		ids[i] = bytes.Repeat([]byte{byte(i)}, len(id))
		require.NoError(t, store.Store(ctx, ids[i], data, hence(time.Hour)))
	}
	require.NotZero(t, from.do("DBSIZE"))
	require.NotZero(t, to.do("DBSIZE"))
	found := func(id []byte) {
		t.Helper()
		got, err := store.Load(ctx, id)
		require.NoError(t, err)
		require.Equal(t, data, got)
	}
	for _, id := range ids {
		name := o.Secret.SessionName("", id)
		if from.admin().Exists(ctx, name).Val() == 0 {
			continue // a key of the other node
		}
		slot := from.do("CLUSTER", "KEYSLOT", name)
		to.do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
		from.do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
		found(id)
		from.do("MIGRATE", "127.0.0.1", to.port, name, 0, 5000)
		found(id)
		require.NoError(t, store.Store(ctx, id, data, hence(time.Hour)))
		to.do("CLUSTER", "SETSLOT", slot, "NODE", toID)
		from.do("CLUSTER", "SETSLOT", slot, "NODE", toID)
		found(id)
	}
	require.Zero(t, from.do("DBSIZE"))
	for _, id := range ids {
		found(id)
		require.NoError(t, store.Delete(ctx, id))
		got, err := store.Load(ctx, id)
		require.NoError(t, err)
		require.Nil(t, got)
	}
}
