package filter_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// An attacker sends any plain text, split in any way. After the record that switched
// to TLS, no further record comes out.
func FuzzInjection(f *testing.F) {
	f.Add([]byte("EHLO\r\nSTARTTLS\r\nRSET\r\n"), uint64(1), true)
	f.Add([]byte("STARTTLS\nSTARTTLS\n"), uint64(2), false)
	f.Add([]byte("STARTTLS\r\n\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"), uint64(3), true)
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, keep bool) {
		var opts []filter.Option
		if keep {
			opts = append(opts, filter.KeepLeftover)
		}
		server, switched := newEnd(t, &filter.Line{}), 0
		server.record = func(rec any) {
			if rec != "STARTTLS" || len(server.Filters()) > 0 {
				return
			}
			before := server.Unread()
			err := server.Push(tlsServer(t, 0), opts...)
			if !keep && before > 0 {
				require.Equal(t, &filter.LeftoverError{Op: "Push", N: before}, err)
				return
			}
			switched = len(server.got)
		}
		server.deliver(in, testkit.Random(seed))
		if switched > 0 {
			require.Len(t, server.got, switched)
			require.Len(t, server.Filters(), 1)
		}
	})
}

// Two ends add TLS, remove it and talk in any order, in up to three layers, and the
// bytes are split in any way. Every record arrives once, in order.
func FuzzSwitches(f *testing.F) {
	f.Add([]byte("sssPsPsOsOs"), uint64(1))
	f.Add([]byte("PPPrOOOsr"), uint64(2))
	f.Add([]byte("PsrOPsrO"), uint64(3))
	f.Fuzz(func(t *testing.T, script []byte, seed uint64) {
		cut := testkit.Random(seed)
		server, client := newEnd(t, &filter.Line{}), newEnd(t, &filter.Line{})
		var up, down []any
		server.record = func(rec any) {
			if rec == "PUSH" {
				send(t, server, "OK")
				require.NoError(t, server.Push(tlsServer(t, 0)))
			}
		}
		client.record = func(rec any) {
			if rec == "OK" {
				require.NoError(t, client.Push(tlsClient(t)))
			}
		}
		for i, op := range script[:min(len(script), 20)] {
			layers := client.Filters()
			switch {
			case op == 'P' && len(layers) < 3:
				send(t, client, "PUSH")
				up, down = append(up, "PUSH"), append(down, "OK")
			case op == 'O' && len(layers) > 0:
				takeOff(t, client, server, cut)
			case op == 'r':
				send(t, server, fmt.Sprint("r", i))
				down = append(down, fmt.Sprint("r", i))
			default:
				send(t, client, fmt.Sprint("s", i))
				up = append(up, fmt.Sprint("s", i))
			}
			transfer(client, server, cut)
			require.NoError(t, client.err)
			require.NoError(t, server.err)
		}
		require.Equal(t, up, server.got)
		require.Equal(t, down, client.got)
		require.Zero(t, client.Unread()+server.Unread())
	})
}

// takeOff takes the top TLS off both ends.
func takeOff(t *testing.T, client, server *end, cut testkit.Cut) {
	for _, e := range []*end{client, server} {
		list := e.Filters()
		require.NoError(t, list[len(list)-1].(*sslfilter.Filter).CloseWrite())
	}
	transfer(client, server, cut)
	for _, e := range []*end{client, server} {
		f, err := e.Pop()
		require.NoError(t, err)
		require.NoError(t, f.Close())
		e.take()
	}
}
