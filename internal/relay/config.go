package relay

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
)

// Config is the whole configuration. The toml tag of a field is its key in the
// file and, for a flag, its name; the usage tag is its line in -help and in the
// manual page, with the name of the value between < and >. The restart tag says
// that a reload cannot change the key: "always", or in one mode.
type Config struct {
	Log               string   `toml:"log" restart:"always" usage:"form of the log on standard error: text or json as a <form>" default:"text"`
	LogLevel          string   `toml:"log-level" restart:"always" usage:"least <level> that is logged: debug, info, warn or error" default:"info"`
	Counters          string   `toml:"counters" restart:"always" usage:"<address> on which counters are served over HTTP (/debug/vars); loopback only, see counters-remote"`
	CountersRemote    bool     `toml:"counters-remote" usage:"admit an address in counters that is not loopback; everybody who reaches it can read the counters"`
	DrainTimeout      Duration `toml:"drain-timeout" restart:"always" usage:"<time> that connections get to finish after SIGTERM" default:"30s"`
	MaxConnections    int      `toml:"max-connections" restart:"always" usage:"<number> of client connections at a time, over all relays" default:"10000"`
	MaxConnsPerClient int      `toml:"max-connections-per-client" restart:"always" usage:"<number> of connections at a time from one client address (an IPv6 /64 is one), over all relays. Behind a proxy that hides the addresses of its clients it must be as large as max-connections" default:"a quarter of max-connections, and at least 16"`
	MaxHandshakes     int      `toml:"max-handshakes" restart:"always" usage:"<number> of TLS handshakes with clients under way at a time, over all relays" default:"200"`

	Relays []Relay `toml:"relay"`
}

// Relay is one [[relay]] table: some listeners, and where their connections go.
type Relay struct {
	Name    string            `toml:"name" restart:"always" usage:"<name> in the log and in the counters" default:"the mode"`
	Mode    string            `toml:"mode" restart:"always" usage:"<protocol> of the connections: tcp, http, imap, pop3 or smtp" default:"tcp"`
	Listen  []string          `toml:"listen" restart:"always" usage:"<address> to listen on, tls:host:port, starttls:host:port (imap, pop3, smtp) or plain:host:port; without a prefix it is tls"`
	Backend string            `toml:"backend" usage:"<address> of the server behind, host:port or unix:/path, in front of it plain:, starttls: or tls:; without a prefix it is plain. With users it is for everybody whom they do not name"`
	Users   map[string]string `toml:"users" flag:"user" usage:"<name=address>: the backend of one user (imap, pop3, smtp); @domain as the name stands for all users of a domain. Domains are compared without regard to case and a final dot, everything before the @ exactly"`
	// UsersFile is for more users than a configuration should hold.
	UsersFile string `toml:"users-file" usage:"<file> with a name and an address in each line, as in users"`

	ServerTLS
	BackendTLS
	FrontEnd
	HTTP
	Limits
}

// ServerTLS is the library's options for the side that clients connect to.
type ServerTLS struct {
	Crt                     string   `toml:"crt" usage:"certificate <file> of the relay, PEM as all files; its chain may stand behind it"`
	Key                     string   `toml:"key" usage:"<file> with the private key of crt"`
	KeyPassphrase           string   `toml:"keypassphrase" usage:"<source> of the passphrase of an encrypted key: file:/path, env:NAME or credential:name (of systemd)"`
	Chain                   string   `toml:"chain" usage:"<file> with the certificate and its intermediates, and the key if there is no key option"`
	CACrt                   string   `toml:"cacrt" usage:"<file> with the CAs that client certificates are verified against, or a directory of such files"`
	CAVerifyDepth           int      `toml:"caverifydepth" usage:"<number> of intermediates that a chain may have; 0 means 5"`
	CACRL                   string   `toml:"cacrl" usage:"<file> with revocation lists; a list without entries blocks everybody"`
	CRLCheck                string   `toml:"crlcheck" usage:"which <certificates> OpenSSL looks up in crlfiles: leaf (the client's own), chain (all of its chain) or off" default:"off"`
	CRLFiles                []string `toml:"crlfiles" usage:"<files> with revocation lists for crlcheck: signature, issuer and dates count"`
	AllowMissingCRL         bool     `toml:"allowmissingcrl" usage:"with crlcheck: let a certificate pass if there is no list of its issuer"`
	AllowExpiredCRL         bool     `toml:"allowexpiredcrl" usage:"with crlcheck: go on with a list that has expired"`
	ClientCert              bool     `toml:"clientcert" usage:"ask clients for a certificate, and refuse nobody; the verdict is in the log and in the headers of http"`
	BlockBadClientCert      bool     `toml:"blockbadclientcert" usage:"with clientcert: refuse clients that have no certificate at all"`
	RequireValidClientCert  bool     `toml:"requirevalidclientcert" usage:"refuse clients without a valid certificate, in the handshake"`
	IgnoreVerifyErrors      []int    `toml:"ignoreVerifyErrors" usage:"verify error <numbers> (X509_V_ERR) that do not count; each of 7, 18, 19 and 20 alone accepts a certificate that anybody can make, 62 and 64 accept any name"`
	DHCert                  string   `toml:"dhcert" usage:"<file> with Diffie-Hellman parameters for the DHE suites of TLS 1.2"`
	Cipher                  string   `toml:"cipher" usage:"OpenSSL cipher <list> of TLS 1.2 and earlier, @SECLEVEL=n included"`
	CipherSuites            string   `toml:"ciphersuites" usage:"<list> of TLS 1.3 suites"`
	Groups                  string   `toml:"groups" usage:"<list> of key exchange groups, such as X25519:P-256"`
	ALPN                    []string `toml:"alpn" usage:"application <protocols> that the relay agrees to, the most wanted first"`
	NumTickets              int      `toml:"numtickets" usage:"<number> of session tickets for each TLS 1.3 handshake; 0 means 2, -1 means none, in TLS 1.2 neither"`
	NoRenegotiation         bool     `toml:"norenegotiation" usage:"refuse renegotiations; this side always does"`
	NoHonor                 bool     `toml:"nohonor" usage:"let the client's order of ciphers decide"`
	TLS                     bool     `toml:"tls" usage:"TLS 1.2 or later, which is the default"`
	TLS12                   bool     `toml:"tls1_2" usage:"TLS 1.2 and nothing else"`
	MinVersion              string   `toml:"minversion" usage:"lowest protocol <version>: 1.0, 1.1, 1.2 or 1.3" default:"1.2"`
	MaxVersion              string   `toml:"maxversion" usage:"highest protocol <version>" default:"1.3"`
	SNI                     string   `toml:"sni" usage:"host <name>; without effect on this side, as in the original"`
	AllowMissingCloseNotify bool     `toml:"allowmissingclosenotify" usage:"take a connection that a client ends between two records, without close_notify, for one that it ended well; anyone on the network can end it there"`
	FIPS                    bool     `toml:"fips" usage:"take all cryptography of this side from OpenSSL's FIPS provider, and refuse to start without; the log then names the providers of each connection"`
	FIPSConfig              string   `toml:"fips-config" usage:"OpenSSL configuration <file> that activates the FIPS provider, with fips" default:"OPENSSL_CONF or OpenSSL's own"`
	ErrorHandler            string   `toml:"errorhandler" usage:"what logs the errors of TLS connections besides the relay: ignore, carp (each), confess (each, with the stack) or carponetime (each text once) as a <way>" default:"ignore"`
	Debug                   bool     `toml:"debug" usage:"log steps of the handshakes, options without effect and verdicts, at level debug; never plaintext, keys or passphrases"`
}

// BackendTLS is the library's options for the side that connects to servers.
type BackendTLS struct {
	Crt                     string   `toml:"backend-crt" usage:"certificate <file> that is shown to the backend"`
	Key                     string   `toml:"backend-key" usage:"<file> with the private key of backend-crt"`
	KeyPassphrase           string   `toml:"backend-keypassphrase" usage:"<source> of its passphrase, as in keypassphrase"`
	Chain                   string   `toml:"backend-chain" usage:"<file> with the certificate and its intermediates, and the key if there is no backend-key"`
	CACrt                   string   `toml:"backend-cacrt" usage:"<file> with the CAs that the backend is verified against, or a directory of such files" default:"the CAs of the system"`
	CAVerifyDepth           int      `toml:"backend-caverifydepth" usage:"<number> of intermediates that its chain may have; 0 means 5"`
	CACRL                   string   `toml:"backend-cacrl" usage:"<file> with revocation lists that the backend's chain must not be on"`
	CRLCheck                string   `toml:"backend-crlcheck" usage:"which <certificates> OpenSSL looks up in backend-crlfiles, as in crlcheck" default:"off"`
	CRLFiles                []string `toml:"backend-crlfiles" usage:"<files> with revocation lists for backend-crlcheck"`
	AllowMissingCRL         bool     `toml:"backend-allowmissingcrl" usage:"as allowmissingcrl"`
	AllowExpiredCRL         bool     `toml:"backend-allowexpiredcrl" usage:"as allowexpiredcrl"`
	IgnoreVerifyErrors      []int    `toml:"backend-ignoreVerifyErrors" usage:"verify error <numbers> (X509_V_ERR) that do not count; each of 7, 18, 19 and 20 alone accepts a certificate that anybody can make, 62 and 64 accept any name"`
	Cipher                  string   `toml:"backend-cipher" usage:"OpenSSL cipher <list> of TLS 1.2 and earlier"`
	CipherSuites            string   `toml:"backend-ciphersuites" usage:"<list> of TLS 1.3 suites"`
	Groups                  string   `toml:"backend-groups" usage:"<list> of key exchange groups"`
	ALPN                    []string `toml:"backend-alpn" usage:"application <protocols> that are offered"`
	NoRenegotiation         bool     `toml:"backend-norenegotiation" usage:"refuse renegotiations that a backend asks for in TLS 1.2; without it up to 16 are followed"`
	TLS                     bool     `toml:"backend-tls" usage:"TLS 1.2 or later, which is the default"`
	TLS12                   bool     `toml:"backend-tls1_2" usage:"TLS 1.2 and nothing else"`
	MinVersion              string   `toml:"backend-minversion" usage:"lowest protocol <version>" default:"1.2"`
	MaxVersion              string   `toml:"backend-maxversion" usage:"highest protocol <version>" default:"1.3"`
	SNI                     string   `toml:"backend-sni" usage:"host <name> that is sent in the ClientHello; it does not change the name that is verified" default:"the name that is verified"`
	ServerName              string   `toml:"backend-servername" usage:"<name> or IP address that the backend's certificate must have" default:"the host in the backend's address"`
	InsecureSkipVerify      bool     `toml:"backend-insecureskipverify" usage:"take any backend for the right one; the verdict is logged"`
	AllowMissingCloseNotify bool     `toml:"backend-allowmissingclosenotify" usage:"as allowmissingclosenotify, for connections that the backend ends"`
	FIPS                    bool     `toml:"backend-fips" usage:"as fips"`
	FIPSConfig              string   `toml:"backend-fips-config" usage:"as fips-config; a <file>" default:"OPENSSL_CONF or OpenSSL's own"`
	ErrorHandler            string   `toml:"backend-errorhandler" usage:"as errorhandler, as a <way>" default:"ignore"`
	Debug                   bool     `toml:"backend-debug" usage:"as debug"`

	ProxyProtocol bool `toml:"proxy-protocol" usage:"tell the backend the client's address by PROXY protocol version 2, in front of everything else; not with http"`
}

// FrontEnd is what the relay says itself before it forwards (imap, pop3, smtp).
type FrontEnd struct {
	AllowPlaintext       bool     `toml:"allow-plaintext" usage:"let clients of a starttls listener log in without TLS. Without it LOGINDISABLED is announced and a login before STARTTLS is refused"`
	AllowUnauthenticated bool     `toml:"allow-unauthenticated" usage:"smtp: forward clients that send mail without logging in. The backend sees the relay's address, and must not trust it"`
	Greeting             string   `toml:"greeting" usage:"<text> of the greeting" default:"sslrelay ready"`
	Hostname             string   `toml:"hostname" usage:"smtp: <name> of the relay in the greeting and in its own EHLO" default:"the system's"`
	Capabilities         []string `toml:"capabilities" usage:"<words> that are announced before the login; STARTTLS, LOGINDISABLED and AUTH are added where they are true" default:"IMAP4rev1, SASL-IR, LITERAL- (with a max-line of at least 8192) and ID for imap, USER for pop3, 8BITMIME for smtp"`
}

// HTTP is for mode http.
type HTTP struct {
	Headers          map[string]string `toml:"headers" flag:"header" usage:"<what=name>: the header that tells the backend verdict (valid, invalid, none), subject, issuer, serial, cipher or protocol of the connection; an empty name is not told. What a client sends under these names is removed" default:"X-Client-Verdict, X-Client-Subject, X-Client-Issuer, X-Client-Serial, X-TLS-Cipher, X-TLS-Protocol"`
	StripHeaders     []string          `toml:"strip-headers" usage:"<names> of more headers that no client may send to the backend, besides those that proxies usually set (docs/relay.md lists them); with * at its end a name is a prefix"`
	TrustForwarded   bool              `toml:"trust-forwarded" usage:"keep the client's Forwarded, X-Forwarded-* and X-Real-IP, and add the client to Forwarded and X-Forwarded-For; for relays behind another proxy"`
	ReuseAfterBody   bool              `toml:"reuse-after-body" usage:"keep a connection to the backend after POST, PUT and PATCH with a body; only for a backend that always reads the whole body, since it takes what it leaves for another request"`
	NoPlainHTTPReply bool              `toml:"no-plain-http-reply" usage:"send no 400 to a client that speaks plain HTTP to a tls listener"`
	MaxHeader        int               `toml:"max-header" restart:"always" usage:"<bytes> of a request's head that are always taken; up to 4096 more may be, and then the answer is 431" default:"65536"`
}

// Limits bounds what one connection may take.
type Limits struct {
	HandshakeTimeout Duration `toml:"handshake-timeout" usage:"<time> for the handshake with a client" default:"10s"`
	CommandTimeout   Duration `toml:"command-timeout" restart:"http" usage:"<time> from the connection to a successful login (imap, pop3, smtp), or for the head of a request (http)" default:"1m"`
	IdleTimeout      Duration `toml:"idle-timeout" restart:"http" usage:"<time> without a byte in either direction after which a connection is closed" default:"35m"`
	KeepaliveTimeout Duration `toml:"keepalive-timeout" restart:"http" usage:"<time> that a kept connection of a client may wait for the next request (http)" default:"1m"`
	BackendTimeout   Duration `toml:"backend-timeout" usage:"<time> to reach the backend, TLS and login included" default:"30s"`
	ResponseTimeout  Duration `toml:"response-timeout" usage:"http: <time> for the head of the backend's answer, after the whole request has been sent; then the client gets status 504" default:"backend-timeout"`
	MaxLine          int      `toml:"max-line" usage:"<bytes> of one command before the forwarding, literals included" default:"12288"`
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

// String gives "1m30s", and "1m" rather than "1m0s".
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

// Std is d for package time.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Modes of a relay.
const (
	modeTCP  = "tcp"
	modeHTTP = "http"
)

// setDefaults fills in what is not given.
func (c *Config) setDefaults() {
	set(&c.Log, "text")
	set(&c.LogLevel, "info")
	set(&c.DrainTimeout, Duration(30*time.Second))
	set(&c.MaxConnections, 10000)
	set(&c.MaxConnsPerClient, max(c.MaxConnections/4, 16))
	set(&c.MaxHandshakes, 200)
	for i := range c.Relays {
		c.Relays[i].setDefaults()
	}
}

func (r *Relay) setDefaults() {
	set(&r.Mode, modeTCP)
	set(&r.Name, r.Mode)
	set(&r.Greeting, "sslrelay ready")
	set(&r.MaxHeader, 64<<10)
	set(&r.HandshakeTimeout, Duration(10*time.Second))
	set(&r.CommandTimeout, Duration(time.Minute))
	set(&r.IdleTimeout, Duration(35*time.Minute))
	set(&r.KeepaliveTimeout, Duration(time.Minute))
	set(&r.BackendTimeout, Duration(30*time.Second))
	set(&r.ResponseTimeout, r.BackendTimeout)
	set(&r.MaxLine, 12<<10) // RFC 4954 section 4: AUTH of SMTP has the longest lines
	if p := protocol.Find(r.Mode); p != nil && p.Capabilities != nil && r.Capabilities == nil {
		r.Capabilities = p.Capabilities(r.MaxLine)
	}
	if r.Mode == modeHTTP {
		headers := defaultHeaders()
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

// What a header can tell.
const (
	headerVerdict  = "verdict"
	headerSubject  = "subject"
	headerIssuer   = "issuer"
	headerSerial   = "serial"
	headerCipher   = "cipher"
	headerProtocol = "protocol"
)

func defaultHeaders() map[string]string {
	return map[string]string{
		headerVerdict: "X-Client-Verdict", headerSubject: "X-Client-Subject", headerIssuer: "X-Client-Issuer",
		headerSerial: "X-Client-Serial", headerCipher: "X-TLS-Cipher", headerProtocol: "X-TLS-Protocol",
	}
}

// frontEnd reports whether the relay speaks the protocol itself before it forwards.
func (r *Relay) frontEnd() bool { return protocol.Find(r.Mode) != nil }

// byUser reports whether a login chooses the backend.
func (r *Relay) byUser() bool { return len(r.Users) > 0 || r.UsersFile != "" }
