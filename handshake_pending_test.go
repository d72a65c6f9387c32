package sslfilter_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A peer may put a message of the next handshake into the record of its Finished. When
// the first handshake is complete, OpenSSL has that message in its record buffer, and no
// more input arrives. The filter must answer it, or both ends wait for each other.
func TestHandshakeMessageInTheRecordOfFinished(t *testing.T) {
	for _, c := range []struct {
		name           string
		client, option bool
		times          int
	}{
		{"client", true, false, 1}, {"client, twice", true, false, 2}, {"client that refuses", true, true, 1}, {"client that refuses, three times", true, true, 3},
		{"server", false, false, 1}, {"server, three times", false, false, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, room := range []int{0, 1, 4096} {
				testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
					o := keyedOptions(c.client, sslfilter.VersionTLS12)
					o.NoRenegotiation = c.option
					k := &keyed{f: testkit.Filter(t, o), client: c.client}
					k.feed = func(record []byte) {
						for _, piece := range cut(record) {
							plain, err := k.f.Receive(make([]byte, 0, room), piece)
							require.NoError(t, err)
							require.Empty(t, plain)
						}
					}
					k.connect(t, func(kind byte, body []byte) [][]byte {
						if len(body) != 8+4+12+16 { // an encrypted Finished
							return [][]byte{body}
						}
						client, server := k.sealers12()
						open, seal := client, *client
						request := k.hello[5:]
						if c.client {
							open, seal, request = server, *server, message(0)
						}
						_, finished, err := open.open(tlsRecord(typeHandshake, body...))
						require.NoError(t, err)
						body = append(slices.Clone(finished), slices.Repeat(request, c.times)...)
						return [][]byte{seal.seal(typeHandshake, body)[5:]}
					})
					require.NoError(t, k.f.Err())
					require.True(t, k.f.HandshakeDone())
					k.application()
					said := testkit.ByRecord(k.said)
					said = said[:len(said)-1] // which is empty
					if !c.client {
						require.Equal(t, byte(typeCCS), said[0][0])
						said = said[2:] // after the Finished
					}
					kind, body := byte(0), []byte(nil)
					answers := 0
					for _, record := range said {
						var err error
						kind, body, err = k.in.open(record)
						require.NoError(t, err)
						answers++
						if !c.client || c.option {
							require.Equal(t, byte(typeAlert), kind)
							require.Equal(t, alert(warning, noRenegotiation), body)
						}
					}
					if c.client && !c.option {
						require.Equal(t, 1, answers, "one ClientHello")
						require.Equal(t, byte(typeHandshake), kind)
						require.Equal(t, byte(1), body[0])
						return
					}
					require.Equal(t, c.times, answers)
					got, err := k.f.Receive(nil, k.send(typeData, []byte("on")))
					require.NoError(t, err)
					require.Equal(t, "on", string(got))
				})
			}
		})
	}
}
