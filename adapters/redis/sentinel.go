package sslredis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// masterFor bounds the time for which a connection is used if there are Sentinels. The
// next connection goes to the master of that time.
const masterFor = time.Minute

// sentinels find the master of a Redis with Sentinels whenever a connection begins. go-redis
// can do this too, but an answer without an address makes it panic in a goroutine of its own,
// and so does an incomplete message about a new master.
type sentinels struct {
	options redis.Options // of a connection to a Sentinel
	addrs   []string
	master  string // its name
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
}

// connect connects to the master. It ignores the address.
func (s *sentinels) connect(ctx context.Context, network, _ string) (net.Conn, error) {
	addr, err := s.find(ctx)
	if err != nil {
		return nil, err
	}
	return s.dial(ctx, network, addr)
}

// find asks all Sentinels, and returns the first answer.
func (s *sentinels) find(ctx context.Context) (addr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type answer struct {
		addr string
		err  error
	}
	answers := make(chan answer, len(s.addrs))
	for _, sentinel := range s.addrs {
		go func() {
			addr, err := s.ask(ctx, sentinel)
			answers <- answer{addr, err}
		}()
	}
	for range s.addrs {
		a := <-answers
		if a.err == nil {
			return a.addr, nil
		}
		err = errors.Join(err, a.err)
	}
	return "", fmt.Errorf("no Sentinel has named the master: %w", err)
}

// ask asks one Sentinel.
func (s *sentinels) ask(ctx context.Context, sentinel string) (addr string, err error) {
	o := s.options
	o.Addr = sentinel
	client := redis.NewSentinelClient(&o)
	defer client.Close()
	got, err := client.GetMasterAddrByName(ctx, s.master).Result()
	switch {
	case errors.Is(err, redis.Nil): // not wrapped: a Store would take it for a session that Redis does not have
		return "", errUnknownMaster
	case err != nil:
		return "", err
	case len(got) != 2 || slices.Contains(got, ""):
		return "", errMaster
	}
	if _, err := strconv.ParseUint(got[1], 10, 16); err != nil {
		return "", errMaster
	}
	return net.JoinHostPort(got[0], got[1]), nil
}

var (
	errMaster        = errors.New("a Sentinel has answered without an address")
	errUnknownMaster = errors.New("a Sentinel does not know the name of the master")
)
