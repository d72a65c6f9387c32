package sslredis_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
	"github.com/seed-014b8713/sslfilter/sslsession"
)

// The cost of a session and of a poll, with a Redis on the loopback interface. The bytes
// are those that Redis counts for one name with its value.
func BenchmarkFleet(b *testing.B) {
	s := start(b)
	store := newStore(b, options(b, s.addr()))
	ctx := b.Context()
	next, n := make([]byte, 32), uint64(0)
	for _, size := range []int{600, 1150, 3000} {
		session := make([]byte, size)
		id := binary.BigEndian.AppendUint64(make([]byte, 24), uint64(size))
		require.NoError(b, store.Store(ctx, id, session, hence(time.Hour)))
		used := s.do("MEMORY", "USAGE", secret(b, 1).SessionName("", id)).(int64)
		b.Run(fmt.Sprintf("store %d", size), func(b *testing.B) {
			for b.Loop() { // a session is stored once, so each needs a new id
				n++
				binary.BigEndian.PutUint64(next, n)
				require.NoError(b, store.Store(ctx, next, session, hence(time.Hour)))
			}
			b.ReportMetric(float64(used), "redis-B")
		})
		b.Run(fmt.Sprintf("load %d", size), func(b *testing.B) {
			for b.Loop() {
				_, err := store.Load(ctx, id)
				require.NoError(b, err)
			}
		})
	}
	b.Run("seal and open", func(b *testing.B) {
		own := secret(b, 1)
		for b.Loop() {
			value, err := own.Seal("name", data)
			require.NoError(b, err)
			_, err = own.Open("name", value)
			require.NoError(b, err)
		}
	})
	b.Run("poll", func(b *testing.B) {
		k, err := sslredis.NewKeeper(options(b, s.addr()))
		require.NoError(b, err)
		require.NoError(b, k.Step(ctx))
		for b.Loop() {
			require.NoError(b, k.Step(ctx))
		}
	})
}

// A visit over the loopback interface, both ends and Redis included: connection, handshake,
// 5 bytes each way. "full" resumes nothing; the others resume with a ticket, with a session
// in memory and with a session in Redis.
func BenchmarkVisit(b *testing.B) {
	s := start(b)
	for _, cert := range []bool{false, true} {
		for _, kind := range []string{"full", "ticket", "memory", "redis"} {
			name, o, client := kind, testkit.Server(), testkit.Client()
			if cert {
				name += ", client certificate"
				o, client = testkit.Requiring(func(o *sslfilter.Options) { o.ResumeClientCert = true }), testkit.Showing("client.crt", "client.key")
			}
			b.Run(name, func(b *testing.B) {
				o.StatefulSessions = kind == "memory" || kind == "redis"
				below, err := net.Listen("tcp", "127.0.0.1:0")
				require.NoError(b, err)
				l := &sslnet.Listener{Listener: below, Ctx: testkit.Ctx(b, o)}
				switch kind {
				case "memory":
					l.Sessions = sslsession.NewStore(1000)
				case "redis":
					l.Sessions = newStore(b, options(b, s.addr()))
				}
				defer l.Close()
				go echo(l)
				size := 8
				if kind == "full" {
					size = 0
				}
				dialer := &sslnet.Dialer{Ctx: testkit.Ctx(b, client), Sessions: sslsession.NewCache(size)}
				visit(b, dialer, below.Addr().String())
				resumed, n := 0, 0
				for b.Loop() {
					if o.StatefulSessions { // the store gets the session after the handshake
						b.StopTimer()
						testkit.Eventually(b, func() bool { return l.SessionStats().Stored > int64(n) }, "no session was stored")
						b.StartTimer()
					}
					if visit(b, dialer, below.Addr().String()) {
						resumed++
					}
					n++
				}
				b.ReportMetric(float64(resumed)/float64(n), "resumed")
			})
		}
	}
}
