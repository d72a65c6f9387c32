package sslfilter_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// kinds lists the types and values that errors.As and errors.Is find in err.
func kinds(err error) (list []string) {
	var (
		failure *sslfilter.Error
		verify  *sslfilter.VerifyError
		alert   sslfilter.AlertError
		option  *sslfilter.OptionError
		usage   *sslfilter.UsageError
		cut     *sslfilter.TruncatedError
	)
	for _, k := range []struct {
		name string
		is   bool
	}{
		{"Error", errors.As(err, &failure)}, {"VerifyError", errors.As(err, &verify)}, {"AlertError", errors.As(err, &alert)},
		{"OptionError", errors.As(err, &option)}, {"UsageError", errors.As(err, &usage)}, {"TruncatedError", errors.As(err, &cut)},
		{"ErrClosed", errors.Is(err, sslfilter.ErrClosed)}, {"ErrBufferFull", errors.Is(err, sslfilter.ErrBufferFull)},
		{"EOF", errors.Is(err, io.EOF)}, {"ErrUnexpectedEOF", errors.Is(err, io.ErrUnexpectedEOF)},
	} {
		if k.is {
			list = append(list, k.name)
		}
	}
	return list
}

// Programs can distinguish errors by their types, without looking at the text.
func TestErrorsKinds(t *testing.T) {
	byName := make(map[string]failure)
	for _, f := range failures() {
		byName[f.name] = f
	}
	for name, want := range map[string][2][]string{ // server, client
		"no shared cipher":                {{"Error"}, {"Error", "AlertError"}},
		"server wants TLS 1.3":            {{"Error"}, {"Error", "AlertError"}},
		"HTTP at the server":              {{"Error"}, nil},
		"no client certificate":           {{"Error"}, {"Error", "AlertError"}},
		"client expired":                  {{"Error", "VerifyError"}, {"Error", "AlertError"}},
		"client revoked":                  {{"Error", "VerifyError"}, {"Error", "AlertError"}},
		"server of another name":          {{"Error", "AlertError"}, {"Error", "VerifyError"}},
		"server without a certificate":    {nil, {"Error", "VerifyError"}},
		"close_notify in the handshake":   {nil, {"Error"}},
		"cut in the handshake":            {{"TruncatedError", "ErrUnexpectedEOF"}, {"TruncatedError", "ErrUnexpectedEOF"}},
		"tampered record":                 {{"Error"}, {"Error", "AlertError"}},
		"key updates that nobody answers": {{"ErrBufferFull"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := byName[name]
			p := testkit.NewPair(t, f.server, f.client)
			f.play(t, p)
			require.Equal(t, want, [2][]string{kinds(p.Server.Filter.Err()), kinds(p.Client.Filter.Err())})
		})
	}
	for want, err := range map[string]error{
		"OptionError":       accepted(sslfilter.Options{CAVerifyDepth: -1}),
		"Error OptionError": accepted(testkit.Server(testkit.Cipher("NO-SUCH-CIPHER"))),
		"UsageError":        testkit.Filter(t, testkit.Server()).SetServerName("localhost"),
		"ErrClosed":         closedFilter(t).Send(nil),
		"ErrBufferFull":     testkit.Filter(t, testkit.Server()).Send(make([]byte, sslfilter.MaxPlaintext+1)),
	} {
		require.Equal(t, want, strings.Join(kinds(err), " "), "%v", err)
		require.Equal(t, 1, strings.Count(err.Error(), "sslfilter: "), "%v", err)
	}
}

func closedFilter(t testing.TB) *sslfilter.Filter {
	t.Helper()
	f := testkit.Filter(t, testkit.Server())
	require.NoError(t, f.Close())
	return f
}

// An Error contains every entry of OpenSSL's queue once, the oldest first.
func TestErrorsHaveTheWholeQueue(t *testing.T) {
	queues := make(map[string][]string)
	named := false
	keep := func(name string, err error) {
		e := testkit.As[*sslfilter.Error](t, err)
		require.NotEmpty(t, e.Records, name)
		require.Contains(t, err.Error(), e.Records[0].Reason)
		for _, r := range e.Records {
			require.NotEmpty(t, r.Library, name)
			require.NotEmpty(t, r.File, name)
			require.Positive(t, r.Line, name)
			named = named || r.Func != ""
			library, reason := r.Code>>23, r.Code&0x7fffff // ERR_PACK of 3.0 and later
			if !since(openssl30) {
				library, reason = r.Code>>24, r.Code&0xfff
			}
			require.NotZero(t, library, name)
			require.NotZero(t, reason, name)
			if r.Library == "SSL routines" {
				require.Equal(t, uint64(20), library, name) // ERR_LIB_SSL
			}
			require.True(t, strings.HasPrefix(r.String(), fmt.Sprintf("error:%08X:%s::", r.Code, r.Library)))
			queues[name] = append(queues[name], r.String())
		}
	}
	keep("wrong passphrase", refuse(t, testkit.Server(func(o *sslfilter.Options) {
		o.Key, o.KeyPassphrase = testkit.PKI("server-enc.key"), saying("wrong")
	}),

		"Key", testkit.PKI("server-enc.key")))
	if served(t, "own DH") { // under FIPS, OpenSSL rejects them without an entry in its queue
		keep("broken DH parameters", refuse(t, testkit.Server(func(o *sslfilter.Options) { o.DHCertMem = brokenDH(t) }), "DHCertMem", ""))
	}
	keep("key of another certificate", refuse(t, testkit.Server(func(o *sslfilter.Options) { o.Key = testkit.PKI("client.key") }), "Key", testkit.PKI("client.key")))
	for _, f := range failures() {
		switch f.name {
		case "no shared cipher", "client expired", "tampered Finished, TLS 1.2", "HTTP at the server", "server wants TLS 1.3":
			p := testkit.NewPair(t, f.server, f.client)
			f.play(t, p)
			keep(f.name+": server", p.Server.Filter.Err())
			if p.Client.Filter.Err() != nil {
				keep(f.name+": client", p.Client.Filter.Err())
			}
		}
	}
	require.Equal(t, since(openssl30), named, "since 3.0, some entries name a function")
	golden(t, "queues", queues)
}

// After a fatal error a filter always returns the same error, hands out its alert once,
// and drops further input.
func TestErrorsFreezeTheFilter(t *testing.T) {
	for _, f := range failures() {
		switch f.name {
		case "no shared cipher", "HTTP at the server", "server of another name", "client expired", "tampered record",
			"tampered record, TLS 1.2", "tampered Finished", "close_notify in the handshake":
		default:
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			p := testkit.NewPair(t, f.server, f.client)
			f.play(t, p)
			failedSides := 0
			for _, side := range []*testkit.Side{&p.Server, &p.Client} {
				if side.Filter.Err() != nil {
					failedSides++
					requireFrozen(t, side)
				}
			}
			require.NotZero(t, failedSides)
		})
	}
}

// requireFrozen checks the rules of the package documentation for a filter after an error.
func requireFrozen(t *testing.T, side *testkit.Side) {
	t.Helper()
	err, done, got := side.Filter.Err(), side.HandshakeDone(), len(side.Got)
	exists, ids := side.ClientCertExists(), side.ClientCertIDs()
	for range 3 {
		plain, again := side.Receive([]byte("dst"), []byte("more input"))
		require.Equal(t, "dst", string(plain))
		require.Same(t, err, again)
		require.Same(t, err, side.Send([]byte("more output")))
		require.Same(t, err, side.Send(nil))
		require.Same(t, err, side.Handshake())
		require.Same(t, err, side.CloseWrite())
		require.Same(t, err, side.KeyUpdate(true))
		require.Same(t, err, side.ReceiveEOF())
		_, again = side.Detach()
		require.Same(t, err, again)
		require.Same(t, err, side.Filter.Err())
		side.Outgoing(nil) // the alert, if it was not taken before
		require.Empty(t, side.Outgoing(nil))
		require.True(t, side.Flushed())
	}
	require.Equal(t, done, side.HandshakeDone())
	require.Equal(t, exists, side.ClientCertExists())
	require.Equal(t, ids, side.ClientCertIDs())
	require.Len(t, side.Got, got)
}

// The alert can be fetched after the error, once.
func TestErrorsLeaveTheAlert(t *testing.T) {
	for name, f := range map[string]failure{
		"in the handshake": {server: testkit.ServerOf("server-ec", testkit.TLS12), client: testkit.Client(testkit.Cipher("AES256-SHA"), testkit.TLS12)},
		"in the data":      {server: testkit.Server(testkit.TLS13), client: testkit.Client(), run: func(t testing.TB, p *testkit.Pair) { require.NoError(t, p.Handshake()) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := testkit.NewPair(t, f.server, f.client)
			if f.run != nil {
				f.run(t, p)
				require.NoError(t, p.Client.Send([]byte("x")))
				wire := p.Client.Outgoing(nil)
				wire[10] ^= 1
				p.Server.Deliver(wire)
			} else {
				require.NoError(t, p.Client.Handshake())
				p.Server.Deliver(p.Client.Outgoing(nil))
			}
			require.Error(t, p.Server.Filter.Err())
			require.False(t, p.Server.Flushed())
			require.Error(t, p.Server.Send([]byte("not sent any more")))
			alert := p.Server.Outgoing([]byte("dst"))
			require.Greater(t, len(alert), 3)
			require.True(t, p.Server.Flushed())
			require.Equal(t, "dst", string(p.Server.Outgoing([]byte("dst"))))
			p.Client.Deliver(alert[3:])
			testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err())
		})
	}
}

// Data and close_notify from before a failed handshake are never sent: after the alert,
// nothing is left to send.
func TestErrorsLeaveNothingToSend(t *testing.T) {
	for name, prepare := range map[string]func(f *sslfilter.Filter) error{
		"early data":   func(f *sslfilter.Filter) error { return f.Send([]byte("early")) },
		"close_notify": (*sslfilter.Filter).CloseWrite,
	} {
		t.Run(name, func(t *testing.T) {
			p := testkit.NewPair(t, testkit.ServerOf("server-ec", testkit.TLS12), testkit.Client(testkit.Cipher("AES256-SHA"), testkit.TLS12))
			for _, side := range []*testkit.Side{&p.Client, &p.Server} {
				require.NoError(t, prepare(side.Filter))
				require.NoError(t, side.Handshake())
			}
			require.Error(t, p.Handshake())
			requireFrozen(t, &p.Client)
			requireFrozen(t, &p.Server)
		})
	}
}

// A failed connection keeps none of its input. The original keeps all of it.
func TestErrorsStopGrowth(t *testing.T) {
	const pieces, piece, spare = 2048, 32 << 10, 16 << 10 // 64 MiB of input; memory may grow by 16 MiB (spare is in KiB)
	for _, f := range failures() {
		if f.name != "HTTP at the server" && f.name != "tampered record" {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			p := testkit.NewPair(t, f.server, f.client)
			f.play(t, p)
			junk := make([]byte, piece)
			runtime.GC()
			before := testkit.ResidentKiB(t)
			for range pieces {
				_, err := p.Server.Receive(nil, junk)
				require.Same(t, p.Server.Filter.Err(), err)
				require.Error(t, p.Server.Send(junk))
			}
			runtime.GC()
			require.Less(t, testkit.ResidentKiB(t)-before, spare)
		})
	}
}

// OpenSSL's error queue belongs to the thread, and goroutines change threads. Each error
// must belong to its own connection, and a good connection has no error.
func TestErrorsStayWithTheirConnection(t *testing.T) {
	const goroutines, rounds = 16, 2
	type scenario struct {
		failure
		server, client *sslfilter.Ctx
		want           [2]string
	}
	play := func(s *scenario) (texts [2]string, err error) {
		server, err := s.server.NewFilter()
		if err != nil {
			return texts, err
		}
		client, err := s.client.NewFilter()
		if err != nil {
			return texts, err
		}
		p := testkit.Join(server, client)
		defer p.Close()
		s.play(t, p)
		for i, side := range []*testkit.Side{&p.Server, &p.Client} {
			if e := side.Filter.Err(); e != nil {
				texts[i] = fmt.Sprint(e)
				var failure *sslfilter.Error
				if errors.As(e, &failure) {
					texts[i] = fmt.Sprint(e, failure.Records)
				}
			}
		}
		return texts, nil
	}
	good := failure{"good", testkit.Server(), testkit.Client(), nil}
	var list []*scenario
	for _, f := range append(failures(), good, good, good) {
		if f.name == "key updates that nobody answers" || f.name == "another client" {
			continue
		}
		s := &scenario{failure: f, server: testkit.Ctx(t, f.server), client: testkit.Ctx(t, f.client)}
		var err error
		s.want, err = play(s)
		require.NoError(t, err)
		list = append(list, s)
	}
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range rounds * len(list) {
				s := list[(i*7+g*5)%len(list)]
				got, err := play(s)
				if err != nil || got != s.want {
					t.Errorf("%s: %q, %v; want %q", s.name, got, err, s.want)
					return
				}
			}
		})
	}
	all.Wait()
}
