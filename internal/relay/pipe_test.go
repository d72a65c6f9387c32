package relay

import (
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A pipe holds buffers only while they contain data.
func TestAnIdlePipeHoldsNoBuffer(t *testing.T) {
	const pipes, most = 100, 8 << 10 // bytes each; one buffer alone is larger
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC() // twice: a sync.Pool keeps its buffers through one collection
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var ends [pipes][2]*net.TCPConn
	var inner [pipes][2]*net.TCPConn
	for i := range pipes {
		ends[i][0], inner[i][0] = testkit.SocketPair(t)
		inner[i][1], ends[i][1] = testkit.SocketPair(t)
	}
	before := heap()
	var moved atomic.Int64
	var all sync.WaitGroup
	for i := range pipes {
		all.Go(func() {
			p := pipe{client: inner[i][0], backend: inner[i][1], touch: func() {}, fromClient: &moved, fromBackend: &moved}
			p.run(nil, nil)
		})
	}
	data, got := testkit.Bytes(64<<10, 1), make([]byte, 64<<10)
	for i := range pipes {
		for _, from := range []int{0, 1} {
			go ends[i][from].Write(data)
			_, err := io.ReadFull(ends[i][1-from], got)
			require.NoError(t, err)
			require.Equal(t, data, got)
		}
	}
	require.Less(t, heap()-before, int64(pipes*most))
	for i := range pipes {
		ends[i][0].Close()
		ends[i][1].Close()
	}
	all.Wait()
	require.EqualValues(t, 2*pipes*len(data), moved.Load())
}
