package sslredis

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options are the options of a Store and of a Keeper.
type Options struct {
	// Client is connected to one Redis, to Sentinels or to a Cluster. It needs
	// ContextTimeoutEnabled, which NewClient sets: without it, go-redis ignores the
	// deadline of a handshake. The caller closes it.
	//
	// WARNING: Only a client of NewClient bounds the replies of Redis. With another
	// client, a compromised Redis can make go-redis allocate any amount of memory.
	Client redis.UniversalClient
	// Secret must be the same on all servers of the fleet.
	Secret *Secret
	// Prefix is the beginning of all names in Redis. It must be the same on all servers of
	// the fleet. Default: "sslfilter:".
	Prefix string
	// Epoch is the time for which a Keeper encrypts tickets with one key: 1 to 24 hours, in
	// whole seconds. It must be the same on all servers of the fleet. The keys of the next
	// three epochs are in Redis, which a Keeper asks about 60 times in an epoch. Default: 1 hour.
	Epoch time.Duration
	// OnError is called with each error. It must return at once, because a Store calls it
	// in the goroutine of its caller, which runs a handshake. A Keeper calls it in Start
	// and in its own goroutine. Default: errors are only counted. go-redis also writes
	// errors to standard error, unless redis.SetLogger is called.
	OnError func(error)

	now func() time.Time // for tests
}

const (
	defaultPrefix = "sslfilter:"
	defaultEpoch  = time.Hour
	minEpoch      = time.Hour
	maxEpoch      = 24 * time.Hour // bounds Options.Epoch
)

// check returns o with the defaults filled in, or an error that names the option.
func (o Options) check() (Options, error) {
	switch {
	case o.Client == nil:
		return o, errors.New("sslredis: Options.Client is missing")
	case o.Secret == nil || len(o.Secret.list) == 0:
		return o, errors.New("sslredis: Options.Secret is missing")
	case !respectsDeadlines(o.Client):
		return o, errors.New("sslredis: Options.Client: ContextTimeoutEnabled is not set, so the client would ignore deadlines; NewClient sets it")
	case o.Epoch != 0 && (o.Epoch < minEpoch || o.Epoch > maxEpoch || o.Epoch%time.Second != 0):
		return o, fmt.Errorf("sslredis: Options.Epoch: want %v to %v in whole seconds, got %v", minEpoch, maxEpoch, o.Epoch)
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.Epoch == 0 {
		o.Epoch = defaultEpoch
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.now == nil {
		o.now = time.Now
	}
	return o, nil
}

// respectsDeadlines reports whether a client ends a call when its context ends. A client
// of an unknown type is trusted.
func respectsDeadlines(c redis.UniversalClient) bool {
	switch c := c.(type) {
	case *redis.Client:
		return c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return c.Options().ContextTimeoutEnabled
	case *redis.Ring:
		return c.Options().ContextTimeoutEnabled
	}
	return true
}
