package filter_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// starttls makes a server of lines that pushes a TLS server at STARTTLS. The error
// of Push is in *result.
func starttls(t *testing.T, line *filter.Line, result *error, opts ...filter.Option) *end {
	server := newEnd(t, line)
	server.record = func(rec any) {
		if rec == "STARTTLS" && len(server.Filters()) == 0 {
			send(t, server, "220 go ahead")
			*result = server.Push(tlsServer(t, 0), opts...)
		}
	}
	return server
}

// The deliveries include some that end between CR and LF: the LF does not belong to TLS.
func TestSTARTTLS(t *testing.T) {
	for name, line := range map[string]filter.Line{"any newline": {}, "CR LF": {Newline: "\r\n"}, "detected": {Detect: true}} {
		t.Run(name, func(t *testing.T) {
			testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
				pushed := io.EOF
				server, client := starttls(t, &line, &pushed), newEnd(t, &filter.Line{})
				client.record = func(rec any) {
					if rec == "220 go ahead" {
						require.NoError(t, client.Push(tlsClient(t)))
						send(t, client, "secret")
					}
				}
				send(t, client, "EHLO", "STARTTLS")
				transfer(client, server, cut)
				require.NoError(t, pushed)
				require.Equal(t, []any{"EHLO", "STARTTLS", "secret"}, server.got)
				require.Equal(t, []any{"220 go ahead"}, client.got)
				require.NoError(t, server.Err())
				require.NoError(t, client.Err())
				require.True(t, client.Filters()[0].(*sslfilter.Filter).HandshakeDone())
			})
		})
	}
}

// A server whose context is chosen by the ClientHello is pushed like any other.
func TestSTARTTLSWithAChoice(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server())
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		names := make(map[string]int)
		server, client := newEnd(t, &filter.Line{}), newEnd(t, &filter.Line{})
		server.record = func(rec any) {
			if rec == "STARTTLS" {
				send(t, server, "220 go ahead")
				tls := sslfilter.NewServerFilter(func(hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
					names[hello.ServerName]++
					return ctx, nil
				})
				t.Cleanup(func() { tls.Close() })
				require.NoError(t, server.Push(tls))
			}
		}
		client.record = func(rec any) {
			if rec == "220 go ahead" {
				require.NoError(t, client.Push(tlsClient(t)))
				send(t, client, "secret")
			}
		}
		send(t, client, "STARTTLS")
		transfer(client, server, cut)
		require.Equal(t, []any{"STARTTLS", "secret"}, server.got)
		require.Equal(t, map[string]int{"localhost": 1}, names)
	})
}

// CVE-2011-0411: a command that is injected after STARTTLS must never be mistaken
// for one that came through TLS.
func TestInjectionAfterSTARTTLSIsRefused(t *testing.T) {
	for name, injected := range map[string]string{"a command": "RSET\r\n", "half a command": "MAIL FR", "one byte": "x", "an empty line": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			var pushed error
			server := starttls(t, &filter.Line{Newline: "\r\n"}, &pushed)
			require.NoError(t, server.Receive([]byte("STARTTLS\r\n"+injected)))
			rec, err := server.Next()
			require.NoError(t, err)
			server.record(rec)
			var left *filter.LeftoverError
			require.ErrorAs(t, pushed, &left)
			require.Equal(t, len(injected), left.N)
			require.Contains(t, left.Error(), "bytes were received before the switch")
			require.Empty(t, server.Filters(), "nothing has changed")
			require.Equal(t, len(injected), server.Unread())
			require.Equal(t, "220 go ahead\r\n", string(server.Outgoing(nil)))
		})
	}
}

func TestInjectedCommandFedToTLSFails(t *testing.T) {
	var pushed error
	server := starttls(t, &filter.Line{}, &pushed, filter.KeepLeftover)
	server.deliver([]byte("STARTTLS\r\nRSET\r\n"), testkit.Whole)
	var failed *sslfilter.Error
	require.ErrorAs(t, pushed, &failed)
	require.Equal(t, []any{"STARTTLS"}, server.got)
	require.Equal(t, pushed, server.err)
}

// The client sends its ClientHello without waiting for the answer.
func TestPipelinedClientHello(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		var pushed error
		server := starttls(t, &filter.Line{}, &pushed, filter.KeepLeftover)
		client := newEnd(t, &filter.Line{})
		send(t, client, "STARTTLS")
		first := client.Outgoing(nil)
		require.NoError(t, client.Push(tlsClient(t)))
		server.deliver(client.Outgoing(first), cut)
		require.NoError(t, pushed)

		answer := server.Outgoing(nil)
		plain := "220 go ahead\r\n"
		require.Equal(t, plain, string(answer[:len(plain)]), "before TLS")
		client.deliver(answer[len(plain):], cut)
		send(t, client, "secret")
		transfer(client, server, cut)
		require.Equal(t, []any{"STARTTLS", "secret"}, server.got)
	})
}

// The client of STARTTLS rejects a response that was injected after the server's
// answer.
func TestInjectedResponseIsRefused(t *testing.T) {
	client := newEnd(t, &filter.Line{})
	require.NoError(t, client.Receive([]byte("220 go ahead\r\n250 you are welcome\r\n")))
	_, err := client.Next()
	require.NoError(t, err)
	var left *filter.LeftoverError
	require.ErrorAs(t, client.Push(tlsClient(t)), &left)
	require.Equal(t, len("250 you are welcome\r\n"), left.N)
}

func TestTLSInTLS(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			server := newEnd(t, &filter.Line{}, tlsServer(t, v), tlsServer(t, v), tlsServer(t, v))
			client := newEnd(t, &filter.Line{}, tlsClient(t), tlsClient(t), tlsClient(t))
			send(t, client, "early")
			send(t, server, "banner")
			transfer(client, server, cut)
			require.Equal(t, []any{"early"}, server.got)
			require.Equal(t, []any{"banner"}, client.got)
			for _, f := range client.Filters() {
				require.True(t, f.(*sslfilter.Filter).HandshakeDone())
			}
			send(t, client, "last")
			require.NoError(t, client.CloseWrite())
			require.NoError(t, server.CloseWrite())
			transfer(client, server, cut)
			require.Equal(t, []any{"early", "last"}, server.got)
			require.Equal(t, io.EOF, client.err)
			require.Equal(t, io.EOF, server.err)
			require.True(t, client.Flushed())
			require.True(t, server.Flushed())
			require.Equal(t, io.EOF, client.ReceiveEOF())
		})
	})
}

// The second handshake runs over the first connection, pushed while data flows.
func TestPushOntoEstablishedTLS(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, &filter.Line{}, tlsClient(t))
		server.record = func(rec any) {
			if rec == "MORE" {
				send(t, server, "OK")
				require.NoError(t, server.Push(tlsServer(t, 0)))
			}
		}
		client.record = func(rec any) {
			if rec == "OK" {
				require.NoError(t, client.Push(tlsClient(t)))
				send(t, client, "doubly secret")
			}
		}
		send(t, client, "secret", "MORE")
		transfer(client, server, cut)
		require.Equal(t, []any{"secret", "MORE", "doubly secret"}, server.got)
		require.Len(t, server.Filters(), 2)
	})
}

// unTLS removes TLS from a pair. The client ends it and continues in plain text at
// once. The server does so when it receives the end.
func unTLS(t *testing.T, client, server *end, cut testkit.Cut) {
	t.Helper()
	tls := client.Filters()[0].(*sslfilter.Filter)
	require.NoError(t, tls.CloseWrite())
	require.Error(t, client.Send("neither TLS nor plain"))
	move(client, server, cut)
	require.Equal(t, io.EOF, server.err)
	f, err := server.Pop()
	require.NoError(t, err)
	require.True(t, f.(*sslfilter.Filter).HandshakeDone(), "the verdict can still be asked for")
	require.NoError(t, f.Close())
}

func TestPopTLSFromAStackInUse(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			server, client := newEnd(t, &filter.Line{}, tlsServer(t, v)), newEnd(t, &filter.Line{}, tlsClient(t))
			send(t, client, "CCC")
			transfer(client, server, cut)
			unTLS(t, client, server, cut)
			send(t, server, "plain answer") // after our close_notify, in one delivery
			move(server, client, cut)
			require.Equal(t, io.EOF, client.err)
			_, err := client.Pop()
			require.NoError(t, err)
			client.take()
			require.Equal(t, []any{"plain answer"}, client.got)
			send(t, client, "plain question")
			require.Equal(t, "plain question\r\n", string(client.Outgoing(nil)))
			server.deliver([]byte("plain question\r\n"), cut)
			require.Equal(t, []any{"CCC", "plain question"}, server.got)
			require.NoError(t, server.err)
			require.Equal(t, io.EOF, server.ReceiveEOF())
		})
	})
}

// TLS starts again, and the ClientHello directly follows the close_notify.
func TestTLSAfterTLS(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, &filter.Line{}, tlsClient(t))
		send(t, client, "first")
		transfer(client, server, cut)
		unTLS(t, client, server, cut)
		move(server, client, cut)
		old, err := client.Replace(0, tlsClient(t))
		require.NoError(t, err)
		require.NoError(t, old.Close())
		require.NoError(t, server.Push(tlsServer(t, 0)))
		send(t, client, "second")
		transfer(client, server, cut)
		require.Equal(t, []any{"first", "second"}, server.got)
	})
}

func TestReplaceFeedsTheNewFilter(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, &filter.Line{}, tlsClient(t))
		send(t, client, "first")
		transfer(client, server, cut)
		require.NoError(t, client.Filters()[0].(*sslfilter.Filter).CloseWrite())
		second := newEnd(t, &filter.Line{}, tlsClient(t))
		server.deliver(second.Outgoing(client.Outgoing(nil)), cut) // close_notify, ClientHello
		require.Equal(t, io.EOF, server.err)
		old, err := server.Replace(0, tlsServer(t, 0))
		require.NoError(t, err)
		require.NoError(t, old.Close())
		move(server, client, testkit.Whole) // our close_notify, and then the new flight
		last, err := client.Filters()[0].(*sslfilter.Filter).Detach()
		require.NoError(t, err)
		second.deliver(last, cut)
		send(t, second, "second")
		transfer(second, server, cut)
		require.Equal(t, []any{"first", "second"}, server.got)
	})
}

// The outer TLS is removed, and the inner TLS continues alone.
func TestRemoveOuterTLS(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server := newEnd(t, &filter.Line{}, tlsServer(t, 0), tlsServer(t, 0))
		client := newEnd(t, &filter.Line{}, tlsClient(t), tlsClient(t))
		send(t, client, "in both")
		transfer(client, server, cut)
		require.NoError(t, client.Filters()[0].(*sslfilter.Filter).CloseWrite())
		move(client, server, cut)
		require.ErrorIs(t, server.err, io.ErrUnexpectedEOF, "the inner one has not ended")
		for _, e := range []*end{server, client} {
			f, err := e.Remove(0)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			if e == server {
				send(t, server, "from the inner one")
			}
			move(server, client, cut)
		}
		client.take()
		require.Equal(t, []any{"from the inner one"}, client.got)
		send(t, client, "in one")
		transfer(client, server, cut)
		require.Equal(t, []any{"in both", "in one"}, server.got)
		require.NoError(t, server.err)
	})
}

// A record must not begin in TLS and end outside.
func TestPopRefusesLeftoverBytes(t *testing.T) {
	for name, opts := range map[string][]filter.Option{"refused": nil, "kept": {filter.KeepLeftover}} {
		t.Run(name, func(t *testing.T) {
			server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, nil, tlsClient(t))
			send(t, client, "DELETE ")
			transfer(client, server, testkit.Whole)
			require.NoError(t, client.Filters()[0].(*sslfilter.Filter).CloseWrite())
			server.deliver(append(client.Outgoing(nil), "ALL\n"...), testkit.Whole)
			_, err := server.Pop(opts...)
			if opts == nil {
				var left *filter.LeftoverError
				require.ErrorAs(t, err, &left)
				require.Equal(t, 7, left.N)
				server.take()
				require.Empty(t, server.got)
				require.Len(t, server.Filters(), 1)
				return
			}
			require.NoError(t, err)
			server.take()
			require.Equal(t, []any{"DELETE ALL"}, server.got)
		})
	}
}

func TestImpossibleSwitches(t *testing.T) {
	server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, &filter.Line{}, tlsClient(t))
	transfer(client, server, testkit.Whole)
	var usage *sslfilter.UsageError

	_, err := server.Pop()
	require.ErrorAs(t, err, &usage, "the peer's close_notify has not come")
	_, err = server.Replace(0, tlsServer(t, 0))
	require.ErrorAs(t, err, &usage)
	nameless := testkit.Filter(t, sslfilter.Options{Client: true, CACrt: testkit.PKI("root.crt")})
	require.ErrorAs(t, server.Push(nameless), &usage)
	_, err = server.Replace(0, nameless)
	require.ErrorAs(t, err, &usage)

	for _, i := range []int{-1, 2} {
		require.Error(t, server.Insert(i, tlsServer(t, 0)))
	}
	for _, i := range []int{-1, 1} {
		_, err = server.Remove(i)
		require.Error(t, err)
		_, err = server.Replace(i, tlsServer(t, 0))
		require.Error(t, err)
	}
	_, err = newEnd(t, nil).Pop()
	require.Error(t, err)

	require.NoError(t, server.Err())
	send(t, client, "still alive")
	transfer(client, server, testkit.Whole)
	require.Equal(t, []any{"still alive"}, server.got)

	require.NoError(t, server.CloseWrite())
	require.Error(t, server.Push(tlsServer(t, 0)))
	_, err = server.Pop()
	require.Error(t, err)
}

// A second TLS is inserted below an established one. Data that was sent
// before the insertion does not pass through it.
func TestInsertBelowEstablishedTLS(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, &filter.Line{}, tlsClient(t))
		transfer(client, server, cut)
		send(t, client, "before")
		require.NoError(t, client.Insert(0, tlsClient(t)))
		wire := client.Outgoing(nil)
		hello := newEnd(t, nil, tlsClient(t)).Outgoing(nil)
		server.deliver(wire[:len(wire)-len(hello)], cut)
		require.Equal(t, []any{"before"}, server.got)
		require.NoError(t, server.Insert(0, tlsServer(t, 0)))
		server.deliver(wire[len(wire)-len(hello):], cut)
		send(t, client, "after")
		transfer(client, server, cut)
		require.Equal(t, []any{"before", "after"}, server.got)
	})
}

func TestInsertRefusesLeftoverBytes(t *testing.T) {
	server, client := newEnd(t, &filter.Line{}, tlsServer(t, 0)), newEnd(t, nil, tlsClient(t))
	send(t, client, "half")
	transfer(client, server, testkit.Whole)
	var left *filter.LeftoverError
	require.ErrorAs(t, server.Insert(0, tlsServer(t, 0), filter.KeepLeftover), &left)
	require.Equal(t, 4, left.N)
}

func TestSetCodec(t *testing.T) {
	testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
		e := newEnd(t, &filter.Line{})
		e.record = func(rec any) {
			switch rec {
			case "DATA":
				require.NoError(t, e.SetDecoder(&filter.Line{Newline: "."}))
			case "body":
				require.NoError(t, e.SetCodec(filter.Stream{}))
			}
		}
		e.deliver([]byte("DATA\r\nbody.rest"), cut)
		require.Equal(t, []any{"DATA", "body"}, e.got[:2])
		rest := ""
		for _, rec := range e.got[2:] {
			rest += string(rec.([]byte))
		}
		require.Equal(t, "rest", rest)
		require.NoError(t, e.SetEncoder(&filter.Line{}))
		send(t, e, "x")
		require.Equal(t, "x\r\n", string(e.Outgoing(nil)))
	})
}

func TestPushAfterTheTransportEnded(t *testing.T) {
	e := newEnd(t, nil)
	require.Equal(t, io.EOF, e.ReceiveEOF())
	require.NoError(t, e.Push(tlsServer(t, 0)))
	_, err := e.Next()
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// A nil filter or codec is an error that changes nothing. The zero Stack is a stack
// without filters.
func TestNilFilters(t *testing.T) {
	var none *sslfilter.Filter
	var noLine *filter.Line
	for name, s := range map[string]*filter.Stack{"new": filter.NewStack(noLine), "zero": new(filter.Stack)} {
		t.Run(name, func(t *testing.T) {
			for name, err := range map[string]error{
				"Push: the filter is nil":          s.Push(nil),
				"Insert: the filter is nil":        s.Insert(0, none),
				"SetCodec: the codec is nil":       s.SetCodec(nil),
				"SetDecoder: the decoder is nil":   s.SetDecoder(noLine),
				"SetEncoder: the encoder is nil":   s.SetEncoder(nil),
				"Remove: no filter at index 0":     second(s.Remove(0)),
				"Pop: no filter at index -1":       second(s.Pop()),
				"Replace: the filter is nil":       second(s.Replace(0, nil)),
				"Insert: no index 1 among 0 filte": s.Insert(1, none),
			} {
				require.ErrorContains(t, err, "filter: "+name)
			}
			require.Empty(t, s.Filters())
			require.Zero(t, s.Unread())
			rec, err := s.Next()
			require.NoError(t, err)
			require.Nil(t, rec)
			require.NoError(t, s.Send("text"))
			require.Equal(t, "text", string(s.Outgoing(nil)))
			require.NoError(t, s.Receive([]byte("more")))
			rec, err = s.Next()
			require.NoError(t, err)
			require.Equal(t, []byte("more"), rec)
			require.NoError(t, s.Close())
		})
	}
}

func second(_ filter.Filter, err error) error { return err }
