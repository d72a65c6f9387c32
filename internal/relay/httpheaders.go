package relay

import (
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// forwardingHeaders are the headers in which proxies pass on the origin of a request.
// They are removed from requests unless trust-forwarded is set. A name that ends with
// * is a prefix. Names are compared by config.HeaderKey.
var forwardingHeaders = []string{"Forwarded", "X-Forwarded-*", "X-Real-IP"}

// identityHeaders are the headers in which proxies and web servers pass on the
// identity of a client. They are always removed.
var identityHeaders = []string{
	"Client-Cert*",              // RFC 9440
	"SSL-*",                     // mod_ssl (SSL_CLIENT_*) and ingress-nginx (ssl-client-*)
	"X-SSL-*", "X-TLS-Client-*", // configurations of nginx and HAProxy
	"X-Client-Cert*", "X-Client-Verify*", "X-Client-DN*", "X-Client-S-*", // nginx and HAProxy too
	"X-Client-I-*",
	"X-Forwarded-Client-*",          // Envoy (X-Forwarded-Client-Cert)
	"X-Forwarded-Tls-*",             // Traefik (X-Forwarded-Tls-Client-Cert)
	"X-ARR-ClientCert", "X-ARR-SSL", // IIS and Azure
	"X-Amzn-Mtls-*", "X-Amzn-Tls-*", // AWS
	"Remote-*",                                                       // CGI (REMOTE_USER, REMOTE_ADDR)
	"X-Remote-*",                                                     // Kubernetes (X-Remote-User, X-Remote-Group)
	"X-Forwarded-User*", "X-Forwarded-Email*", "X-Forwarded-Groups*", // oauth2-proxy
	"X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
}

// headerSet is a set of header names and of prefixes.
type headerSet struct {
	names    map[string]bool // by config.HeaderKey
	prefixes []string
}

func (s *headerSet) add(names ...string) {
	if s.names == nil {
		s.names = make(map[string]bool)
	}
	for _, name := range names {
		if prefix, ok := strings.CutSuffix(name, "*"); ok {
			s.prefixes = append(s.prefixes, config.HeaderKey(prefix))
		} else if name != "" {
			s.names[config.HeaderKey(name)] = true
		}
	}
}

func (s *headerSet) has(key []byte) bool {
	if s.names[string(key)] {
		return true
	}
	for _, p := range s.prefixes {
		if len(key) >= len(p) && string(key[:len(p)]) == p {
			return true
		}
	}
	return false
}

// headerRules describe how a relay changes the headers of requests.
type headerRules struct {
	never      headerSet         // always removed from requests
	forwarding headerSet         // kept with trust-forwarded
	trust      bool              // trust-forwarded
	names      map[string]string // the canonical name of each header; the key is config.HeaderVerdict or the like
}

func newHeaderRules(conf *config.Relay) *headerRules {
	h := &headerRules{trust: conf.TrustForwarded, names: make(map[string]string)}
	h.forwarding.add(forwardingHeaders...)
	h.never.add(identityHeaders...)
	h.never.add(conf.StripHeaders...)
	for _, name := range config.DefaultHeaders() { // even if the relay uses another name, or does not send the header
		h.never.add(name)
	}
	for what, name := range conf.Headers {
		h.never.add(name)
		if name != "" {
			h.names[what] = http.CanonicalHeaderKey(name)
		}
	}
	return h
}

// forged reports whether a client's header is removed. A backend may treat '_' or
// another character as '-', so a name with such a character is also removed if it
// would then be a header of HTTP itself.
func (h *headerRules) forged(name string) bool {
	var buf [64]byte
	key, odd := appendHeaderKey(buf[:0], name)
	return h.never.has(key) || (odd || !h.trust) && h.forwarding.has(key) || odd && config.Reserved(name)
}

// appendHeaderKey appends config.HeaderKey of an ASCII name to dst. It reports whether
// the name has a character that is neither a letter, a digit nor '-'.
func appendHeaderKey(dst []byte, name string) (key []byte, odd bool) {
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-':
		default:
			c, odd = '-', true
		}
		dst = append(dst, c)
	}
	return dst, odd
}

// toldHeader is a header that the relay adds to requests.
type toldHeader struct {
	name   string
	values []string
}

// tell returns the headers that tell the backend about a verdict.
func (h *headerRules) tell(v *verdict) []toldHeader {
	var all []toldHeader
	for what, value := range map[string]string{
		config.HeaderVerdict: v.Verdict, config.HeaderSubject: v.Subject, config.HeaderIssuer: v.Issuer,
		config.HeaderSerial: v.Serial, config.HeaderCipher: v.Cipher, config.HeaderProtocol: v.Protocol,
	} {
		if name := h.names[what]; name != "" && value != "" {
			all = append(all, toldHeader{name, []string{value}})
		}
	}
	return all
}

// setHeaders sets the relay's headers in a request. It first removes the client's
// headers with these names, in every spelling that a backend might treat as the same
// name. It does not forward the client's trailers. httputil has already removed the
// hop-by-hop headers and the headers named by the client's Connection header, so a
// Connection header cannot remove the headers that the relay sets here.
func (st *state) setHeaders(r *httputil.ProxyRequest, c *httpConn) {
	out := r.Out.Header
	for name := range out {
		if st.headers.forged(name) {
			delete(out, name)
		}
	}
	r.Out.Trailer = nil
	if st.headers.trust {
		keepForwarded(r, c)
	} else {
		out["X-Forwarded-For"] = c.from
		out["X-Forwarded-Proto"] = c.proto
		out["X-Forwarded-Host"] = []string{r.In.Host}
	}
	for _, h := range c.told {
		out[h.name] = h.values
	}
}

// keepForwarded restores the headers of a trusted client that httputil has removed,
// and adds the client to them.
func keepForwarded(r *httputil.ProxyRequest, c *httpConn) {
	out := r.Out.Header
	prior := func(name string) []string {
		if namedByConnection(r.In.Header, name) {
			return nil
		}
		return r.In.Header[name]
	}
	out["X-Forwarded-For"] = c.from
	if values := prior("X-Forwarded-For"); len(values) > 0 {
		out["X-Forwarded-For"] = []string{strings.Join(values, ", ") + ", " + c.client}
	}
	out["X-Forwarded-Proto"] = c.proto
	if values := prior("X-Forwarded-Proto"); len(values) > 0 {
		out["X-Forwarded-Proto"] = values
	}
	out["X-Forwarded-Host"] = []string{r.In.Host}
	if values := prior("X-Forwarded-Host"); len(values) > 0 {
		out["X-Forwarded-Host"] = values
	}
	if values := prior("Forwarded"); len(values) > 0 {
		out["Forwarded"] = []string{strings.Join(values, ", ") + ", " + forwardedElement(c.client, c.proto[0])}
	}
}

// forwardedElement returns the relay's element of Forwarded (RFC 7239 section 4).
func forwardedElement(client, proto string) string {
	if strings.Contains(client, ":") {
		client, _, _ = strings.Cut(client, "%") // an IPv6 zone is valid on one machine only
		client = `"[` + client + `]"`
	}
	return "for=" + client + ";proto=" + proto
}

// namedByConnection reports whether a header is hop-by-hop because the sender's
// Connection header says so.
func namedByConnection(h http.Header, name string) bool {
	for _, value := range h["Connection"] {
		for word := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(word), name) {
				return true
			}
		}
	}
	return false
}
