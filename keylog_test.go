package sslfilter_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cpeer"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// secretLog records the calls of Write, and finds calls at the same time.
type secretLog struct {
	busy   atomic.Int32
	mixed  atomic.Bool
	mu     sync.Mutex
	writes []string
	err    error
}

func (l *secretLog) Write(line []byte) (int, error) {
	if l.busy.Add(1) != 1 {
		l.mixed.Store(true)
	}
	defer l.busy.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = append(l.writes, string(line))
	return len(line), l.err
}

func (l *secretLog) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.writes))
}

func loggingKeys(w io.Writer) testkit.Change {
	return func(o *sslfilter.Options) { o.KeyLog = w }
}

// keyLogLine is a line of the format of NSS.
var keyLogLine = regexp.MustCompile(`^[A-Z_]+[0-9]? [0-9a-f]{64} ([0-9a-f]{64}|[0-9a-f]{96})\n$`)

// labels are the first words of the lines.
func labels(lines []string) (list []string) {
	for _, line := range lines {
		label, _, _ := strings.Cut(line, " ")
		list = append(list, label)
	}
	return list
}

// Both sides log the same lines, each in one call of Write, however the stream is cut.
func TestKeyLogLines(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			var server, client secretLog
			p := testkit.NewPair(t, testkit.Server(testkit.UpTo(v), loggingKeys(&server)), testkit.Client(loggingKeys(&client)))
			p.Cut = cut
			require.NoError(t, p.Handshake())
			require.Equal(t, server.lines(), client.lines())
			for _, line := range server.lines() {
				require.Regexp(t, keyLogLine, line)
			}
			want := []string{"CLIENT_RANDOM"}
			if v == sslfilter.VersionTLS13 {
				want = []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0", "EXPORTER_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"}
			}
			require.Equal(t, want, labels(server.lines()))
			require.NoError(t, p.Client.Send([]byte("data")))
			p.Transfer()
			require.Equal(t, "data", string(p.Server.Got))
			require.NoError(t, p.Client.CloseWrite())
			p.Transfer()
			require.True(t, p.Server.EOF())
			require.Equal(t, want, labels(client.lines()), "data adds no line")
		})
	})
}

// crypto/tls logs the same secrets for the same connection.
func TestKeyLogSameAsCryptoTLS(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		for _, client := range []bool{false, true} {
			var ours, theirs secretLog
			change := func(config *tls.Config) { config.KeyLogWriter, config.MaxVersion = &theirs, uint16(v) }
			o, config := testkit.Server(loggingKeys(&ours)), testkit.GoClient(t, change)
			if client {
				o, config = testkit.Client(loggingKeys(&ours)), testkit.GoServer(t, change)
			}
			require.NoError(t, testkit.TalkToGo(t, testkit.Filter(t, o), client, config).Err)
			require.NotEmpty(t, theirs.lines())
			have := slices.DeleteFunc(ours.lines(), func(line string) bool { return strings.HasPrefix(line, "EXPORTER_SECRET") }) // which crypto/tls does not log
			require.Equal(t, theirs.lines(), have)
		}
	})
}

// exchangeWithPeer passes bytes between f and a server in C until neither has any.
func exchangeWithPeer(t testing.TB, f *sslfilter.Filter, server *cpeer.Server) {
	t.Helper()
	for {
		wire := f.Outgoing(nil)
		_, err := server.Receive(wire)
		require.NoError(t, err)
		back := server.Outgoing()
		if len(wire) == 0 && len(back) == 0 {
			return
		}
		_, err = f.Receive(nil, back)
		require.NoError(t, err)
	}
}

// A renegotiation and a failed handshake are logged too.
func TestKeyLogRenegotiationAndFailure(t *testing.T) {
	var log secretLog
	server, err := cpeer.New(testkit.PKI("server.crt"), testkit.PKI("server.key"), false)
	require.NoError(t, err)
	defer server.Close()
	f := testkit.Filter(t, testkit.Client(testkit.TLS12, loggingKeys(&log)))
	pump := func() { exchangeWithPeer(t, f, server) }
	require.NoError(t, f.Handshake())
	pump()
	require.Equal(t, []string{"CLIENT_RANDOM"}, labels(log.lines()))
	for n := range 3 {
		require.NoError(t, server.Renegotiate())
		require.NoError(t, f.Send([]byte("meanwhile")))
		pump()
		require.Len(t, log.lines(), n+2)
	}

	var failed secretLog
	p := testkit.NewPair(t, testkit.ServerOf("server-unknown", testkit.TLS13), testkit.Client(loggingKeys(&failed)))
	require.Error(t, p.Handshake())
	require.Contains(t, labels(failed.lines()), "SERVER_HANDSHAKE_TRAFFIC_SECRET", "so that the refused certificate can be decrypted")
}

// Connections that share a Writer, of one context or of several, never mix their lines.
func TestKeyLogIsSerialized(t *testing.T) {
	var log secretLog
	server, client := testkit.Ctx(t, testkit.Server(loggingKeys(&log))), testkit.Ctx(t, testkit.Client(loggingKeys(&log)))
	var group sync.WaitGroup
	const connections = 40
	for range connections {
		group.Go(func() {
			p := testkit.PairOf(t, server, client)
			if err := p.Handshake(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.False(t, log.mixed.Load())
	require.Len(t, log.lines(), 2*5*connections)
	for _, line := range log.lines() {
		require.Regexp(t, keyLogLine, line)
	}
}

// If Write fails, the connection continues, and Debug reports it once for a context. No log
// has a secret.
func TestKeyLogFailingWriter(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		keys, log := &secretLog{err: errors.New("disk full")}, new(testkit.Log)
		server := testkit.Ctx(t, testkit.Server(testkit.UpTo(v), loggingKeys(keys), func(o *sslfilter.Options) { o.Debug = log.Logger() }))
		for range 3 {
			p := testkit.PairOf(t, server, testkit.Ctx(t, testkit.Client()))
			require.NoError(t, p.Handshake())
			require.NoError(t, p.Client.Send([]byte("data")))
			p.Transfer()
			require.Equal(t, "data", string(p.Server.Got))
		}
		require.Equal(t, []string{"disk full"}, log.Values("sslfilter: KeyLog failed, which is reported once", "error"))
		for _, line := range keys.lines() {
			secret := line[strings.LastIndexByte(line, ' ')+1 : len(line)-1]
			require.NotContains(t, log.String(), secret)
		}
	})
}

// A server whose context is chosen by the ClientHello logs the keys of that context.
func TestKeyLogOfAChosenContext(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			var server, client secretLog
			ctx := testkit.Ctx(t, testkit.Server(testkit.UpTo(v), loggingKeys(&server)))
			f := sslfilter.NewServerFilter(func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return ctx, nil })
			defer f.Close()
			p := testkit.Join(f, testkit.Filter(t, testkit.Client(loggingKeys(&client))))
			p.Cut = cut
			require.NoError(t, p.Handshake())
			require.NotEmpty(t, client.lines())
			require.Equal(t, client.lines(), server.lines())
		})
	})
}

// The keys of a handshake are written before the call of Receive returns in which the server
// has made them, even if that call has chosen the context.
func TestKeyLogOfAChosenContextAtOnce(t *testing.T) {
	var server secretLog
	ctx := testkit.Ctx(t, testkit.Server(testkit.TLS13, loggingKeys(&server)))
	f := sslfilter.NewServerFilter(func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return ctx, nil })
	defer f.Close()
	client := testkit.Filter(t, testkit.Client(func(o *sslfilter.Options) { o.Groups = "P-256" })) // no HelloRetryRequest
	require.NoError(t, client.Handshake())
	hello := client.Outgoing(nil)
	_, err := f.Receive(nil, hello[:len(hello)-1])
	require.NoError(t, err)
	require.Empty(t, server.lines())
	_, err = f.Receive(nil, hello[len(hello)-1:])
	require.NoError(t, err)
	require.Subset(t, labels(server.lines()), []string{"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "EXPORTER_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"},
		"only CLIENT_TRAFFIC_SECRET_0 may wait for the client's Finished")
}

// An ErrorHandler that closes the Filter loses no line of the call that failed.
func TestKeyLogErrorHandlerCloses(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		testkit.Cuts(t, func(t *testing.T, cut testkit.Cut) {
			var kept, lost secretLog
			for log, handler := range map[*secretLog]sslfilter.ErrorHandler{&kept: nil, &lost: func(f *sslfilter.Filter, _ error) { f.Close() }} {
				p := testkit.NewPair(t, testkit.Requiring(testkit.UpTo(v), loggingKeys(log), func(o *sslfilter.Options) { o.ErrorHandler = handler }), testkit.Client())
				p.Cut = cut
				require.Error(t, p.Handshake())
				client := testkit.NewPair(t, testkit.ServerOf("server-unknown", testkit.UpTo(v)), testkit.Client(loggingKeys(log), func(o *sslfilter.Options) { o.ErrorHandler = handler }))
				client.Cut = cut
				require.Error(t, client.Handshake())
			}
			require.Equal(t, labels(kept.lines()), labels(lost.lines()))
			if v == sslfilter.VersionTLS13 {
				require.Contains(t, labels(lost.lines()), "SERVER_TRAFFIC_SECRET_0", "of the server")
				require.Contains(t, labels(lost.lines()), "SERVER_HANDSHAKE_TRAFFIC_SECRET", "of the client")
			}
		})
	})
}

// OpenKeyLog makes a file for its owner only, appends, and refuses a file to which others
// have access.
func TestKeyLogFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	for range 2 {
		f, err := sslfilter.OpenKeyLog(file)
		require.NoError(t, err)
		_, err = f.Write([]byte("line\n"))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	require.Equal(t, "line\nline\n", string(testkit.Contents(t, file)))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoError(t, os.Chmod(file, 0o640))
	_, err = sslfilter.OpenKeyLog(file)
	require.ErrorContains(t, err, "other users have access to it (mode 0640)")
	_, err = sslfilter.OpenKeyLog("/dev/null")
	require.ErrorContains(t, err, "not a regular file")
	_, err = sslfilter.OpenKeyLog(t.TempDir())
	require.Error(t, err)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(file, link))
	_, err = sslfilter.OpenKeyLog(link)
	require.Error(t, err)
	require.True(t, bytes.HasPrefix(testkit.Contents(t, file), []byte("line")))
}
