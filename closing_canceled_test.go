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

// alert is that record's content.
func alert(level, description byte) []byte { return []byte{level, description} }

const (
	warning, fatal            = 1, 2
	closeNotify, userCanceled = 0, 90
)

// RFC 8446 section 6.1: user_canceled, followed by close_notify. Java's
// SSLSocket.close() ends every connection with it. It is an end as after any
// close_notify, with data in front of it and speech behind it.
func TestClosingUserCanceled(t *testing.T) {
	toServer, toClient := keyedConfigs(t)
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, client := range []bool{false, true} {
			for _, levels := range [][2]byte{{warning, warning}, {warning, fatal}, {fatal, warning}, {fatal, fatal}} {
				if v == sslfilter.VersionTLS12 && levels != [2]byte{warning, warning} {
					continue
				}
				for _, times := range []int{1, 3} {
					t.Run(fmt.Sprintf("client %v, levels %v, %d times", client, levels, times), func(t *testing.T) {
						testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
							for _, end := range []string{"half close", "Detach"} {
								config := toServer
								if client {
									config = toClient
								}
								f := testkit.Filter(t, keyedOptions(client, v))
								k := connectKeyed(t, f, client, config, nil)
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
										if kind == typeAlert && len(body) == 1 {
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

// What is not that end stays an error: user_canceled alone is not an end, a fatal
// alert behind it is that alert, and two alerts in one record of TLS 1.3 are
// refused (RFC 8446 section 5.1).
func TestClosingUserCanceledAlone(t *testing.T) {
	toServer, toClient := keyedConfigs(t)
	for _, client := range []bool{false, true} {
		config := toServer
		if client {
			config = toClient
		}
		connect := func() (*sslfilter.Filter, *keyed) {
			f := testkit.Filter(t, keyedOptions(client, sslfilter.VersionTLS13))
			k := connectKeyed(t, f, client, config, nil)
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

// In the handshake the two are a failure that says so.
func TestClosingUserCanceledInTheHandshake(t *testing.T) {
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		p := testkit.NewPair(t, testkit.Server(), testkit.Client(func(o *sslfilter.Options) { o.MaxVersion = v }))
		require.NoError(t, p.Client.Handshake())
		p.Client.Deliver(slices.Concat(tlsRecord(typeAlert, warning, userCanceled), tlsRecord(typeAlert, warning, closeNotify)))
		require.NotErrorIs(t, p.Client.Err, io.EOF)
		require.Contains(t, p.Client.Err.Error(), "the peer closed the connection in the handshake")
		require.False(t, p.Client.HandshakeDone())
	}
}
