package relay

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// The cost of server names in each connection: to a relay that serves every name, to one
// that has one name, and to one that has 100. The connections are made in turns, since the
// speed of a machine changes, with a full handshake and 16 bytes through an echo. The
// figures are medians of the processor time of the whole process, in microseconds, so they
// include the client (crypto/tls) and the backend.
func BenchmarkServerNames(b *testing.B) {
	backend := testkit.Serve(b, testkit.Listen(b), testkit.Echo)
	ways := []struct {
		name  string
		names int // -1 means that the relay serves every name
		addr  string
		took  []float64
	}{{name: "every", names: -1}, {name: "one", names: 1}, {name: "hundred", names: 100}}
	for i := range ways {
		way := &ways[i]
		text := fmt.Sprintf("[[relay]]\nname = \"r\"\nlisten = [\"tls:127.0.0.1:0\"]\nbackend = %q\ncrt = %q\nkey = %q\n",
			backend, testkit.AbsPKI("server-ec.crt"), testkit.AbsPKI("server-ec.key"))
		if way.names > 0 {
			list := []string{`"localhost"`}
			for n := 1; n < way.names; n++ {
				list = append(list, fmt.Sprintf(`"host%d.example.org"`, n))
			}
			text += "servernames = [" + strings.Join(list, ", ") + "]\n"
		}
		c, err := config.Parse([]byte(text))
		require.NoError(b, err)
		s, err := New(c, slog.New(slog.DiscardHandler))
		require.NoError(b, err)
		go s.Serve()
		defer s.Close()
		way.addr = s.Addrs("r")[0].String()
	}
	client := testkit.GoClient(b)
	message, got := []byte("sixteen bytes..."), make([]byte, 16)
	connect := func(addr string) {
		raw, err := net.Dial("tcp", addr)
		require.NoError(b, err)
		conn := tls.Client(raw, client)
		_, err = conn.Write(message)
		require.NoError(b, err)
		_, err = io.ReadFull(conn, got)
		require.NoError(b, err)
		require.NoError(b, conn.CloseWrite())
		_, err = io.Copy(io.Discard, conn)
		require.NoError(b, err)
		conn.Close()
	}
	processor := func() float64 {
		var u syscall.Rusage
		require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
	}
	for range b.N {
		for _, i := range rand.Perm(len(ways)) {
			begin := processor()
			connect(ways[i].addr)
			ways[i].took = append(ways[i].took, processor()-begin)
		}
	}
	for _, way := range ways {
		slices.Sort(way.took)
		b.ReportMetric(way.took[len(way.took)/2], way.name+"-µs")
	}
}
