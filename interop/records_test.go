//go:build unix

package interop_test

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A program on the original that treats each input as a message counts the messages
// of filter.Records correctly, and filter.Records returns one record for each put of
// the original.
func TestPerlRecords(t *testing.T) {
	peers.FindFor(t, endpoint, "libpoe-filter-ssl-perl", "perl")
	for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			p := startPerl(t, newSpec(version, 0, serverSays, map[string]any{
				"crt": testkit.PKI("server.crt"), "key": testkit.PKI("server.key"),
			}), "--listen")
			conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.event(t, "listen").Port)), testkit.Patience)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(testkit.Patience)))

			tls, err := sslfilter.New(sslfilter.Options{Client: true, ServerName: "localhost", CACrt: testkit.PKI("root.crt"), TLS12: version == "TLSv1.2"})
			require.NoError(t, err)
			s := filter.NewStack(filter.Records{})
			defer s.Close()
			require.NoError(t, s.Push(tls))
			messages := []string{"<one/>", "<two/>", "<three/>"}
			for _, m := range messages { // before the handshake, and with one Outgoing
				require.NoError(t, s.Send(m))
			}
			flush := func() {
				_, err := conn.Write(s.Outgoing(nil))
				require.NoError(t, err)
			}
			flush()
			var lengths []int
			for in := make([]byte, 64<<10); len(lengths) < 5; {
				n, err := conn.Read(in)
				require.NoError(t, err)
				require.NoError(t, s.Receive(in[:n]))
				for {
					rec, err := s.Next()
					require.NoError(t, err)
					if rec == nil {
						break
					}
					lengths = append(lengths, len(rec.([]byte)))
				}
				flush()
			}
			require.Equal(t, []int{1, 5000, 16384, 16384, 1}, lengths, "the puts of the original; a TLS record holds at most 16384 bytes")
			require.True(t, s.Flushed())
			require.NoError(t, s.CloseWrite())
			flush()
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			end := p.event(t, "end")
			require.NoError(t, p.wait(), p.stderr)
			require.Equal(t, len(messages), end.Inputs)
			require.Equal(t, sum([]byte("<one/><two/><three/>")), end.SHA256)
		})
	}
}
