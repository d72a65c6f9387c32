package relay

import (
	"expvar"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// counters are the counters of one relay, or of a listener.
type counters struct {
	vars expvar.Map

	accepted, active, refused          expvar.Int
	empty                              expvar.Int // connections on which the client sent nothing
	handshakes, handshakesFailed       expvar.Int
	resumed                            expvar.Int                           // handshakes that resumed a session
	notResumed                         map[sslfilter.NotResumed]*expvar.Int // handshakes that did not resume the session that the client offered
	plainHTTP, injected                expvar.Int
	certValid, certInvalid, certNone   expvar.Int
	certRefused                        expvar.Int // handshakes that failed after the client had sent a certificate
	certDenied                         expvar.Int // valid certificates of clients that are not in allow-clients
	logins, loginsRefused              expvar.Int
	backendFailed, idle, forwarded     expvar.Int
	requests, httpRefused              expvar.Int
	bytesFromClients, bytesFromBackend expvar.Int
	notAfter                           expvar.Int
	namesRefused                       expvar.Int // handshakes with a server name that belongs to no relay
	staples, staplesFailed             expvar.Int // OCSP responses that were fetched, and attempts that failed
}

func newCounters() *counters {
	c := new(counters)
	c.set(c.byName())
	return c
}

// newListenerCounters makes the counters of a listener whose relay is chosen by the
// server name. They count every connection until its relay is known.
func newListenerCounters() *counters {
	c := new(counters)
	all := c.byName()
	some := map[string]*expvar.Int{"names_refused": &c.namesRefused}
	for _, name := range []string{"connections", "active", "refused", "empty", "handshakes_failed", "plain_http", "starttls_injections", "idle_closed"} {
		some[name] = all[name]
	}
	c.set(some)
	return c
}

func (c *counters) set(vars map[string]*expvar.Int) {
	for name, v := range vars {
		c.vars.Set(name, v)
	}
}

// byName returns the counters of a relay.
func (c *counters) byName() map[string]*expvar.Int {
	all := map[string]*expvar.Int{
		"connections": &c.accepted, "active": &c.active, "refused": &c.refused, "empty": &c.empty,
		"handshakes": &c.handshakes, "handshakes_failed": &c.handshakesFailed, "handshakes_resumed": &c.resumed,
		"plain_http": &c.plainHTTP, "starttls_injections": &c.injected,
		"client_cert_valid": &c.certValid, "client_cert_invalid": &c.certInvalid, "client_cert_none": &c.certNone,
		"client_cert_refused": &c.certRefused, "client_cert_not_allowed": &c.certDenied,
		"logins": &c.logins, "logins_refused": &c.loginsRefused,
		"backend_failed": &c.backendFailed, "idle_closed": &c.idle, "forwarded": &c.forwarded,
		"http_requests": &c.requests, "http_refused": &c.httpRefused,
		"bytes_from_clients": &c.bytesFromClients, "bytes_from_backends": &c.bytesFromBackend,
		"certificate_not_after": &c.notAfter,
		"ocsp_fetched":          &c.staples, "ocsp_failed": &c.staplesFailed,
	}
	c.notResumed = make(map[sslfilter.NotResumed]*expvar.Int)
	for _, why := range sslfilter.NotResumedReasons() {
		c.notResumed[why] = new(expvar.Int)
		all["not_resumed_"+strings.ReplaceAll(why.String(), "-", "_")] = c.notResumed[why]
	}
	return all
}

// process has the counters of the whole program.
type process struct {
	vars                   expvar.Map
	relays, listeners      expvar.Map // by name, and by address
	reloads, reloadsFailed expvar.Int
	reloaded               expvar.Int // Unix time of the last successful reload
}

func (s *Server) publish() {
	p := &s.process
	p.vars.Set("reloads", &p.reloads)
	p.vars.Set("reloads_failed", &p.reloadsFailed)
	p.vars.Set("reloaded_at", &p.reloaded)
	p.vars.Set("relays", &p.relays)
	p.vars.Set("listeners", &p.listeners)
	p.reloaded.Set(time.Now().Unix())
}

// Counters serves the counters in the form of package expvar: one JSON object
// with "sslrelay" and Go's "memstats" in it. It does not contain the names of users,
// certificates or files.
func (s *Server) Counters() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/vars", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		fmt.Fprintf(w, "{\n\"sslrelay\": %s", s.process.vars.String())
		if mem := expvar.Get("memstats"); mem != nil {
			fmt.Fprintf(w, ",\n\"memstats\": %s", mem.String())
		}
		fmt.Fprint(w, "\n}\n")
	})
	return mux
}
