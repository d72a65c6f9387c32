package sslfilter_test

import (
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// alert returns the content of an alert record.
func alert(level, description byte) []byte { return []byte{level, description} }

const (
	warning, fatal            = 1, 2
	closeNotify, userCanceled = 0, 90
)

// A peer may send user_canceled followed by close_notify (RFC 8446 section 6.1), as
// Java's SSLSocket.close() does. This has the effect of close_notify alone: earlier data
// arrives, and this side can still send.
func TestClosingUserCanceled(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, client := range []bool{false, true} {
			for _, levels := range [][2]byte{{warning, warning}, {warning, fatal}, {fatal, warning}, {fatal, fatal}} {
				if v == sslfilter.VersionTLS12 && levels != [2]byte{warning, warning} {
					continue // in TLS 1.2 the level matters, and fatal is an error
				}
				for _, times := range []int{1, 3} { // OpenSSL treats the fifth warning in a row as an error
					t.Run(fmt.Sprintf("client %v, levels %v, %d times", client, levels, times), func(t *testing.T) {
						testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
							for _, end := range []string{"half close", "Detach"} {
								f := testkit.Filter(t, keyedOptions(client, v))
								k := connectKeyed(t, f, client, nil)
								f.Outgoing(nil)
								wire := k.send(typeData, []byte("last words"))
								wire = append(wire, k.send(typeAlert, slices.Repeat([][]byte{alert(levels[0], userCanceled)}, times)...)...)
								wire = append(wire, k.send(typeAlert, alert(levels[1], closeNotify))...)
								side := testkit.Side{Filter: f}
								for _, piece := range cut(append(wire, "plain"...)) {
									side.Deliver(piece)
								}
								require.Equal(t, io.EOF, side.Err)
								require.NoError(t, f.Err())
								require.Equal(t, "last words", string(side.Got))
								require.Equal(t, io.EOF, f.ReceiveEOF())
								require.NoError(t, f.Send([]byte("answer")))
								if end == "Detach" {
									plain, err := f.Detach()
									require.NoError(t, err)
									require.Equal(t, "plain", string(plain))
								} else {
									require.NoError(t, f.CloseWrite())
								}
								said := testkit.ByRecord(f.Outgoing(nil))
								require.True(t, f.Flushed())
								require.NoError(t, f.Err())
								var got [][]byte
								for _, record := range said {
									if len(record) > 0 {
										kind, body, err := k.in.open(record)
										require.NoError(t, err)
										if kind == typeAlert && len(body) == 1 { // open removes zeros at the end, as padding
											body = append(body, closeNotify)
										}
										got = append(got, append([]byte{kind}, body...))
									}
								}
								require.Equal(t, [][]byte{append([]byte{typeData}, "answer"...), {typeAlert, warning, closeNotify}}, got)
							}
						})
					})
				}
			}
		}
	})
}

// user_canceled alone does not end the connection. A fatal alert after it is reported as
// that alert, and two alerts in one record of TLS 1.3 are an error (RFC 8446 section
// 5.1).
func TestClosingUserCanceledAlone(t *testing.T) {
	for _, client := range []bool{false, true} {
		connect := func() (*sslfilter.Filter, *keyed) {
			f := testkit.Filter(t, keyedOptions(client, sslfilter.VersionTLS13))
			k := connectKeyed(t, f, client, nil)
			f.Outgoing(nil)
			return f, k
		}
		f, k := connect()
		_, err := f.Receive(nil, k.send(typeAlert, alert(warning, userCanceled)))
		require.NoError(t, err)
		got, err := f.Receive(nil, k.send(typeData, []byte("still here")))
		require.NoError(t, err)
		require.Equal(t, "still here", string(got))
		_, err = f.Receive(nil, k.send(typeAlert, alert(fatal, 80)))
		require.Equal(t, sslfilter.AlertError(80), testkit.As[sslfilter.AlertError](t, err))

		f, k = connect()
		_, err = f.Receive(nil, k.send(typeAlert, slices.Concat(alert(warning, userCanceled), alert(warning, closeNotify))))
		require.NotErrorIs(t, err, io.EOF)
		require.Contains(t, err.Error(), "invalid alert")
	}
}

// During the handshake, user_canceled and close_notify are a failure with a clear text.
func TestClosingUserCanceledInTheHandshake(t *testing.T) {
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		p := testkit.NewPair(t, testkit.Server(), testkit.Client(testkit.UpTo(v)))
		require.NoError(t, p.Client.Handshake())
		p.Client.Deliver(slices.Concat(tlsRecord(typeAlert, warning, userCanceled), tlsRecord(typeAlert, warning, closeNotify)))
		require.NotErrorIs(t, p.Client.Err, io.EOF)
		require.Contains(t, p.Client.Err.Error(), "the peer closed the connection in the handshake")
		require.False(t, p.Client.HandshakeDone())
	}
}
