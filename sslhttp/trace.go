package sslhttp

import (
	"context"
	"net/http"
	"net/http/httptrace"
)

// traced returns the request with a trace that notes its connection. The hooks of the
// program's own trace get an *sslnet.Conn, and the address of the server or of the
// proxy, not the values that net/http has.
func (u *use) traced(req *http.Request) *http.Request {
	var trace httptrace.ClientTrace
	given := httptrace.ContextClientTrace(req.Context())
	if given != nil {
		trace = *given
	}
	trace.GotConn = func(info httptrace.GotConnInfo) {
		u.begin(info.Conn)
		if given != nil && given.GotConn != nil {
			if c, ok := info.Conn.(*clientConn); ok {
				info.Conn = c.Conn
			}
			given.GotConn(info)
		}
	}
	if given != nil && given.GetConn != nil {
		given.GetConn(u.route.hop()) // before the first connection to a server is made
		begun := true
		trace.GetConn = func(string) {
			if !begun {
				given.GetConn(u.route.hop())
			}
			begun = false
		}
	}
	return req.WithContext(httptrace.WithClientTrace(untraced{req.Context()}, &trace))
}

// untraced is a context without the trace of its parent. httptrace.WithClientTrace
// would call the hooks of the parent too.
type untraced struct{ context.Context }

// Value returns the value for key.
func (u untraced) Value(key any) any {
	v := u.Context.Value(key)
	if _, hooks := v.(*httptrace.ClientTrace); hooks {
		return nil
	}
	return v
}
