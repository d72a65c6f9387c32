package relay

import (
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"time"
)

// validate finds what is wrong without a look at any file that c names.
// Defaults are set. All that is wrong is in the error.
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
		add(fmt.Errorf("max-connections-per-client: %d is below 0", c.MaxConnsPerClient))
	}
	add(c.validateCounters())
	if len(c.Relays) == 0 {
		add(errors.New("there is no [[relay]]"))
	}
	names := make(map[string]bool)
	for i := range c.Relays {
		r := &c.Relays[i]
		if names[r.Name] {
			add(fmt.Errorf("relay %q: name: another relay has it; each needs one of its own", r.Name))
		}
		names[r.Name] = true
		for _, err := range r.validate() {
			add(fmt.Errorf("relay %q: %w", r.Name, err))
		}
	}
	return errors.Join(all...)
}

func (c *Config) validateCounters() error {
	if c.Counters == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Counters)
	if err != nil {
		return fmt.Errorf("counters: %q is no address such as 127.0.0.1:8099: %w", c.Counters, err)
	}
	if !loopback(host) && !c.CountersRemote {
		return fmt.Errorf("counters: %q is not a loopback address, and everybody who reaches it could read the counters; set counters-remote if that is meant", c.Counters)
	}
	return nil
}

// validate gives everything that is wrong with r.
func (r *Relay) validate() (all []error) {
	add := func(err error) {
		if err != nil {
			all = append(all, err)
		}
	}
	if err := oneOf("mode", r.Mode, modeTCP, modeHTTP, modeIMAP, modePOP3, modeSMTP); err != nil {
		return []error{err} // all else depends on it
	}
	add(r.validateListen())
	add(r.validateBackends())
	add(r.validateSides())
	add(r.validateTexts())
	add(r.validateHTTP())
	add(positive("max-line", r.MaxLine))
	if r.MaxLine > maxLineBound {
		add(fmt.Errorf("max-line: %d is above %d", r.MaxLine, maxLineBound))
	}
	for _, d := range []struct {
		key string
		d   Duration
	}{{"handshake-timeout", r.HandshakeTimeout}, {"command-timeout", r.CommandTimeout}, {"idle-timeout", r.IdleTimeout}, {"backend-timeout", r.BackendTimeout}} {
		if d.d > Duration(maxTimeout) {
			add(fmt.Errorf("%s: %v is above %v", d.key, d.d, Duration(maxTimeout)))
		}
	}
	handlers := []string{"", "ignore", "carp", "confess", "carponetime"}
	add(oneOf("errorhandler", r.ServerTLS.ErrorHandler, handlers...))
	add(oneOf("backend-errorhandler", r.BackendTLS.ErrorHandler, handlers...))
	for _, source := range []struct{ key, value string }{
		{"keypassphrase", r.ServerTLS.KeyPassphrase}, {"backend-keypassphrase", r.BackendTLS.KeyPassphrase},
	} {
		if kind, _, _ := strings.Cut(source.value, ":"); source.value != "" && !slices.Contains([]string{"file", "env", "credential"}, kind) {
			add(fmt.Errorf("%s: neither file:, env: nor credential: is in front of it", source.key)) // it may be the passphrase itself
		}
	}
	return all
}

const (
	// maxLineBound bounds max-line: the buffer is there for every client.
	maxLineBound = 1 << 20
	// maxTimeout bounds every time; a longer one is a slip.
	maxTimeout = 7 * 24 * time.Hour
)

func (r *Relay) validateListen() error {
	if len(r.Listen) == 0 {
		return errors.New("listen: is missing")
	}
	for _, s := range r.Listen {
		e, err := parseEndpoint(s, directTLS)
		switch {
		case err != nil:
			return fmt.Errorf("listen: %w", err)
		case e.network != "tcp":
			return fmt.Errorf("listen: %q: only TCP is listened on", s)
		case e.security == startTLS && !r.frontEnd():
			return fmt.Errorf("listen: %q: mode %s has no STARTTLS; imap, pop3 and smtp have", s, r.Mode)
		}
	}
	return nil
}

func (r *Relay) validateBackends() error {
	if r.Backend == "" && !r.byUser() {
		return errors.New("backend: is missing")
	}
	if r.byUser() && !r.frontEnd() {
		return fmt.Errorf("users: mode %s has no login; imap, pop3 and smtp have", r.Mode)
	}
	check := func(key, s string) error {
		e, err := parseBackend(s)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if e.security == startTLS && !r.frontEnd() {
			return fmt.Errorf("%s: %q: mode %s has no STARTTLS; imap, pop3 and smtp have", key, s, r.Mode)
		}
		return nil
	}
	if r.Backend != "" {
		if err := check("backend", r.Backend); err != nil {
			return err
		}
	}
	for _, user := range sortedKeys(r.Users) {
		if err := check("users."+user, r.Users[user]); err != nil {
			return err
		}
	}
	if r.ProxyProtocol && r.Mode == modeHTTP {
		return errors.New("proxy-protocol: not with mode http, where clients share connections to the backend; X-Forwarded-For has the address")
	}
	if r.Mode != modeSMTP && r.AllowUnauthenticated {
		return fmt.Errorf("allow-unauthenticated: is for mode smtp, and this is %s", r.Mode)
	}
	if r.AllowUnauthenticated && r.Backend == "" {
		return errors.New("allow-unauthenticated: needs backend: there is no user to choose by")
	}
	return nil
}

// validateSides refuses options of TLS for a side that speaks none: whoever
// gives them means it to, and a prefix is missing. Users' backends may be of
// both kinds; Check looks at them.
func (r *Relay) validateSides() error {
	speaksTLS := func(e endpoint, err error) bool { return err != nil || e.security != plain } // an error is reported already
	if keys := given(r.ServerTLS); len(keys) > 0 && !slices.ContainsFunc(r.Listen, func(s string) bool { return speaksTLS(parseEndpoint(s, directTLS)) }) {
		return fmt.Errorf("%s: no listener has TLS", strings.Join(keys, ", "))
	}
	if keys := given(r.BackendTLS); len(keys) > 0 && r.Backend != "" && !r.byUser() && !speaksTLS(parseBackend(r.Backend)) {
		return fmt.Errorf("%s: the backend %q is reached without TLS; tls: in front of it changes that", strings.Join(keys, ", "), r.Backend)
	}
	return nil
}

// given names the keys of t, a struct with options of TLS, that are set.
func given(t any) (keys []string) {
	v := reflect.ValueOf(t)
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("toml"); !v.Field(i).IsZero() && key != "proxy-protocol" {
			keys = append(keys, key)
		}
	}
	return keys
}

// validateTexts checks what the relay puts into lines of a protocol.
func (r *Relay) validateTexts() error {
	for _, s := range []struct{ key, value string }{{"greeting", r.Greeting}, {"hostname", r.Hostname}} {
		if !printable(s.value) {
			return fmt.Errorf("%s: only printable ASCII is possible", s.key)
		}
	}
	if strings.Contains(r.Hostname, " ") {
		return errors.New("hostname: holds a space")
	}
	for _, word := range r.Capabilities {
		switch upper := strings.ToUpper(word); {
		case word == "" || !printable(word) || r.Mode == modeIMAP && strings.Contains(word, " "):
			return fmt.Errorf("capabilities: %q is no capability", word)
		case upper == "STARTTLS" || upper == "STLS" || upper == "LOGINDISABLED" || strings.HasPrefix(upper, "AUTH"):
			return fmt.Errorf("capabilities: %s is added where it is true, and cannot be given", upper)
		}
	}
	return nil
}

func (r *Relay) validateHTTP() error {
	if r.Mode != modeHTTP {
		if len(r.Headers) > 0 {
			return fmt.Errorf("headers: is for mode http, and this is %s", r.Mode)
		}
		return nil
	}
	if slices.Contains(r.ServerTLS.ALPN, "h2") || slices.Contains(r.BackendTLS.ALPN, "h2") {
		return errors.New("alpn: mode http speaks HTTP/1.1, not h2")
	}
	seen := make(map[string]string)
	for _, what := range sortedKeys(r.Headers) {
		name := r.Headers[what]
		if _, known := defaultHeaders()[what]; !known {
			return fmt.Errorf("headers: %q is none of verdict, subject, issuer, serial, cipher, protocol", what)
		}
		if name == "" {
			continue
		}
		if !token(name) {
			return fmt.Errorf("headers.%s: %q is no name of a header", what, name)
		}
		if reserved(name) {
			return fmt.Errorf("headers.%s: %s has a meaning of its own in HTTP", what, name)
		}
		if other, twice := seen[headerKey(name)]; twice {
			return fmt.Errorf("headers.%s: %s has the name %s already", what, other, name)
		}
		seen[headerKey(name)] = what
	}
	if r.MaxHeader < 1024 || r.MaxHeader > maxLineBound {
		return fmt.Errorf("max-header: %d is not from 1024 to %d", r.MaxHeader, maxLineBound)
	}
	return nil
}

// reserved reports whether a header steers HTTP itself.
func reserved(name string) bool {
	switch headerKey(name) {
	case "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "cookie", "authorization",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-real-ip":
		return true
	}
	return false
}

// headerKey is a header's name as careless programs compare it: for CGI many
// turn '-' into '_', and some every sign, and with it two names into one.
func headerKey(name string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' {
			return c
		}
		return '-'
	}, strings.ToLower(name))
}

// token is RFC 9110 section 5.6.2.
func token(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	})
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

func oneOf(key, value string, list ...string) error {
	if slices.Contains(list, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is none of %s", key, value, strings.Trim(strings.Join(list, ", "), ", "))
}

func positive(key string, n int) error {
	if n < 1 {
		return fmt.Errorf("%s: %d is not above 0", key, n)
	}
	return nil
}
