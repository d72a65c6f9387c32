package sslredis_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// cut at the end of an answer ends the connection.
const cut = "<cut>"

// pretend returns the address of a program that answers the commands of clients in place
// of Redis. It knows neither HELLO nor CLIENT.
func pretend(t testing.TB, answer func(args []string) string) (addr string) {
	return testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			args, err := command(r)
			if err != nil {
				return
			}
			text := "-ERR unknown command\r\n"
			if name := strings.ToUpper(args[0]); name != "HELLO" && name != "CLIENT" {
				text = answer(args)
			}
			text, last := strings.CutSuffix(text, cut)
			if _, err := io.WriteString(conn, text); err != nil || last {
				return
			}
		}
	})
}

// command reads one command.
func command(r *bufio.Reader) (args []string, err error) {
	number := func() (n int, err error) {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	for range n {
		size, err := number()
		if err != nil {
			return nil, err
		}
		arg := make([]byte, size+2)
		if _, err := io.ReadFull(r, arg); err != nil {
			return nil, err
		}
		args = append(args, string(arg[:size]))
	}
	if err == nil && len(args) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return args, err
}

func bulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }

func list(elements ...string) string {
	return fmt.Sprintf("*%d\r\n", len(elements)) + strings.Join(elements, "")
}

// master is the answer of a Sentinel that names a master.
func master(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	return list(bulk(host), bulk(port))
}

// A Sentinel that answers anything but an address gets an error, and the process goes on.
// It is asked only for the master: nothing that it announces by itself is listened to.
func TestSentinelLies(t *testing.T) {
	for _, lie := range []string{
		list(), list(bulk("127.0.0.1")), list(bulk(""), bulk("")), list(bulk("127.0.0.1"), bulk("x")), list(bulk("127.0.0.1"), bulk("99999")),
		list(bulk("127.0.0.1"), bulk("1"), bulk("2")), list("$-1\r\n", "$-1\r\n"), list(list(), list()), "*-1\r\n", "$-1\r\n", "+OK\r\n", ":2\r\n",
		bulk("127.0.0.1:1"), "-ERR no\r\n", "*2\r\n" + cut, "*2\r\n$9\r\n127" + cut, "*2000000\r\n", strings.Repeat("*1\r\n", 100), cut,
	} {
		addr := pretend(t, func(args []string) string {
			switch {
			case strings.EqualFold(args[0], "SUBSCRIBE"): // a message without an address
				return list(bulk("message"), bulk("+switch-master"), bulk("fleet"))
			case len(args) == 3 && args[1] == "get-master-addr-by-name":
				return lie
			}
			return "-ERR unknown command\r\n"
		})
		store := newStore(t, sslredis.Options{Client: clientOf(t, sslredis.ClientOptions{Addrs: []string{addr}, MasterName: "fleet"}), Secret: secret(t, 1)})
		data, err := store.Load(patient(t), id)
		require.Error(t, err, "%.40q", lie)
		require.Nil(t, data)
	}
}

// A Sentinel may announce what it likes to a client that has found its master.
func TestSentinelAnnounces(t *testing.T) {
	s := start(t)
	var asked sync.Map
	addr := pretend(t, func(args []string) string {
		asked.Store(strings.ToLower(strings.Join(args[:min(2, len(args))], " ")), true)
		switch {
		case strings.EqualFold(args[0], "SUBSCRIBE"):
			return list(bulk("subscribe"), bulk("+switch-master"), ":1\r\n") + list(bulk("message"), bulk("+switch-master"), bulk("fleet"))
		case len(args) == 3 && args[1] == "get-master-addr-by-name":
			return master(s.addr())
		}
		return "-ERR unknown command\r\n"
	})
	shares(t, sslredis.ClientOptions{Addrs: []string{addr}, MasterName: "fleet"})
	asked.Range(func(command, _ any) bool {
		require.Equal(t, "sentinel get-master-addr-by-name", command)
		return true
	})
}

// When the Sentinels name another master, it is used: after the end of the old one, and
// after the old one has become a replica. A Sentinel that does not answer delays nothing.
func TestSentinelFailover(t *testing.T) {
	one, two := start(t), start(t)
	var present atomic.Pointer[server]
	present.Store(one)
	sentinel := pretend(t, func([]string) string { return master(present.Load().addr()) })
	now := &clock{now: time.Now()}
	o := sslredis.Options{Secret: secret(t, 1), Client: clientOf(t, sslredis.ClientOptions{
		Addrs: []string{"127.0.0.1:" + silent(t), testkit.ClosedPort(t), sentinel}, MasterName: "fleet",
	})}
	o.SetClock(now.Now)
	store := newStore(t, o)
	stored := func(s *server) {
		t.Helper()
		s.do("FLUSHALL")
		testkit.Eventually(t, func() bool {
			now.set(now.Now().Add(sslredis.MaxPause))
			return store.Store(patient(t), id, data, now.Now().Add(time.Hour)) == nil
		}, "the new master is not used")
		got, err := store.Load(patient(t), id)
		require.NoError(t, err)
		require.Equal(t, data, got)
		require.EqualValues(t, 1, s.do("DBSIZE"))
	}
	stored(one)
	present.Store(two)
	one.do("REPLICAOF", "127.0.0.1", two.port)
	stored(two)
	one.do("REPLICAOF", "NO", "ONE")
	present.Store(one)
	two.kill()
	stored(one)
}

// startSentinel starts a Sentinel that watches a master with the name fleet.
func startSentinel(t *testing.T, master *server, settings ...string) *server {
	t.Helper()
	s := &server{t: t, port: peers.FreePort(t)}
	text := fmt.Sprintf("bind 127.0.0.1\nport %s\nsentinel monitor fleet 127.0.0.1 %s 1\n", s.port, master.port)
	for _, line := range settings {
		text += "sentinel " + line + "\n"
	}
	conf := file(t, "sentinel.conf")
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	s.Program = peers.StartForeign(t, nil, program(t), conf, "--sentinel")
	s.AwaitPort(s.port)
	return s
}

// A real Sentinel replaces the master: when an operator asks for it, and when the master is
// killed. A session that was stored before is found on the new one.
func TestSentinelOfRedis(t *testing.T) {
	atOnce := []string{"--repl-diskless-sync-delay", "0"}
	one := start(t, atOnce...)
	two := start(t, append(atOnce, "--replicaof", "127.0.0.1 "+one.port)...)
	sentinel := startSentinel(t, one, "down-after-milliseconds fleet 500", "failover-timeout fleet 1000")
	for _, period := range []string{"info-period", "ping-period", "ask-period", "publish-period"} { // they are up to ten seconds
		sentinel.do("SENTINEL", "DEBUG", period, "200")
	}

	now := &clock{now: time.Now()}
	o := sslredis.Options{Secret: secret(t, 1), Client: clientOf(t, sslredis.ClientOptions{Addrs: []string{sentinel.addr()}, MasterName: "fleet"})}
	o.SetClock(now.Now)
	store := newStore(t, o)
	retry := func(what string, call func() error) {
		t.Helper()
		testkit.Eventually(t, func() bool {
			now.set(now.Now().Add(sslredis.MaxPause))
			return call() == nil
		}, "%s: the new master is not used", what)
	}
	expiry := now.Now().Add(24 * time.Hour) // the clock of the Store goes on with each attempt
	found := func(id []byte) {
		t.Helper()
		retry("load", func() error {
			got, err := store.Load(patient(t), id)
			if err == nil && !bytes.Equal(got, data) {
				err = io.EOF // not replicated yet
			}
			return err
		})
	}
	role := func(s *server) string { return s.do("ROLE").([]any)[0].(string) }

	require.NoError(t, store.Store(patient(t), id, data, expiry))
	testkit.Eventually(t, func() bool { return two.do("DBSIZE").(int64) == 1 }, "no replication")
	testkit.Eventually(t, func() bool { // the Sentinel has to find the replica first
		return sentinel.admin().Do(t.Context(), "SENTINEL", "FAILOVER", "fleet").Err() == nil
	}, "the Sentinel does not begin a failover")
	testkit.Eventually(t, func() bool { return role(two) == "master" && role(one) == "slave" }, "no failover")
	found(id)
	second := bytes.Repeat([]byte{2}, len(id))
	retry("store", func() error { return store.Store(patient(t), second, data, expiry) })
	testkit.Eventually(t, func() bool { return one.do("DBSIZE").(int64) == 2 }, "no replication to the old master")

	two.kill()
	testkit.Eventually(t, func() bool { return role(one) == "master" }, "no failover after the master was killed")
	found(second)
	retry("store", func() error { return store.Store(patient(t), bytes.Repeat([]byte{3}, len(id)), data, expiry) })
	require.EqualValues(t, 3, one.do("DBSIZE"))
}
