package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/faultnet"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// The network between the client and the relay fails in every way, in the handshake,
// in the data and at the end. No byte is wrong, a cut is not taken for an orderly end, other
// clients are served, and nothing is left over.
func TestFaultyNetworkInFront(t *testing.T) {
	const conns = faultnet.Kinds * 2 * 3 * 3 // each kind, in each direction, at each place, three times
	seed := rand.Uint64()
	t.Logf("seed: %d", seed)
	before := runtime.NumGoroutine()
	t.Run("all of it", func(t *testing.T) {
		f := start(t, `listen = ["127.0.0.1:0"]`, crt(), `handshake-timeout = "20s"`,
			fmt.Sprintf("backend = %q", backend(t, testkit.Echo)))
		proxy, err := faultnet.New(f.addr())
		require.NoError(t, err)
		// crypto/tls would take an end without close_notify between two records for io.EOF.
		ctx, err := sslfilter.NewCtx(sslfilter.Options{Client: true, CACrt: testkit.AbsPKI("root.crt"), ServerName: "localhost"})
		require.NoError(t, err)
		defer ctx.Close()
		var failed [faultnet.Kinds]int
		var mu sync.Mutex
		var all sync.WaitGroup
		for id := range uint64(conns) {
			all.Go(func() {
				r := rand.New(rand.NewPCG(seed, id))
				sent := make([]byte, 1+r.IntN(100<<10))
				rand.NewChaCha8([32]byte{byte(id), byte(id >> 8)}).Read(sent)
				fault := faultnet.Fault{Kind: faultnet.Kind(id % faultnet.Kinds), Wait: time.Duration(1+r.IntN(20)) * time.Millisecond}
				switch id / (faultnet.Kinds * 2) % 3 {
				case 0:
					fault.At = r.IntN(2000) // the handshake
				case 1:
					fault.At = r.IntN(len(sent))
				case 2:
					fault.At = len(sent) + r.IntN(2000) // near the end
				}
				link := &faultnet.Link{Seed: seed ^ id}
				link.Plan[id/faultnet.Kinds%2] = fault
				deadline := testkit.Patience
				if !fault.Kind.Harmless() {
					deadline = 3 * time.Second
				}
				got, read, write := throughRelay(proxy, link, ctx, deadline, sent)
				what := fmt.Sprintf("connection %d, %v", id, link.Plan)
				switch {
				case !bytes.HasPrefix(sent, got):
					t.Errorf("%s: wrong bytes", what)
				case read == nil && len(got) < len(sent):
					t.Errorf("%s: a cut was taken for an end", what)
				case fault.Kind.Harmless():
					if err := errors.Join(read, write); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				case read != nil || write != nil:
					mu.Lock()
					failed[fault.Kind]++
					mu.Unlock()
				}
			})
		}
		honest := dialTLS(t, f.addr())
		testkit.Exchange(t, honest, "while others fail")
		honest.Close()
		all.Wait()
		proxy.Stop()
		testkit.Eventually(t, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return len(f.sessions) == 0
		}, "sessions are left")
		testkit.Exchange(t, dialTLS(t, f.addr()), "when they have failed")
		for kind := faultnet.Resets; kind < faultnet.Kinds; kind++ {
			require.NotZero(t, failed[kind], "%v hit nobody", kind)
		}
	})
	testkit.Eventually(t, func() bool { return runtime.NumGoroutine() <= before }, "goroutines are left")
}

// throughRelay sends data and its end, and reads the answer to its end.
func throughRelay(proxy *faultnet.Proxy, link *faultnet.Link, ctx *sslfilter.Ctx, deadline time.Duration, data []byte) (got []byte, read, write error) {
	below, err := proxy.Dial(link)
	if err != nil {
		return nil, err, nil
	}
	conn := sslnet.Client(below, ctx)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(deadline))
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(data)
		if err == nil {
			err = conn.CloseWrite()
		}
		written <- err
	}()
	got, read = io.ReadAll(conn)
	if read != nil || len(got) < len(data) {
		conn.Close() // the peer may still be writing
	}
	return got, read, <-written
}
