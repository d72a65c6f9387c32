package relay

import (
	"expvar"
	"fmt"
	"net/http"
	"time"
)

// counters are the counters of one relay.
type counters struct {
	vars expvar.Map

	accepted, active, refused          expvar.Int
	empty                              expvar.Int // connections on which the client sent nothing
	handshakes, handshakesFailed       expvar.Int
	plainHTTP, injected                expvar.Int
	certValid, certInvalid, certNone   expvar.Int
	logins, loginsRefused              expvar.Int
	backendFailed, idle, forwarded     expvar.Int
	requests, httpRefused              expvar.Int
	bytesFromClients, bytesFromBackend expvar.Int
	notAfter                           expvar.Int
}

func newCounters() *counters {
	c := new(counters)
	for name, v := range map[string]*expvar.Int{
		"connections": &c.accepted, "active": &c.active, "refused": &c.refused, "empty": &c.empty,
		"handshakes": &c.handshakes, "handshakes_failed": &c.handshakesFailed,
		"plain_http": &c.plainHTTP, "starttls_injections": &c.injected,
		"client_cert_valid": &c.certValid, "client_cert_invalid": &c.certInvalid, "client_cert_none": &c.certNone,
		"logins": &c.logins, "logins_refused": &c.loginsRefused,
		"backend_failed": &c.backendFailed, "idle_closed": &c.idle, "forwarded": &c.forwarded,
		"http_requests": &c.requests, "http_refused": &c.httpRefused,
		"bytes_from_clients": &c.bytesFromClients, "bytes_from_backends": &c.bytesFromBackend,
		"certificate_not_after": &c.notAfter,
	} {
		c.vars.Set(name, v)
	}
	return c
}

// process has the counters of the whole program.
type process struct {
	vars                   expvar.Map
	reloads, reloadsFailed expvar.Int
	reloaded               expvar.Int // Unix time of the last successful reload
}

func (s *Server) publish() {
	s.process.vars.Set("reloads", &s.process.reloads)
	s.process.vars.Set("reloads_failed", &s.process.reloadsFailed)
	s.process.vars.Set("reloaded_at", &s.process.reloaded)
	s.process.reloaded.Set(time.Now().Unix())
	relays := new(expvar.Map)
	for _, r := range s.relays {
		relays.Set(r.name, &r.count.vars)
	}
	s.process.vars.Set("relays", relays)
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
