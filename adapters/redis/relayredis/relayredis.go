// Package relayredis lets relays on several machines share the sessions of their clients
// through Redis. It implements the [sessions] table of their configuration.
package relayredis

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-014b8713/sslfilter"
	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/relay"
	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// startTimeout bounds the first attempt to reach Redis. The relay also starts if that fails.
const startTimeout = 2 * time.Second

// sessions implements relay.Sessions.
type sessions struct {
	*sslredis.Keeper
	store  *sslredis.Store // nil without sessions.stateful
	client redis.UniversalClient
	tls    *sslfilter.Ctx // nil without TLS
	name   string
}

// Open returns the sessions that c describes. It does not connect. An error names the key
// of the configuration.
func Open(c *config.Sessions, log *slog.Logger) (relay.Sessions, error) {
	redis.SetLogger(silent{}) // it would log each failed connection; OnError reports what matters
	secret, err := sslredis.ReadSecret(c.SecretFile)
	if err != nil {
		return nil, wrong("sessions.secret-file", err)
	}
	o, tls, err := sslredis.ParseURL(c.Redis)
	if err != nil {
		return nil, wrong("sessions.redis", err)
	}
	if c.RedisPassword != "" {
		if o.Password != "" {
			return nil, wrong("sessions.redis-password", errors.New("sessions.redis has a password too"))
		}
		if o.Password, err = c.Password(); err != nil {
			return nil, wrong("sessions.redis-password", err)
		}
	}
	s := &sessions{name: strings.Join(o.Addrs, ", ")}
	opened := false
	defer func() {
		if !opened {
			s.free()
		}
	}()
	switch {
	case tls:
		if s.tls, err = sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: c.RedisCACrt}); err != nil {
			return nil, wrong("sessions.redis-cacrt", err)
		}
		o.TLS = s.tls
	case c.RedisCACrt != "":
		return nil, wrong("sessions.redis-cacrt", errors.New("sessions.redis is an address without TLS; rediss:// is for TLS"))
	}
	if s.client, err = sslredis.NewClient(o); err != nil {
		return nil, wrong("sessions.redis", err)
	}
	options := sslredis.Options{Client: s.client, Secret: secret, Epoch: c.Epoch.Std(), OnError: logger(log)}
	s.Keeper, err = sslredis.NewKeeper(options)
	if err == nil && c.Stateful {
		s.store, err = sslredis.NewStore(options)
	}
	if err != nil {
		return nil, wrong("sessions", err)
	}
	opened = true
	return s, nil
}

func wrong(key string, err error) error {
	return fmt.Errorf("%s: %s", key, strings.TrimPrefix(strings.TrimPrefix(err.Error(), "sslredis: "), "sslfilter: "))
}

// quietly is the time in which at most one error is logged.
const quietly = 10 * time.Second

// logger returns a function that logs errors, and says how many it has not logged.
func logger(log *slog.Logger) func(error) {
	var last, omitted atomic.Int64
	return func(err error) {
		now := time.Now().UnixNano()
		if before := last.Load(); now-before < int64(quietly) && now >= before || !last.CompareAndSwap(before, now) {
			omitted.Add(1)
			return
		}
		log.Warn("sessions", "error", err, "omitted", omitted.Swap(0))
	}
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func (s *sessions) String() string { return s.name }

func (s *sessions) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return s.Keeper.Start(ctx)
}

func (s *sessions) Store(relay string) sslnet.SessionStore {
	if s.store == nil {
		return nil
	}
	return s.store.Scope(relay)
}

func (s *sessions) Counters() map[string]expvar.Var {
	number := func(of func(sslredis.KeeperStats) int64) expvar.Var {
		return expvar.Func(func() any { return of(s.Keeper.Stats()) })
	}
	counters := map[string]expvar.Var{
		"redis_polls":          number(func(k sslredis.KeeperStats) int64 { return k.Polls }),
		"redis_errors":         number(func(k sslredis.KeeperStats) int64 { return k.Errors }),
		"ticket_keys_made":     number(func(k sslredis.KeeperStats) int64 { return k.Made }),
		"ticket_keys_restored": number(func(k sslredis.KeeperStats) int64 { return k.Restored }),
		"ticket_keys_differed": number(func(k sslredis.KeeperStats) int64 { return k.Differed }),
		"ticket_keys_rejected": number(func(k sslredis.KeeperStats) int64 { return k.Rejected }),
		"ticket_keys_derived": number(func(k sslredis.KeeperStats) int64 {
			if k.FromRedis {
				return 0
			}
			return 1
		}),
	}
	if s.store == nil {
		return counters
	}
	for name, of := range map[string]func(sslredis.StoreStats) int64{
		"store_loads":       func(s sslredis.StoreStats) int64 { return s.Loads },
		"store_found":       func(s sslredis.StoreStats) int64 { return s.Found },
		"store_stored":      func(s sslredis.StoreStats) int64 { return s.Stores },
		"store_errors":      func(s sslredis.StoreStats) int64 { return s.Errors },
		"store_rejected":    func(s sslredis.StoreStats) int64 { return s.Rejected },
		"store_unavailable": func(s sslredis.StoreStats) int64 { return s.Unavailable },
	} {
		counters[name] = expvar.Func(func() any { return of(s.store.Stats()) })
	}
	return counters
}

func (s *sessions) Close() error {
	s.Keeper.Close()
	return s.free()
}

// free closes what Open has made besides the Keeper.
func (s *sessions) free() (err error) {
	if s.client != nil {
		err = s.client.Close()
	}
	if s.tls != nil {
		s.tls.Close()
	}
	return err
}
