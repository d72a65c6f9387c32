package sslredis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// ClientOptions say how Redis is reached.
type ClientOptions struct {
	// Addrs has the address of Redis (host:port, or the path of a Unix socket), or
	// those of some nodes of a Cluster, or those of Sentinels if MasterName is set.
	Addrs      []string
	MasterName string // that the Sentinels know
	Cluster    bool
	DB         int
	Username   string
	Password   string
	// SentinelUsername and SentinelPassword are those of the Sentinels.
	SentinelUsername string
	SentinelPassword string
	// TLS is the context of a client for connections with TLS; nil: without TLS.
	TLS *sslfilter.Ctx
	// PoolSize bounds the connections to each node. Default: 10 for each processor.
	PoolSize int
}

// String describes the options without the passwords.
func (o ClientOptions) String() string { return "Redis at " + strings.Join(o.Addrs, ", ") }

// Format prints what String returns, whatever the verb is, so that no verb shows a
// password.
func (o ClientOptions) Format(f fmt.State, _ rune) { io.WriteString(f, o.String()) }

// LogValue logs what String returns, so that no handler of log/slog shows a password.
func (o ClientOptions) LogValue() slog.Value { return slog.StringValue(o.String()) }

// ParseURL parses an address of Redis:
//
//	redis://user@host:6379/0
//	rediss://host:6379
//	unix:///run/redis/redis.sock
//	redis://host1:26379,host2:26379/0?master=name
//	redis://host1:6379,host2:6379?cluster=true
//
// rediss is for TLS: then tls is true, and the caller sets TLS. An error contains no part
// of the address, which may be a password at the wrong place.
func ParseURL(text string) (o ClientOptions, tls bool, err error) {
	o, tls, err = parseURL(text)
	if err != nil {
		err = fmt.Errorf("sslredis: address of Redis: %w", err)
	}
	return o, tls, err
}

func parseURL(text string) (o ClientOptions, tls bool, err error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found || !slices.Contains([]string{"redis", "rediss", "unix"}, scheme) {
		return o, false, errors.New("want redis://host:port, rediss://host:port or unix:///path")
	}
	authority, path := rest, ""
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority, path = rest[:end], rest[end:]
	}
	if scheme != "unix" && strings.Contains(path, "@") { // the rest of a password, which no error may have
		return o, false, errors.New("a /, ? or # in the user name or the password must be percent-encoded")
	}
	at := strings.LastIndexByte(authority, '@')
	hosts := authority[at+1:]
	// net/url does not know several hosts.
	u, err := url.Parse("redis://" + authority[:at+1] + "host" + path)
	if err != nil {
		return o, false, errors.New("invalid URL") // the error would have the password
	}
	o.Username = u.User.Username()
	o.Password, _ = u.User.Password()
	switch {
	case u.Fragment != "":
		return o, false, errors.New("want no fragment")
	case scheme == "unix" && hosts != "":
		return o, false, errors.New("want unix:///path")
	case scheme == "unix":
		o.Addrs = []string{u.Path}
	default:
		if o.Addrs, err = splitHosts(hosts); err != nil {
			return o, false, err
		}
		if db := strings.TrimPrefix(u.Path, "/"); db != "" {
			if o.DB, err = strconv.Atoi(db); err != nil || o.DB < 0 {
				return o, false, errors.New("want the number of a database as the path")
			}
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return o, false, errors.New("its query is wrong")
	}
	for key, values := range query {
		value := values[0]
		var wrong error
		switch key {
		case "master":
			o.MasterName = value
		case "cluster":
			o.Cluster, wrong = strconv.ParseBool(value)
		case "db":
			o.DB, wrong = strconv.Atoi(value)
		case "pool":
			o.PoolSize, wrong = strconv.Atoi(value)
		default:
			return o, false, errors.New("unknown parameter; want master, cluster, db or pool")
		}
		if wrong != nil || len(values) > 1 {
			return o, false, fmt.Errorf("wrong value of %s", key)
		}
	}
	return o, scheme == "rediss", o.check()
}

// splitHosts returns addresses with ports. The error does not contain them: in a
// malformed address a password may be there.
func splitHosts(hosts string) (list []string, err error) {
	for text := range strings.SplitSeq(hosts, ",") {
		host, port, err := net.SplitHostPort(text)
		if err != nil { // text has no port
			host, port = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), "6379"
		}
		_, noIP := netip.ParseAddr(host)
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "[]:") && noIP != nil {
			return nil, errors.New("want host:port with a number as the port")
		}
		list = append(list, net.JoinHostPort(host, port))
	}
	return list, nil
}

func (o *ClientOptions) check() error {
	switch {
	case len(o.Addrs) == 0 || slices.Contains(o.Addrs, ""):
		return errors.New("the address is missing")
	case o.Cluster && o.MasterName != "":
		return errors.New("a Cluster has no Sentinels: want master or cluster")
	case o.Cluster && o.DB != 0:
		return errors.New("a Cluster has only database 0")
	case len(o.Addrs) > 1 && !o.Cluster && o.MasterName == "":
		return errors.New("several addresses need master (of the Sentinels) or cluster")
	case o.DB < 0 || o.PoolSize < 0:
		return errors.New("want a number of 0 or more")
	}
	return nil
}

const (
	// dialTimeout bounds a connection to Redis, including TLS. It continues after the
	// handshake that began it has ended, so that a later one finds it.
	dialTimeout = 2 * time.Second
	// callTimeout bounds a call of Redis, in addition to its context.
	callTimeout = 3 * time.Second
)

// NewClient returns a client of Redis, a Sentinel or a Cluster. It respects the
// deadlines of contexts, repeats a failed call at most once, and bounds the replies:
// go-redis alone would allocate whatever length a reply announces. It does not connect.
func NewClient(o ClientOptions) (redis.UniversalClient, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("sslredis: %w", err)
	}
	u := &redis.UniversalOptions{
		Addrs: o.Addrs, IsClusterMode: o.Cluster, DB: o.DB, Username: o.Username, Password: o.Password,
		Dialer: dialer(o.TLS), PoolSize: o.PoolSize, DialTimeout: dialTimeout, DialerRetries: 1,
		ReadTimeout: callTimeout, WriteTimeout: callTimeout, PoolTimeout: callTimeout,
		ContextTimeoutEnabled: true, MaxRetries: 1, // a pooled connection may have ended
		Protocol: 2, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if o.MasterName != "" {
		s := &sentinels{options: *u.Simple(), addrs: o.Addrs, master: o.MasterName, dial: u.Dialer}
		s.options.DB, s.options.Username, s.options.Password = 0, o.SentinelUsername, o.SentinelPassword
		u.Addrs, u.Dialer, u.ConnMaxLifetime = o.Addrs[:1], s.connect, masterFor
	}
	return redis.NewUniversalClient(u), nil
}

// dialer returns a function that connects to Redis.
func dialer(ctx *sslfilter.Ctx) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	dial := plain.DialContext
	if ctx != nil {
		dial = (&sslnet.Dialer{Ctx: ctx, NetDialer: plain, HandshakeTimeout: dialTimeout}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		bounded := &guard{Conn: conn}
		if socket, ok := conn.(syscall.Conn); ok {
			return &guardedSocket{bounded, socket}, nil
		}
		return bounded, nil
	}
}
