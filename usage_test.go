package sslfilter_test

import (
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// state is everything that the methods of a filter report about it.
type state struct {
	Err                          error
	Done, Exists, Valid, Flushed bool
	Cipher, Version, ServerName  string
	Bits                         int
	IDs                          []sslfilter.CertID
	Peer                         *sslfilter.Peer
}

func stateOf(f *sslfilter.Filter) state {
	return state{
		Err: f.Err(), Done: f.HandshakeDone(), Exists: f.ClientCertExists(), Valid: f.ClientCertValid(), Flushed: f.Flushed(),
		Cipher: f.Cipher(), Version: f.Version(), ServerName: f.ServerName(), Bits: f.Bits(), IDs: f.ClientCertIDs(), Peer: f.Peer(),
	}
}

func send(f *sslfilter.Filter) error      { return f.Send([]byte("x")) }
func receive(f *sslfilter.Filter) error   { _, err := f.Receive(nil, []byte("x")); return err }
func detach(f *sslfilter.Filter) error    { _, err := f.Detach(); return err }
func keyUpdate(f *sslfilter.Filter) error { return f.KeyUpdate(true) }
func exportNothing(f *sslfilter.Filter) error {
	_, err := f.ExportKeyingMaterial("l", nil, 0)
	return err
}
func export(f *sslfilter.Filter) error { _, err := f.ExportKeyingMaterial("l", nil, 32); return err }

func setName(name string) func(*sslfilter.Filter) error {
	return func(f *sslfilter.Filter) error { return f.SetServerName(name) }
}

func setALPN(protocols ...string) func(*sslfilter.Filter) error {
	return func(f *sslfilter.Filter) error { return f.SetALPN(protocols...) }
}

// mistake is a call that a program must not make.
type mistake struct {
	name    string
	prepare func(testing.TB, *testkit.Pair) // brings the pair into the state in which the call is a mistake
	server  bool                            // the server makes the call, not the client
	call    func(*sslfilter.Filter) error
	op      string
}

func mistakes() []mistake {
	idle := func(testing.TB, *testkit.Pair) {}
	begun := func(t testing.TB, p *testkit.Pair) { require.NoError(t, p.Client.Handshake()) }
	open := func(t testing.TB, p *testkit.Pair) { require.NoError(t, p.Handshake()) }
	closing := func(t testing.TB, p *testkit.Pair) {
		open(t, p)
		require.NoError(t, p.Client.CloseWrite())
	}
	closed := func(t testing.TB, p *testkit.Pair) {
		closing(t, p)
		require.NoError(t, p.Server.CloseWrite())
		p.Transfer()
	}
	detached := func(t testing.TB, p *testkit.Pair) {
		closed(t, p)
		require.NoError(t, detach(p.Client.Filter))
	}
	return []mistake{
		{"a server sets a server name", idle, true, setName("localhost"), "SetServerName"},
		{"a server sets a server name later", open, true, setName("localhost"), "SetServerName"},
		{"SetServerName after Handshake", begun, false, setName("localhost"), "SetServerName"},
		{"SetServerName on an open connection", open, false, setName("localhost"), "SetServerName"},
		{"SetServerName without a name", idle, false, setName(""), "SetServerName"},
		{"a server sets ALPN", idle, true, setALPN("h2"), "SetALPN"},
		{"SetALPN after Handshake", begun, false, setALPN("h2"), "SetALPN"},
		{"SetALPN on an open connection", open, false, setALPN("h2"), "SetALPN"},
		{"SetALPN without a protocol", idle, false, setALPN(), "SetALPN"},
		{"SetALPN with an empty protocol", idle, false, setALPN("h2", ""), "SetALPN"},
		{"SetServerName with a line feed", idle, false, setName("local\nhost"), "SetServerName"},
		{"SetServerName with a leading dot", idle, false, setName(".localhost"), "SetServerName"},
		{"SetServerName too long", idle, false, setName(strings.Repeat("x", 256)), "SetServerName"},
		{"Send after CloseWrite", closing, false, send, "Send"},
		{"Send after both ends", closed, false, send, "Send"},
		{"Send after Detach", detached, false, send, "Send"},
		{"Receive after Detach", detached, false, receive, "Receive"},
		{"Detach before the handshake", idle, false, detach, "Detach"},
		{"Detach in the handshake", begun, false, detach, "Detach"},
		{"Detach on an open connection", open, false, detach, "Detach"},
		{"Detach after our end alone", closing, false, detach, "Detach"},
		{"Detach twice", detached, false, detach, "Detach"},
		{"KeyUpdate before the handshake", idle, false, keyUpdate, "KeyUpdate"},
		{"KeyUpdate in the handshake", begun, false, keyUpdate, "KeyUpdate"},
		{"KeyUpdate after CloseWrite", closing, false, keyUpdate, "KeyUpdate"},
		{"KeyUpdate after Detach", detached, false, keyUpdate, "KeyUpdate"},
		{"ExportKeyingMaterial before the handshake", idle, false, export, "ExportKeyingMaterial"},
		{"ExportKeyingMaterial in the handshake", begun, false, export, "ExportKeyingMaterial"},
		{"ExportKeyingMaterial of 0 bytes", open, false, exportNothing, "ExportKeyingMaterial"},
	}
}

// A mistake of the program is a *UsageError, and changes nothing: the connection continues as
// if the call had not been made.
func TestUsageErrors(t *testing.T) {
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			server := testkit.With(testkit.Asking(), testkit.TLS13, func(o *sslfilter.Options) { o.ALPN = []string{"h2"} })
			p := testkit.NewPair(t, server, testkit.Showing("client.crt", ""))
			m.prepare(t, p)
			side := &p.Client
			if m.server {
				side = &p.Server
			}
			before := stateOf(side.Filter)
			for range 2 {
				usage := testkit.As[*sslfilter.UsageError](t, m.call(side.Filter))
				require.Equal(t, m.op, usage.Op)
				require.NotEmpty(t, usage.Msg)
				require.Equal(t, "sslfilter: "+m.op+": "+usage.Msg, usage.Error())
				require.Equal(t, before, stateOf(side.Filter))
			}
			requireGoesOn(t, p, m)
		})
	}
}

// requireGoesOn checks that the connection works after the mistake.
func requireGoesOn(t *testing.T, p *testkit.Pair, m mistake) {
	t.Helper()
	if !p.Client.HandshakeDone() {
		require.NoError(t, p.Handshake())
	}
	p.Transfer()
	require.NoError(t, p.Client.Filter.Err())
	require.NoError(t, p.Server.Filter.Err())
	require.True(t, p.Server.ClientCertValid())
	if p.Client.EOF() {
		return // both sides were closed before the call
	}
	require.NoError(t, p.Server.Send([]byte("still here")))
	p.Transfer()
	require.Equal(t, "still here", string(p.Client.Got))
	require.Empty(t, p.Server.Got, "rejected data is not sent")
}

// KeyUpdate is a usage error in TLS 1.2.
func TestUsageKeyUpdateInTLS12(t *testing.T) {
	p := testkit.Connect(t, testkit.Server(testkit.TLS12), testkit.Client())
	usage := testkit.As[*sslfilter.UsageError](t, p.Client.KeyUpdate(false))
	require.Contains(t, usage.Msg, "TLSv1.2")
	require.NoError(t, p.Client.Filter.Err())
	require.NoError(t, p.Client.Send([]byte("ping")))
	p.Transfer()
	require.Equal(t, "ping", string(p.Server.Got))
}

// After Detach, calls that have nothing left to do have no effect.
func TestUsageAfterDetach(t *testing.T) {
	p := testkit.Connect(t, testkit.Server(), testkit.Client())
	require.NoError(t, p.Server.CloseWrite())
	p.Transfer()
	require.NoError(t, detach(p.Client.Filter))
	require.NotEmpty(t, p.Client.Outgoing(nil), "our close_notify")
	require.NoError(t, p.Client.Handshake())
	require.NoError(t, p.Client.CloseWrite())
	require.Equal(t, io.EOF, p.Client.ReceiveEOF())
	require.Empty(t, p.Client.Outgoing(nil))
	require.True(t, p.Client.Flushed())
	require.True(t, p.Client.ClientCertValid(), "the verdict stays")
	require.Equal(t, "TLSv1.3", p.Client.Version())
	require.NoError(t, p.Client.Filter.Err())
}

// afterClose checks every method of a closed Filter.
var afterClose = map[string]func(t *testing.T, f *sslfilter.Filter){
	"SetServerName":   closedGives(setName("localhost")),
	"SetVerifiedName": closedGives(func(f *sslfilter.Filter) error { return f.SetVerifiedName("localhost") }),
	"Handshake":       closedGives((*sslfilter.Filter).Handshake),
	"SetALPN":         closedGives(setALPN("h2")),
	"SetSession":      closedGives(func(f *sslfilter.Filter) error { return f.SetSession(nil) }),
	"SessionError":    closedGives((*sslfilter.Filter).SessionError),
	"Sessions":        func(t *testing.T, f *sslfilter.Filter) { require.Nil(t, f.Sessions()) },
	"NewSessions":     func(t *testing.T, f *sslfilter.Filter) { require.Nil(t, f.NewSessions()) },
	"OfferSession":    closedGives(func(f *sslfilter.Filter) error { return f.OfferSession([]byte("id"), []byte("data")) }),
	"SessionKey":      func(t *testing.T, f *sslfilter.Filter) { require.Empty(t, f.SessionKey()) },
	"Receive": func(t *testing.T, f *sslfilter.Filter) {
		plain, err := f.Receive([]byte("dst"), []byte("x"))
		require.ErrorIs(t, err, sslfilter.ErrClosed)
		require.Equal(t, "dst", string(plain))
	},
	"ReceiveEOF":           closedGives((*sslfilter.Filter).ReceiveEOF),
	"Send":                 closedGives(send),
	"CloseWrite":           closedGives((*sslfilter.Filter).CloseWrite),
	"Detach":               closedGives(detach),
	"KeyUpdate":            closedGives(keyUpdate),
	"ExportKeyingMaterial": closedGives(export),
	"Clone":                closedGives(func(f *sslfilter.Filter) error { _, err := f.Clone(); return err }),
	"Outgoing": func(t *testing.T, f *sslfilter.Filter) {
		require.Equal(t, "dst", string(f.Outgoing([]byte("dst"))))
	},
	"Close":   func(t *testing.T, f *sslfilter.Filter) { require.NoError(t, f.Close()) },
	"Flushed": func(t *testing.T, f *sslfilter.Filter) { require.True(t, f.Flushed()) },
	"Err":     func(t *testing.T, f *sslfilter.Filter) { require.NoError(t, f.Err()) },
	"Cipher":  func(t *testing.T, f *sslfilter.Filter) { require.Equal(t, "(NONE)", f.Cipher()) },
	"Providers": func(t *testing.T, f *sslfilter.Filter) {
		_, err := f.Providers()
		require.ErrorIs(t, err, sslfilter.ErrClosed)
	},
	"State":   zero(func(f *sslfilter.Filter) any { return f.State() }),
	"Version": func(t *testing.T, f *sslfilter.Filter) { require.Equal(t, "(NONE)", f.Version()) },
	"Peer":    func(t *testing.T, f *sslfilter.Filter) { require.Nil(t, f.Peer()) },
	"ClientCertCRL": func(t *testing.T, f *sslfilter.Filter) {
		require.Equal(t, sslfilter.CRLNoCertificate, f.ClientCertCRL(testkit.PKI("crl.pem")).Status)
	},
	"ClientCertNotOnCRL": func(t *testing.T, f *sslfilter.Filter) {
		require.False(t, f.ClientCertNotOnCRL(testkit.PKI("crl.pem")))
	},
	"HandshakeDone":    zero(func(f *sslfilter.Filter) any { return f.HandshakeDone() }),
	"Bits":             zero(func(f *sslfilter.Filter) any { return f.Bits() }),
	"CipherSuite":      zero(func(f *sslfilter.Filter) any { return f.CipherSuite() }),
	"Group":            zero(func(f *sslfilter.Filter) any { return f.Group() }),
	"ALPN":             zero(func(f *sslfilter.Filter) any { return f.ALPN() }),
	"ServerName":       zero(func(f *sslfilter.Filter) any { return f.ServerName() }),
	"Resumed":          zero(func(f *sslfilter.Filter) any { return f.Resumed() }),
	"OCSPResponse":     zero(func(f *sslfilter.Filter) any { return f.OCSPResponse() }),
	"TLSUnique":        zero(func(f *sslfilter.Filter) any { return f.TLSUnique() }),
	"ClientCertExists": zero(func(f *sslfilter.Filter) any { return f.ClientCertExists() }),
	"ClientCertValid":  zero(func(f *sslfilter.Filter) any { return f.ClientCertValid() }),
	"ClientCertIDs":    zero(func(f *sslfilter.Filter) any { return f.ClientCertIDs() }),
}

func closedGives(call func(*sslfilter.Filter) error) func(*testing.T, *sslfilter.Filter) {
	return func(t *testing.T, f *sslfilter.Filter) { require.ErrorIs(t, call(f), sslfilter.ErrClosed) }
}

func zero(call func(*sslfilter.Filter) any) func(*testing.T, *sslfilter.Filter) {
	return func(t *testing.T, f *sslfilter.Filter) {
		v := reflect.ValueOf(call(f))
		require.True(t, v.IsZero(), "%v", v)
	}
}

// Every method can be called on a filter that was closed in any state.
func TestUsageAfterClose(t *testing.T) {
	methods := reflect.TypeFor[*sslfilter.Filter]()
	for i := range methods.NumMethod() {
		require.Contains(t, afterClose, methods.Method(i).Name)
	}
	require.Len(t, afterClose, methods.NumMethod())
	for name, prepare := range map[string]func(*testing.T, *testkit.Pair){
		"idle":  func(*testing.T, *testkit.Pair) {},
		"begun": func(t *testing.T, p *testkit.Pair) { require.NoError(t, p.Client.Send([]byte("early"))) },
		"open":  func(t *testing.T, p *testkit.Pair) { require.NoError(t, p.Handshake()) },
		"closing": func(t *testing.T, p *testkit.Pair) {
			require.NoError(t, p.Handshake())
			require.NoError(t, p.Client.CloseWrite())
		},
		"failed": func(t *testing.T, p *testkit.Pair) {
			p.Client.Handshake()
			p.Client.Deliver([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			require.Error(t, p.Client.Filter.Err())
		},
		"detached": func(t *testing.T, p *testkit.Pair) {
			require.NoError(t, p.Handshake())
			require.NoError(t, p.Server.CloseWrite())
			p.Transfer()
			require.NoError(t, detach(p.Client.Filter))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := testkit.NewPair(t, testkit.Server(), testkit.Client())
			prepare(t, p)
			require.NoError(t, p.Client.Close())
			for method, check := range afterClose {
				if method == "Err" && name == "failed" {
					require.Error(t, p.Client.Filter.Err(), "the reason stays")
					continue
				}
				t.Run(method, func(t *testing.T) { check(t, p.Client.Filter) })
			}
		})
	}
}
