package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
)

// validate checks everything that does not depend on the files that c names. Defaults
// have to be set. The error contains all mistakes.
func (c *Config) validate() error {
	var all []error
	add := func(err error) {
		if err != nil {
			all = append(all, err)
		}
	}
	add(oneOf("log", c.Log, "text", "json"))
	add(oneOf("log-level", c.LogLevel, "debug", "info", "warn", "error"))
	add(positive("max-connections", c.MaxConnections))
	add(positive("max-handshakes", c.MaxHandshakes))
	if c.MaxConnsPerClient < 0 {
		add(wrongKey("max-connections-per-client", "want 0 or more, got %d", c.MaxConnsPerClient))
	}
	add(c.validateCounters())
	add(c.Sessions.validate())
	if len(c.Relays) == 0 {
		add(errors.New("there is no [[relay]]"))
	}
	names := make(map[string]bool)
	for i := range c.Relays {
		r := &c.Relays[i]
		if names[r.Name] {
			add(&relayError{i, r.Name, wrongKey("name", "another relay has the same name")})
		}
		names[r.Name] = true
		for _, err := range r.validate() {
			add(&relayError{i, r.Name, err})
		}
	}
	for _, err := range c.validateSharing() {
		add(err)
	}
	return errors.Join(all...)
}

func (c *Config) validateCounters() error {
	if c.Counters == "" {
		return nil
	}
	host, err := splitAddress(c.Counters)
	if err != nil {
		return wrongKey("counters", "%w", err)
	}
	if !loopback(host) && !c.CountersRemote {
		return wrongKey("counters", "%q is not a loopback address, and anyone who can reach it could read the counters; set counters-remote to allow this", c.Counters)
	}
	return nil
}

func (s *Sessions) validate() error {
	for _, o := range []struct{ key, value string }{
		{"sessions.secret-file", s.SecretFile}, {"sessions.redis-password", s.RedisPassword}, {"sessions.redis-cacrt", s.RedisCACrt},
	} {
		if s.Redis == "" && o.value != "" {
			return wrongKey(o.key, "needs sessions.redis")
		}
	}
	switch {
	case s.Redis == "" && s.Stateful:
		return wrongKey("sessions.stateful", "needs sessions.redis")
	case s.Redis != "" && s.TicketKeys != "":
		return wrongKey("sessions.ticket-keys", "cannot be combined with sessions.redis, through which the keys are shared")
	case s.Redis != "" && s.SecretFile == "":
		return wrongKey("sessions.secret-file", "is missing; sessions.redis needs it")
	case s.Epoch < Duration(time.Hour) || s.Epoch > Duration(24*time.Hour):
		return wrongKey("sessions.epoch", "want 1h to 24h, got %v", s.Epoch)
	}
	return validateSource("sessions.redis-password", s.RedisPassword)
}

// validateSource checks the source of a passphrase or password.
func validateSource(key, value string) error {
	if kind, _, _ := strings.Cut(value, ":"); value != "" && !slices.Contains([]string{"file", "env", "credential"}, kind) {
		return wrongKey(key, "want file:path, env:NAME or credential:name") // the value may be the passphrase itself
	}
	return nil
}

// validate returns all mistakes in r.
func (r *Relay) validate() (all []error) {
	add := func(err error) {
		if err != nil {
			all = append(all, err)
		}
	}
	if err := oneOf("mode", r.Mode, modes()...); err != nil {
		return []error{err} // everything else depends on it
	}
	add(r.validateListen())
	add(r.validateBackends())
	add(r.validateSides())
	add(r.validateNames())
	add(r.Server.validateClients())
	add(r.validateTexts())
	add(r.validateHTTP())
	add(positive("max-line", r.MaxLine))
	if r.MaxLine > maxLineBound {
		add(wrongKey("max-line", "want at most %d, got %d", maxLineBound, r.MaxLine))
	}
	for _, o := range options {
		if o.inRelay() {
			if d, ok := o.pointer(nil, r).(*Duration); ok && *d > Duration(maxTimeout) {
				add(wrongKey(o.key, "want at most %v, got %v", Duration(maxTimeout), *d))
			}
		}
	}
	handlers := []string{"", "ignore", "carp", "confess", "carponetime"}
	add(oneOf("errorhandler", r.Server.ErrorHandler, handlers...))
	add(oneOf("backend-errorhandler", r.Upstream.ErrorHandler, handlers...))
	for _, source := range []struct{ key, value string }{
		{"keypassphrase", r.Server.KeyPassphrase}, {"backend-keypassphrase", r.Upstream.KeyPassphrase},
	} {
		add(validateSource(source.key, source.value))
	}
	return all
}

const (
	// maxLineBound bounds max-line, because every client can fill a buffer of that
	// size.
	maxLineBound = 1 << 20
	// maxTimeout bounds every timeout; a longer one is probably a mistake.
	maxTimeout = 7 * 24 * time.Hour
)

func (r *Relay) validateListen() error {
	if len(r.Listen) == 0 {
		return wrongKey("listen", "is missing")
	}
	for _, s := range r.Listen {
		e, err := ParseEndpoint(s, DirectTLS)
		switch {
		case err != nil:
			return wrongKey("listen", "%w", err)
		case e.Network != "tcp":
			return wrongKey("listen", "%q: want a TCP address", s)
		case e.Security == StartTLS && r.Protocol() == nil:
			return wrongKey("listen", "%q: mode %s has no STARTTLS; %s have", s, r.Mode, listed(protocol.Names(nil), "and"))
		}
	}
	return nil
}

func (r *Relay) validateBackends() error {
	if r.Backend == "" && !r.ByUser() {
		return wrongKey("backend", "is missing")
	}
	if p := r.Protocol(); r.ByUser() && (p == nil || !p.Login) {
		return wrongKey("users", "mode %s has no login; only %s have one", r.Mode, listed(protocol.Names(func(p *protocol.Protocol) bool { return p.Login }), "and"))
	}
	check := func(key, s string) error {
		e, err := ParseBackend(s)
		if err != nil {
			return wrongKey(key, "%w", err)
		}
		if e.Security == StartTLS && r.Protocol() == nil {
			return wrongKey(key, "%q: mode %s has no STARTTLS; %s have", s, r.Mode, listed(protocol.Names(nil), "and"))
		}
		return nil
	}
	if r.Backend != "" {
		if err := check("backend", r.Backend); err != nil {
			return err
		}
	}
	for _, user := range SortedKeys(r.Users) {
		if err := check("users."+user, r.Users[user]); err != nil {
			return err
		}
	}
	if err := make(Users).addConfigured(r.Users); err != nil {
		return err
	}
	if r.ProxyProtocol && r.Mode == ModeHTTP {
		return wrongKey("proxy-protocol", "not in mode http, which sends X-Forwarded-For")
	}
	if p := r.Protocol(); r.AllowUnauthenticated && (p == nil || !p.Unauthenticated) {
		return wrongKey("allow-unauthenticated", "is for mode %s, and this is %s", listed(protocol.Names(func(p *protocol.Protocol) bool { return p.Unauthenticated }), "and"), r.Mode)
	}
	if r.AllowUnauthenticated && r.Backend == "" {
		return wrongKey("allow-unauthenticated", "needs backend, because a client without a login has no user name")
	}
	return nil
}

// validateSides rejects TLS options for a side that does not use TLS, because the
// prefix of an address is probably missing. It does not check the backends of users,
// some of which may use TLS while others do not: relay.Check reports options that have
// no effect on any of them.
func (r *Relay) validateSides() error {
	speaksTLS := func(e Endpoint, err error) bool { return err != nil || e.Security != Plain } // an error has been reported
	keys := r.Server.Given()
	if r.ServerNames != nil {
		keys = append(keys, "servernames")
	}
	if r.DefaultServer {
		keys = append(keys, "default-server")
	}
	if len(keys) > 0 && !slices.ContainsFunc(r.Listen, func(s string) bool { return speaksTLS(ParseEndpoint(s, DirectTLS)) }) {
		return &keyError{keys, errors.New("no listener has TLS")}
	}
	if keys := r.Upstream.Given(); len(keys) > 0 && r.Backend != "" && !r.ByUser() && !speaksTLS(ParseBackend(r.Backend)) {
		return &keyError{keys, fmt.Errorf("the backend %q is reached without TLS; use the prefix tls: in its address", r.Backend)}
	}
	return nil
}

// validateTexts checks the texts that the relay sends in lines of a protocol.
func (r *Relay) validateTexts() error {
	if err := checkPrintable(r.Greeting); err != nil {
		return wrongKey("greeting", "%w", err)
	}
	if err := checkHostname(r.Hostname); err != nil {
		return wrongKey("hostname", "%w", err)
	}
	p := r.Protocol()
	oneWord := p != nil && p.OneWord
	for _, word := range r.Capabilities {
		switch upper := strings.ToUpper(word); {
		case word == "" || !protocol.Printable(word) || oneWord && strings.Contains(word, " "):
			return wrongKey("capabilities", "want one word of printable ASCII, got %q", word)
		case upper == "STARTTLS" || upper == "STLS" || upper == "LOGINDISABLED" || strings.HasPrefix(upper, "AUTH"):
			return wrongKey("capabilities", "%s cannot be set; the relay announces it when it applies", upper)
		}
	}
	return nil
}

func checkPrintable(text string) error {
	if !protocol.Printable(text) {
		return errors.New("only printable ASCII is allowed")
	}
	return nil
}

func checkHostname(name string) error {
	if strings.Contains(name, " ") {
		return errors.New("contains a space")
	}
	return checkPrintable(name)
}

func (r *Relay) validateHTTP() error {
	if r.Mode != ModeHTTP {
		if len(r.Headers) > 0 {
			return wrongKey("headers", "is for mode http, and this is %s", r.Mode)
		}
		if len(r.StripHeaders) > 0 {
			return fmt.Errorf("strip-headers: is for mode http, and this is %s", r.Mode)
		}
		if r.ReuseAfterBody {
			return fmt.Errorf("reuse-after-body: is for mode http, and this is %s", r.Mode)
		}
		return nil
	}
	if slices.Contains(r.Server.ALPN, "h2") || slices.Contains(r.Upstream.ALPN, "h2") {
		return wrongKey("alpn", "mode http speaks HTTP/1.1, not h2")
	}
	seen := make(map[string]string)
	for _, what := range SortedKeys(r.Headers) {
		name := r.Headers[what]
		if _, known := DefaultHeaders()[what]; !known {
			return wrongKey("headers."+what, "want verdict, subject, issuer, serial, cipher or protocol as the key, got %q", what)
		}
		if name == "" {
			continue
		}
		if !token(name) {
			return wrongKey("headers."+what, "want the name of a header, got %q", name)
		}
		if Reserved(name) {
			return wrongKey("headers."+what, "%s is reserved by HTTP", name)
		}
		if other, twice := seen[HeaderKey(name)]; twice {
			return wrongKey("headers."+what, "%s already has the name %s", other, name)
		}
		seen[HeaderKey(name)] = what
	}
	for _, name := range r.StripHeaders {
		if base := strings.TrimSuffix(name, "*"); !token(base) {
			return fmt.Errorf("strip-headers: %q is not a header name", name)
		} else if Reserved(base) {
			return fmt.Errorf("strip-headers: %s is reserved by HTTP", name)
		}
	}
	if r.MaxHeader < 1024 || r.MaxHeader > maxLineBound {
		return wrongKey("max-header", "want 1024 to %d, got %d", maxLineBound, r.MaxHeader)
	}
	return nil
}

// Reserved reports whether a header is part of HTTP itself or of forwarding.
func Reserved(name string) bool {
	switch HeaderKey(name) {
	case "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "cookie", "authorization",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-real-ip":
		return true
	}
	return false
}

// HeaderKey returns a header's name in the form in which some programs compare names.
// CGI replaces '-' by '_', and some programs replace every special character, so that
// different names become equal.
func HeaderKey(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
}

// token reports whether s is a token (RFC 9110 section 5.6.2).
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	})
}

func oneOf(key, value string, list ...string) error {
	if slices.Contains(list, value) {
		return nil
	}
	return wrongKey(key, "%w", wantOneOf(value, list...))
}

// wantOneOf returns an error that lists the possible words. An empty word stands for
// the default and is not listed.
func wantOneOf(value string, list ...string) error {
	list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
	return fmt.Errorf("want %s, got %q", listed(list, "or"), value)
}

// listed returns "a, b and c".
func listed(list []string, and string) string {
	last := len(list) - 1
	if last < 1 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:last], ", ") + " " + and + " " + list[last]
}

func positive(key string, n int) error {
	if n < 1 {
		return wrongKey(key, "want a number above 0, got %d", n)
	}
	return nil
}

// The keys of Relay.Headers.
const (
	HeaderVerdict  = "verdict"
	HeaderSubject  = "subject"
	HeaderIssuer   = "issuer"
	HeaderSerial   = "serial"
	HeaderCipher   = "cipher"
	HeaderProtocol = "protocol"
)

// DefaultHeaders returns the default names of the headers.
func DefaultHeaders() map[string]string {
	return map[string]string{
		HeaderVerdict: "X-Client-Verdict", HeaderSubject: "X-Client-Subject", HeaderIssuer: "X-Client-Issuer",
		HeaderSerial: "X-Client-Serial", HeaderCipher: "X-TLS-Cipher", HeaderProtocol: "X-TLS-Protocol",
	}
}
