// Package config reads the configuration of the relay from a file or from flags.
// One table of options has all keys; see options.go.
package config

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
)

// Config is the configuration of the program.
type Config struct {
	Log               string
	LogLevel          string
	Counters          string
	CountersRemote    bool
	DrainTimeout      Duration
	MaxConnections    int
	MaxConnsPerClient int
	MaxHandshakes     int

	Sessions Sessions

	Relays []Relay
}

// Sessions is the [sessions] table. With it, relays on several machines resume the TLS
// sessions of each other's clients.
type Sessions struct {
	TicketKeys    string // a file
	Redis         string // the address; empty without Redis
	RedisPassword string // a source: "file:/path"
	RedisCACrt    string
	SecretFile    string
	Epoch         Duration
	Stateful      bool // the sessions are in Redis, and not in tickets
}

// Relay is one [[relay]] table: listeners, and the backends that their connections
// are forwarded to.
type Relay struct {
	Name          string
	Mode          string
	Listen        []string
	ServerNames   []string
	DefaultServer bool
	Backend       string
	Users         map[string]string
	UsersFile     string
	ProxyProtocol bool

	Server   TLS // connections of clients
	Upstream TLS // connections to backends

	// Before the login.
	AllowPlaintext       bool
	AllowUnauthenticated bool
	Greeting             string
	Hostname             string
	Capabilities         []string

	// Mode http.
	Headers          map[string]string
	StripHeaders     []string
	TrustForwarded   bool
	ReuseAfterBody   bool
	NoPlainHTTPReply bool
	MaxHeader        int

	// Limits of a connection.
	HandshakeTimeout Duration
	CommandTimeout   Duration
	IdleTimeout      Duration
	KeepaliveTimeout Duration
	BackendTimeout   Duration
	ResponseTimeout  Duration
	MaxLine          int
}

// Duration is a time.Duration in the form of time.ParseDuration: "90s", "35m".
type Duration time.Duration

// UnmarshalText parses a positive duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("want a time such as 90s or 35m, got %q", text)
	}
	if v <= 0 {
		return fmt.Errorf("want a time above 0, got %q", text)
	}
	*d = Duration(v)
	return nil
}

// String returns a form such as "1m30s", and "1m" instead of "1m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Modes without STARTTLS. The other modes are in the table of package protocol.
const (
	ModeTCP  = "tcp"
	ModeHTTP = "http"
)

func modes() []string { return append([]string{ModeTCP, ModeHTTP}, protocol.Names(nil)...) }

// withLogin lists the modes with logins.
func withLogin() []string {
	return protocol.Names(func(p *protocol.Protocol) bool { return p.Login })
}

// setDefaults sets the options that are not given.
func (c *Config) setDefaults() {
	c.presets(nil)
	set(&c.MaxConnsPerClient, max(c.MaxConnections/4, 16))
	for i := range c.Relays {
		r := &c.Relays[i]
		c.presets(r)
		r.setDefaults()
	}
}

// presets sets the options of the program, or of r, to the defaults of the table.
func (c *Config) presets(r *Relay) {
	for i := range options {
		o := &options[i]
		if o.preset == "" || o.inRelay() != (r != nil) || !o.value(c, r).IsZero() {
			continue
		}
		if err := setText(o.pointer(c, r), o.preset); err != nil {
			panic("sslrelay: default of " + o.key + ": " + err.Error())
		}
	}
}

func (r *Relay) setDefaults() {
	r.Upstream.Client = true
	set(&r.Name, r.Mode)
	set(&r.Hostname, systemName())
	set(&r.ResponseTimeout, r.BackendTimeout)
	if p := r.Protocol(); p != nil && p.Capabilities != nil && r.Capabilities == nil {
		r.Capabilities = p.Capabilities(r.MaxLine)
	}
	if r.Mode == ModeHTTP {
		headers := DefaultHeaders()
		for what, name := range r.Headers {
			headers[what] = name
		}
		r.Headers = headers
	}
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// systemName returns the default of hostname.
func systemName() string {
	name, _ := os.Hostname() // empty after an error
	return nameOrLocalhost(name)
}

// nameOrLocalhost returns the host name of the system, or "localhost" if hostname may not
// have that value: a configuration without hostname must be valid on every system.
func nameOrLocalhost(name string) string {
	if name == "" || checkHostname(name) != nil {
		return "localhost"
	}
	return name
}

// Protocol returns the protocol of the mode, or nil in modes tcp and http.
func (r *Relay) Protocol() *protocol.Protocol { return protocol.Find(r.Mode) }

// ByUser reports whether a login chooses the backend.
func (r *Relay) ByUser() bool { return len(r.Users) > 0 || r.UsersFile != "" }
