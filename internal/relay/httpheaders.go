package relay

import (
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// forwardingHeaders are the headers in which proxies tell where a request came
// from. They are removed from a request, unless trust-forwarded keeps them. A
// name with * at its end is a prefix. All comparisons are those of headerKey.
var forwardingHeaders = []string{"Forwarded", "X-Forwarded-*", "X-Real-IP"}

// identityHeaders are the headers in which proxies and web servers tell who a
// client is. They are always removed: the relay decides about certificates.
var identityHeaders = []string{
	"Client-Cert*",              // RFC 9440
	"SSL-*",                     // mod_ssl (SSL_CLIENT_*) and ingress-nginx (ssl-client-*)
	"X-SSL-*", "X-TLS-Client-*", // configurations of nginx and HAProxy
	"X-Client-Cert*", "X-Client-Verify*", "X-Client-DN*", "X-Client-S-*", // the same
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
	names    map[string]bool // by headerKey
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

// headerRules are what a relay does to the headers of requests.
type headerRules struct {
	never      headerSet         // no client may send them
	forwarding headerSet         // kept with trust-forwarded
	trust      bool              // trust-forwarded
	names      map[string]string // what is told under which name, canonical
}

func newHeaderRules(conf *config.Relay) *headerRules {
	h := &headerRules{trust: conf.TrustForwarded, names: make(map[string]string)}
	h.forwarding.add(forwardingHeaders...)
	h.never.add(identityHeaders...)
	h.never.add(conf.StripHeaders...)
	for _, name := range config.DefaultHeaders() { // also one that is told under another name, or not at all
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

// forged reports whether a header that a client sent is not forwarded. A
// program behind the relay may take '_' or another sign for '-': a name with
// such a sign is also removed if it would then mean something to HTTP itself.
func (h *headerRules) forged(name string) bool {
	var buf [64]byte
	key, odd := appendHeaderKey(buf[:0], name)
	return h.never.has(key) || (odd || !h.trust) && h.forwarding.has(key) || odd && config.Reserved(name)
}

// appendHeaderKey appends headerKey of a name, which is ASCII, to dst. It
// reports whether the name has a sign that is neither a letter, a digit nor '-'.
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

// toldHeader is one header with its values.
type toldHeader struct {
	name   string
	values []string
}

// tell gives the headers for a verdict.
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

// setHeaders puts the relay's headers into a request. What the client sent
// under their names is gone first, in every spelling that a program behind the
// relay might take for the same. The client's trailers are not forwarded.
// Hop-by-hop headers, and those that the client's Connection header names, were
// removed before, so that it cannot have ours removed.
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

// keepForwarded restores what httputil has removed of a trusted client's
// headers, and adds the client to them.
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

// forwardedElement is what one proxy adds to Forwarded (RFC 7239 section 4).
func forwardedElement(client, proto string) string {
	if strings.Contains(client, ":") {
		client, _, _ = strings.Cut(client, "%") // an IPv6 zone has a meaning on one machine only
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
