package sslfilter_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A refused client gets an alert, and the program finds its own error. The Filter is frozen.
func TestChooserRefusals(t *testing.T) {
	ours := errors.New("the database is down")
	closed := testkit.Ctx(t, testkit.Server())
	closed.Close()
	client := testkit.Ctx(t, testkit.Client())
	for _, c := range []struct {
		name   string
		choose choose
		alert  sslfilter.AlertError
		check  func(t *testing.T, err error)
	}{
		{"no context", always(nil), unrecognizedName, func(t *testing.T, err error) {
			require.EqualError(t, err, `sslfilter: there is no context for the server name "localhost"`)
		}},
		{"an error", func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return closed, ours }, unrecognizedName, func(t *testing.T, err error) {
			require.ErrorIs(t, err, ours)
			require.EqualError(t, err, `sslfilter: no context is chosen for the server name "localhost": the database is down`)
		}},
		{"a client's context", always(client), internalError, func(t *testing.T, err error) {
			require.ErrorContains(t, err, "the context of a client")
			testkit.As[*sslfilter.UsageError](t, err)
		}},
		{"a closed context", always(closed), internalError, func(t *testing.T, err error) {
			require.ErrorContains(t, err, "closed")
			testkit.As[*sslfilter.UsageError](t, err)
		}},
		{"a zero context", always(new(sslfilter.Ctx)), internalError, func(t *testing.T, err error) {
			testkit.As[*sslfilter.UsageError](t, err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
				testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
					p := testkit.Join(choosing(t, c.choose), testkit.Filter(t, testkit.Client(testkit.Only(v))))
					p.Cut = cut
					require.Error(t, p.Handshake())
					require.Equal(t, c.alert, testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()))
					err := p.Server.Filter.Err()
					require.Equal(t, "localhost", testkit.As[*sslfilter.ServerNameError](t, err).ServerName)
					c.check(t, err)
					require.Same(t, err, p.Server.Err)
					requireSound(t, p.Server.Filter)
				})
			})
		})
	}
	hello := clientHello(0x0303, nil, []uint16{0xc02f})
	_, err := choosing(t, always(nil)).Receive(nil, hello)
	require.EqualError(t, err, "sslfilter: there is no context for a client without a server name")
	refusal := &sslfilter.ServerNameError{ServerName: "other"}
	_, err = choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return nil, refusal }).Receive(nil, hello)
	require.Same(t, error(refusal), err, "it is not wrapped again")
}

// A chooser that panics, or that closes the Filter, leaves it sound.
func TestChooserPanics(t *testing.T) {
	p := testkit.Join(choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { panic("lost") }), testkit.Filter(t, testkit.Client()))
	require.NoError(t, p.Client.Handshake())
	hello := p.Client.Outgoing(nil)
	require.PanicsWithValue(t, "lost", func() { p.Server.Receive(nil, hello) })
	require.ErrorContains(t, p.Server.Filter.Err(), "panicked")
	p.Transfer()
	require.Equal(t, internalError, testkit.As[sslfilter.AlertError](t, p.Client.Filter.Err()))
	requireSound(t, p.Server.Filter)

	ctx := testkit.Ctx(t, testkit.Server())
	var f *sslfilter.Filter
	f = choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { f.Close(); return ctx, nil })
	_, err := f.Receive(nil, hello)
	require.ErrorIs(t, err, sslfilter.ErrClosed)
	_, err = f.Receive(nil, hello)
	require.ErrorIs(t, err, sslfilter.ErrClosed)
}

// A chooser must not call its Filter. If it does, nothing worse than an error happens.
func TestChooserCallsItsFilter(t *testing.T) {
	ctx := testkit.Ctx(t, testkit.Server())
	c := testkit.Filter(t, testkit.Client())
	require.NoError(t, c.Handshake())
	hello := c.Outgoing(nil)
	var f *sslfilter.Filter
	calls := 0
	f = choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		calls++
		for _, wire := range [][]byte{nil, hello} {
			_, err := f.Receive(nil, wire)
			testkit.As[*sslfilter.UsageError](t, err)
		}
		require.Equal(t, "localhost", f.ServerName())
		require.NoError(t, f.Send([]byte("early")))
		return ctx, nil
	})
	_, err := f.Receive(nil, hello)
	require.NoError(t, err)
	require.Equal(t, 1, calls)
	require.NotEmpty(t, f.Outgoing(nil))

	f = choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { f.ReceiveEOF(); return ctx, nil })
	_, err = f.Receive(nil, hello)
	testkit.As[*sslfilter.TruncatedError](t, err)
	require.Same(t, err, f.Err())

	f = choosing(t, func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { f.Close(); panic("lost") })
	require.PanicsWithValue(t, "lost", func() { f.Receive(nil, hello) })
	_, err = f.Receive(nil, hello)
	require.ErrorIs(t, err, sslfilter.ErrClosed)
	require.NoError(t, f.Err())
}
