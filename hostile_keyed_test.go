package sslfilter_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// The filter accepts the records of keyed, and keyed reads the records of the filter: the
// tests and fuzz targets with keys do not fail because of wrong records.
func TestHostileKeyedPeer(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, client := range []bool{false, true} {
			f := testkit.Filter(t, keyedOptions(client, v))
			k := connectKeyed(t, f, client, nil)
			require.True(t, f.HandshakeDone() && f.ClientCertValid())
			require.Equal(t, f.TLSUnique(), k.finished[0])
			f.Outgoing(nil)
			wire := k.send(typeData, []byte("hello, "))
			if v == sslfilter.VersionTLS13 {
				wire = append(wire, k.send(typeHandshake, keyUpdating(0))...)
			}
			wire = append(wire, k.send(typeData, []byte("world"))...)
			got, err := f.Receive(nil, wire)
			require.NoError(t, err)
			require.Equal(t, "hello, world", string(got))
			require.NoError(t, f.Send([]byte("answer")))
			kind, said, err := k.in.open(f.Outgoing(nil))
			require.NoError(t, err)
			require.Equal(t, byte(typeData), kind)
			require.Equal(t, "answer", string(said))
			got, err = f.Receive(nil, k.send(typeAlert, []byte{1, 0}))
			require.ErrorIs(t, err, io.EOF)
			require.Empty(t, got)
		}
	})
}

// A peer may send close_notify in the middle of a message of a later handshake, and
// anything after it. OpenSSL then needs the rest of the message before it writes. That rest
// never arrives, and bytes after close_notify must not be read as TLS.
func TestHostileCloseInALaterHandshake(t *testing.T) {
	begun := map[sslfilter.Version][]byte{
		sslfilter.VersionTLS12: message(0),    // HelloRequest
		sslfilter.VersionTLS13: {24, 0, 0, 1}, // the header of a KeyUpdate
	}
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, client := range []bool{false, true} {
			for _, after := range []string{"", "x", strings.Repeat("x", 20000)} {
				for name, speak := range map[string]func(f *sslfilter.Filter){
					"Send":       func(f *sslfilter.Filter) { f.Send([]byte("too late")) },
					"CloseWrite": func(f *sslfilter.Filter) { f.CloseWrite() },
					"KeyUpdate":  func(f *sslfilter.Filter) { f.KeyUpdate(true) },
					"Detach":     func(f *sslfilter.Filter) { f.Detach() },
					"all": func(f *sslfilter.Filter) {
						f.Send([]byte("too late"))
						f.KeyUpdate(false)
						f.CloseWrite()
					},
				} {
					t.Run(fmt.Sprintf("client %v, %d bytes after it, %s", client, len(after), name), func(t *testing.T) {
						f := testkit.Filter(t, keyedOptions(client, v))
						k := connectKeyed(t, f, client, nil)
						f.Outgoing(nil)
						wire := append(k.send(typeHandshake, begun[v]), k.send(typeAlert, []byte{1, 0})...)
						got, err := f.Receive(nil, append(wire, after...))
						require.Empty(t, got)
						if err != io.EOF { // some versions of OpenSSL reject it
							require.ErrorAs(t, err, new(*sslfilter.Error))
						}
						speak(f)
						f.Outgoing(nil)
						require.True(t, f.Flushed() || f.Err() != nil, "output is sent, or there is an error")
						f.ReceiveEOF()
						require.NoError(t, f.Close())
					})
				}
			}
		}
	})
}
