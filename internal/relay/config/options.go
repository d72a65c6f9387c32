package config

import (
	"reflect"
	"strings"

	"github.com/seed-014b8713/sslfilter/internal/relay/protocol"
)

// row is one option in the table below. The keys of the configuration file, the
// flags, -help, the manual page, the defaults and the check of a reload come from
// it.
type row struct {
	field   string // of Config, Relay or TLS, which has the library's options
	key     string // in the file; also the name of the flag unless flag is set
	flag    string
	usage   string   // with the name of the value between < and >
	backend string   // TLS: usage of the form for backends, "backend-" + key; empty if there is no such form
	preset  string   // default, as the flag would be written
	unset   string   // describes what applies without a value, if that is not a constant
	restart string   // a reload cannot change the option: always, a mode, or ofAddresses
	early   Security // applies before the server name is known: relays that share a listener of this kind must agree
}

const (
	always        = "always"                    // row.restart
	ofAddresses   = "addresses"                 // row.restart, if an address would be opened or closed
	anyTLS        = Security("tls or starttls") // row.early
	backendPrefix = "backend-"
	backendOnly   = "" // row.usage of an option that exists for backends only
)

// scope is the struct that the fields of a section belong to.
type scope uint8

const (
	ofProgram  scope = iota // Config
	ofSessions              // Config.Sessions
	ofRelay                 // Relay
	ofServer                // Relay.Server
	ofBackend               // Relay.Upstream
)

// section is a part of the table, with its title in the manual page.
type section struct {
	title string
	scope scope
	rows  []row
}

// table returns all options in the order of the manual page.
func table() []section {
	protocols := strings.Join(protocol.Names(nil), ", ")
	return []section{
		{"The whole program", ofProgram, []row{
			{field: "Log", key: "log", preset: "text", restart: always, usage: "<format> of the log on standard error: text or json"},
			{field: "LogLevel", key: "log-level", preset: "info", restart: always, usage: "lowest <level> that is logged: debug, info, warn or error"},
			{field: "Counters", key: "counters", restart: always, usage: "<address> on which counters are served over HTTP (/debug/vars); a loopback address, unless counters-remote is set"},
			{field: "CountersRemote", key: "counters-remote", usage: "allow an address in counters that is not a loopback address; anyone who can reach it can read the counters"},
			{field: "DrainTimeout", key: "drain-timeout", preset: "30s", restart: always, usage: "<time> that connections have to finish after SIGTERM"},
			{field: "MaxConnections", key: "max-connections", preset: "10000", restart: always, usage: "maximum <number> of client connections, over all relays"},
			{field: "MaxConnsPerClient", key: "max-connections-per-client", restart: always, unset: "a quarter of max-connections, but at least 16",
				usage: "maximum <number> of connections from one client address, over all relays; an IPv6 /64 network counts as one address. If a proxy hides the addresses of the clients, set it to max-connections"},
			{field: "MaxHandshakes", key: "max-handshakes", preset: "200", restart: always, usage: "maximum <number> of concurrent TLS handshakes with clients, over all relays"},
		}},
		{"Sessions that relays on several machines share", ofSessions, []row{
			{field: "TicketKeys", key: "sessions.ticket-keys", unset: "each relay has random keys, which a reload keeps", usage: "<file> with the keys of session tickets, in the format of nginx (ssl_session_ticket_key) or haproxy (tls-ticket-keys), for all relays. Servers with the same keys and certificates resume each other's sessions. A reload reads it again"},
			{field: "Redis", key: "sessions.redis", restart: always, unset: "each process has sessions of its own", usage: "<address> of the Redis through which relays on several machines resume each other's sessions: redis://user@host:port/database, rediss:// for TLS, unix:///path, or hosts with ports and ?master=name (Sentinels) or ?cluster=true. Only the program adapters/redis/cmd/sslrelay has a Redis client"},
			{field: "RedisPassword", key: "sessions.redis-password", restart: always, usage: "<source> of the password of Redis, as in keypassphrase"},
			{field: "RedisCACrt", key: "sessions.redis-cacrt", restart: always, unset: "the CAs of the system", usage: "<file> or directory with the CAs that a Redis with TLS is verified against"},
			{field: "SecretFile", key: "sessions.secret-file", restart: always, usage: "<file> with the secret that seals everything in Redis, the same on all machines: 64 hexadecimal digits (openssl rand -hex 32), with mode 0600"},
			{field: "Epoch", key: "sessions.epoch", preset: "1h", restart: always, usage: "<time> for which tickets are encrypted with the same key, from 1h to 24h, the same on all machines"},
			{field: "Stateful", key: "sessions.stateful", restart: always, usage: "keep the sessions themselves in Redis, and give clients only session ids, so that a session can be deleted; a handshake that resumes a session waits for Redis, for at most 250 ms"},
		}},
		{"A relay", ofRelay, []row{
			{field: "Name", key: "name", unset: "the mode", usage: "<name> in the log and in the counters"},
			{field: "Mode", key: "mode", preset: ModeTCP, restart: always, early: StartTLS, usage: "<protocol> of the connections: " + listed(modes(), "or")},
			{field: "Listen", key: "listen", restart: ofAddresses, usage: "<address> to listen on: tls:host:port, starttls:host:port (" + protocols + ") or plain:host:port; without a prefix it is tls:. Relays with the same address share it, and the server name of the client (SNI) chooses the relay"},
			{field: "ServerNames", key: "servernames", unset: "the names in the certificate, if another relay shares the address", usage: "<names> of the servers that this relay serves; *.example.org stands for every name with one label before .example.org. A client that asks for another name or for none is rejected, unless default-server is set"},
			{field: "DefaultServer", key: "default-server", usage: "also serve clients whose server name belongs to no relay, or that send none; only one relay of an address can set it"},
			{field: "Backend", key: "backend", usage: "<address> of the backend: host:port or unix:/path, with the prefix plain:, starttls: (" + protocols + ") or tls:; without a prefix it is plain:. If users are configured, all other users get this backend"},
			{field: "Users", key: "users", flag: "user", usage: "<name=address>: the backend of one user (" + strings.Join(withLogin(), ", ") + "); @domain stands for all users of a domain. Case and a trailing dot are ignored in domains; everything before the @ is compared exactly"},
			{field: "UsersFile", key: "users-file", usage: "<file> with more users: a name and an address on each line, as in users"},
			{field: "ProxyProtocol", key: "proxy-protocol", usage: "send the client's address to the backend with version 2 of the PROXY protocol, before everything else; not in mode http"},
		}},
		{"TLS with clients", ofServer, tlsRows},
		{"TLS with backends", ofBackend, tlsRows},
		{"Before the login", ofRelay, []row{
			{field: "AllowPlaintext", key: "allow-plaintext", early: StartTLS, usage: "allow logins without TLS on a starttls listener. Without this option the relay announces LOGINDISABLED and rejects a login before STARTTLS"},
			{field: "AllowUnauthenticated", key: "allow-unauthenticated", early: StartTLS, usage: "forward clients that send mail without a login (smtp). The backend sees the relay's address and must not trust it"},
			{field: "Greeting", key: "greeting", early: StartTLS, preset: "sslrelay ready", usage: "<text> of the greeting"},
			{field: "Hostname", key: "hostname", early: StartTLS, unset: "the host name of the system", usage: "<name> of the relay in its greeting and its EHLO (smtp)"},
			{field: "Capabilities", key: "capabilities", early: StartTLS, unset: presetCapabilities(),
				usage: "<words> that are announced before the login; the relay itself adds STARTTLS, LOGINDISABLED and AUTH. LITERAL- is announced by default only if max-line is at least 8192"},
		}},
		{"Mode http", ofRelay, []row{
			{field: "Headers", key: "headers", flag: "header", unset: "X-Client-Verdict, X-Client-Subject, X-Client-Issuer, X-Client-Serial, X-TLS-Cipher, X-TLS-Protocol",
				usage: "<what=name>: the header that tells the backend the verdict (valid, invalid, none), subject, issuer, serial, cipher or protocol of the connection; an empty name omits it. The relay removes headers with these names from the client's requests"},
			{field: "StripHeaders", key: "strip-headers", usage: "<names> of more headers that are removed from the client's requests, in addition to those that proxies usually set (docs/relay.md lists them); a name that ends with * is a prefix"},
			{field: "TrustForwarded", key: "trust-forwarded", usage: "keep the client's Forwarded, X-Forwarded-* and X-Real-IP, and add the client to Forwarded and X-Forwarded-For; for a relay behind another proxy"},
			{field: "ReuseAfterBody", key: "reuse-after-body", usage: "reuse a connection to the backend after a POST, PUT or PATCH request with a body; only for a backend that always reads the whole body: other backends take the unread part for another request"},
			{field: "NoPlainHTTPReply", key: "no-plain-http-reply", early: DirectTLS, usage: "do not send status 400 to a client that speaks plain HTTP to a tls listener"},
			{field: "MaxHeader", key: "max-header", preset: "65536", restart: always, usage: "size in <bytes> up to which every request header is accepted; a header that exceeds it by more than 4096 bytes gets status 431"},
		}},
		{"Limits of a connection", ofRelay, []row{
			{field: "HandshakeTimeout", key: "handshake-timeout", early: anyTLS, preset: "10s", usage: "<time> for the TLS handshake with a client"},
			{field: "CommandTimeout", key: "command-timeout", early: StartTLS, preset: "1m", restart: ModeHTTP, usage: "<time> from the connection to a successful login (" + strings.Join(withLogin(), ", ") + "), or for a request header (http)"},
			{field: "IdleTimeout", key: "idle-timeout", preset: "35m", restart: ModeHTTP, usage: "<time> without data in either direction after which a connection is closed"},
			{field: "KeepaliveTimeout", key: "keepalive-timeout", preset: "1m", restart: ModeHTTP, usage: "<time> that a client's connection may be idle between two requests (http)"},
			{field: "BackendTimeout", key: "backend-timeout", preset: "30s", usage: "<time> for the connection to the backend, including TLS and login"},
			{field: "ResponseTimeout", key: "response-timeout", unset: "backend-timeout", usage: "<time> for the header of the backend's response, after the whole request has been sent (http); then the client gets status 504"},
			{field: "MaxLine", key: "max-line", early: StartTLS, preset: "12288", usage: "maximum size of one command before the login in <bytes>, including literals"}, // RFC 4954 section 4: AUTH of SMTP has the longest lines
		}},
	}
}

// tlsRows are the options of the library. A new one needs a row here; its value
// needs a case in setTOML and setText only if its type is new.
var tlsRows = []row{
	{field: "Crt", key: "crt", usage: "<file> with the relay's certificate in PEM, which may be followed by its chain", backend: "<file> with the certificate that is presented to the backend"},
	{field: "Key", key: "key", usage: "<file> with the private key of crt", backend: "<file> with the private key of backend-crt"},
	{field: "KeyPassphrase", key: "keypassphrase", usage: "<source> of the passphrase of an encrypted key: file:/path, env:NAME or credential:name (of systemd)", backend: "<source> of the passphrase of backend-key, as in keypassphrase"},
	{field: "Chain", key: "chain", usage: "<file> with the certificate and its intermediates, and the key if key is not set", backend: "<file> with the certificate and its intermediates, and the key if backend-key is not set"},
	{field: "Identities", key: "identities",
		usage:   "<file=key>: one more certificate file with its chain, and its key file; leave the key empty if it is in the same file. OpenSSL chooses by the client's algorithms; there can be one certificate per key type (RSA, EC, Ed25519), including crt",
		backend: "<file=key>: one more certificate file with its chain, and its key file, as in identities. The first certificate that fits the backend's list of CAs is presented: backend-crt, and then these in the order of their names"},
	{field: "Stapling", key: "stapling", usage: "fetch OCSP responses for the certificates, refresh them, and staple them; the issuer must be in the chain or in cacrt"},
	{field: "StaplingResponder", key: "stapling-responder", unset: "the responder that the certificate names", usage: "with stapling: <URL> of the OCSP responder"},
	{field: "OCSPCheck", key: "ocspcheck", unset: "off", usage: backendOnly, backend: "<when> to verify the OCSP response that a backend staples: if-stapled, require (a backend that staples none is rejected) or off"},
	{field: "CACrt", key: "cacrt", usage: "<file> or directory with the CAs that client certificates are verified against", backend: "<file> or directory with the CAs that the backend is verified against; without it, the CAs of the system"},
	{field: "CAVerifyDepth", key: "caverifydepth", usage: "maximum <number> of intermediates in a client's chain; 0 means 5", backend: "maximum <number> of intermediates in the backend's chain; 0 means 5"},
	{field: "CACRL", key: "cacrl", usage: "<file> with CRLs; certificates whose serial numbers are on them are rejected. A CRL without entries rejects every client", backend: "<file> with CRLs; a backend whose chain contains one of their serial numbers is rejected"},
	{field: "CRLCheck", key: "crlcheck", unset: "off", usage: "<certificates> that OpenSSL looks up in crlfiles: leaf (the client's own), chain (the whole chain) or off", backend: "<certificates> that OpenSSL looks up in backend-crlfiles, as in crlcheck"},
	{field: "CRLFiles", key: "crlfiles", usage: "<files> with CRLs for crlcheck, which checks signature, issuer and dates", backend: "<files> with CRLs for backend-crlcheck"},
	{field: "AllowMissingCRL", key: "allowmissingcrl", usage: "with crlcheck: accept a certificate if there is no CRL of its issuer", backend: "as allowmissingcrl"},
	{field: "AllowExpiredCRL", key: "allowexpiredcrl", usage: "with crlcheck: use a CRL that has expired", backend: "as allowexpiredcrl"},
	{field: "ClientCert", key: "clientcert", usage: "request a client certificate, but accept every client; the verdict is in the log and in the headers of mode http"},
	{field: "BlockBadClientCert", key: "blockbadclientcert", usage: "with clientcert: reject clients without a certificate"},
	{field: "BlockInvalidClientCert", key: "blockinvalidclientcert", usage: "during the handshake, reject a client certificate that is not valid, but accept clients without one"},
	{field: "RequireValidClientCert", key: "requirevalidclientcert", usage: "during the handshake, reject clients without a valid certificate"},
	{field: "AllowClients", key: "allow-clients", unset: "all",
		usage: "with requirevalidclientcert: serve only these <clients>: cn:name, dns:name, email:address, uri:URI, issuer:name or sha256:fingerprint"},
	{field: "IgnoreVerifyErrors", key: "ignoreVerifyErrors",
		usage:   "<numbers> of verification errors (X509_V_ERR) to ignore; 7, 18, 19 or 20 alone accepts certificates that anyone can make, and 62 or 64 accepts any name",
		backend: "<numbers> of verification errors (X509_V_ERR) to ignore; 7, 18, 19 or 20 alone accepts certificates that anyone can make, and 62 or 64 accepts any name"},
	{field: "DHCert", key: "dhcert", usage: "<file> with Diffie-Hellman parameters for the DHE suites of TLS 1.2"},
	{field: "Cipher", key: "cipher", usage: "OpenSSL cipher <list> of TLS 1.2 and earlier, optionally with @SECLEVEL=n", backend: "OpenSSL cipher <list> of TLS 1.2 and earlier"},
	{field: "CipherSuites", key: "ciphersuites", usage: "<list> of TLS 1.3 cipher suites", backend: "<list> of TLS 1.3 cipher suites"},
	{field: "Groups", key: "groups", usage: "<list> of key exchange groups, such as X25519:P-256", backend: "<list> of key exchange groups"},
	{field: "SignatureAlgorithms", key: "signaturealgorithms", usage: "<list> of signature algorithms of handshakes, such as ECDSA+SHA256:rsa_pss_rsae_sha256", backend: "<list> of signature algorithms of handshakes with backends"},
	{field: "Conf", key: "conf", usage: "<commands> of OpenSSL (SSL_CONF_cmd), each with its value, such as \"RecordPadding 4096\"; they are applied in order. Commands about verification, certificates and unsafe renegotiation are errors", backend: "<commands> of OpenSSL for connections to backends, as in conf"},
	{field: "ALPN", key: "alpn", usage: "application <protocols> that the relay accepts, in order of preference", backend: "application <protocols> that the relay offers, in order of preference"},
	{field: "NumTickets", key: "numtickets", usage: "<number> of session tickets per TLS 1.3 handshake; 0 means 2, and -1 means none, in TLS 1.2 too"},
	{field: "ResumeClientCert", key: "resume-client-cert", usage: "let clients with a certificate resume their sessions; their certificates are verified again each time"},
	{field: "NoRenegotiation", key: "norenegotiation", usage: "no effect: the relay always rejects renegotiation by clients", backend: "reject renegotiation by a backend in TLS 1.2; without this option up to 16 are accepted"},
	{field: "NoHonor", key: "nohonor", usage: "use the client's order of ciphers"},
	{field: "TLS", key: "tls", usage: "TLS 1.2 or later, which is the default", backend: "TLS 1.2 or later, which is the default"},
	{field: "TLS12", key: "tls1_2", usage: "TLS 1.2 only", backend: "TLS 1.2 only"},
	{field: "MinVersion", key: "minversion", unset: "1.2", usage: "minimum protocol <version>: 1.0, 1.1, 1.2 or 1.3", backend: "minimum protocol <version>"},
	{field: "MaxVersion", key: "maxversion", unset: "1.3", usage: "maximum protocol <version>", backend: "maximum protocol <version>"},
	{field: "SNI", key: "sni", usage: "host <name>; no effect with clients, as in POE::Filter::SSL", backend: "host <name> that is sent in the ClientHello; by default the name that is verified, which this option does not change"},
	{field: "ServerName", key: "servername", unset: "the host of the backend's address", usage: backendOnly, backend: "<name> or IP address that the backend's certificate must have"},
	{field: "InsecureSkipVerify", key: "insecureskipverify", usage: backendOnly, backend: "accept every backend certificate; the verdict is logged"},
	{field: "AllowMissingCloseNotify", key: "allowmissingclosenotify", usage: "accept the end of a connection between two records without close_notify; anyone on the network can end a connection there", backend: "as allowmissingclosenotify, for connections that the backend ends"},
	{field: "FIPS", key: "fips", usage: "use only OpenSSL's FIPS provider for clients; the relay does not start without it. The log names the providers of each connection", backend: "use only OpenSSL's FIPS provider for backends, as fips does for clients"},
	{field: "FIPSConfig", key: "fips-config", unset: "OPENSSL_CONF or OpenSSL's own", usage: "with fips: OpenSSL configuration <file> that activates the FIPS provider", backend: "with backend-fips: OpenSSL configuration <file> that activates the FIPS provider"},
	{field: "KeyLog", key: "keylogfile", usage: "<file> to which the secrets of connections with clients are appended, in the format that Wireshark reads, or env:SSLKEYLOGFILE for the file that this variable names. Only for debugging: anyone who can read the file can decrypt the connections", backend: "<file> to which the secrets of connections with backends are appended, as in keylogfile"},
	{field: "ErrorHandler", key: "errorhandler", unset: "ignore", usage: "<handler> that logs TLS errors in addition to the relay's own log: ignore, carp (each error), confess (each error with the stack) or carponetime (each text once)", backend: "<handler> that logs TLS errors, as in errorhandler"},
	{field: "Debug", key: "debug", usage: "log handshake steps, options without effect and verdicts at level debug; never plaintext, keys or passphrases", backend: "as debug"},
}

// option is a row in one of its forms.
type option struct {
	row
	scope scope
	title string
}

// options is the table with every row in each of its forms.
var options = func() (all []option) {
	for _, s := range table() {
		for _, r := range s.rows {
			if s.scope == ofBackend {
				r.key, r.usage = backendPrefix+r.key, r.backend
			}
			if r.usage != "" {
				if r.flag == "" {
					r.flag = strings.ReplaceAll(r.key, ".", "-")
				}
				all = append(all, option{r, s.scope, s.title})
			}
		}
	}
	return all
}()

// inRelay reports whether the option belongs to a relay, or else to the program.
func (o *option) inRelay() bool { return o.scope != ofProgram && o.scope != ofSessions }

// value returns the field of the option in c or r.
func (o *option) value(c *Config, r *Relay) reflect.Value {
	var in any
	switch o.scope {
	case ofProgram:
		in = c
	case ofSessions:
		in = &c.Sessions
	case ofRelay:
		in = r
	case ofServer:
		in = &r.Server
	case ofBackend:
		in = &r.Upstream
	}
	return reflect.ValueOf(in).Elem().FieldByName(o.field)
}

// pointer returns a pointer to the field, for setTOML and setText.
func (o *option) pointer(c *Config, r *Relay) any { return o.value(c, r).Addr().Interface() }

// find returns the option with a key, or nil.
func find(inRelay bool, key string) *option {
	for i := range options {
		if o := &options[i]; o.inRelay() == inRelay && o.key == key {
			return o
		}
	}
	return nil
}

// presetCapabilities describes the defaults of the protocols.
func presetCapabilities() string {
	var all []string
	for _, p := range protocol.Table {
		if p.Capabilities != nil {
			all = append(all, listed(p.Capabilities(maxLineBound), "and")+" for "+p.Name)
		}
	}
	return strings.Join(all, "; ")
}
