package wheel_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/filter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/wheel"
)

// hang bounds the time that a test waits for an event that must come.
const hang = 30 * time.Second

func tlsServer(t testing.TB) *sslfilter.Filter {
	t.Helper()
	return testkit.Filter(t, testkit.ServerOf("server-ec"))
}

func tlsClient(t testing.TB) *sslfilter.Filter {
	t.Helper()
	return testkit.Filter(t, testkit.Client())
}

func stackOf(t testing.TB, codec filter.Codec, filters ...filter.Filter) *filter.Stack {
	t.Helper()
	s := filter.NewStack(codec)
	for _, f := range filters {
		require.NoError(t, s.Push(f))
	}
	return s
}

// log has the events of a wheel, as text, in order.
type log struct {
	*wheel.ReadWrite
	events chan string
	busy   sync.Mutex // held while a handler runs
}

// start makes a wheel that logs its events. At the end of the test the wheel is
// closed, and its goroutines have ended.
func start(t testing.TB, conn io.ReadWriteCloser, s *filter.Stack, input func(w *log, rec any)) *log {
	t.Helper()
	return startMarks(t, conn, s, input, 0, 0)
}

func startMarks(t testing.TB, conn io.ReadWriteCloser, s *filter.Stack, input func(w *log, rec any), high, low int) *log {
	t.Helper()
	l := &log{events: make(chan string, 10000)}
	said := func(what string) {
		if !l.busy.TryLock() {
			what = "at the same time as another: " + what
		} else {
			defer l.busy.Unlock()
		}
		l.events <- what
	}
	ready := make(chan struct{})
	w, err := wheel.New(conn, s, wheel.Events{
		Input: func(w *wheel.ReadWrite, rec any) {
			<-ready
			if b, ok := rec.([]byte); ok {
				rec = string(b)
			}
			said(fmt.Sprintf("input %v", rec))
			if input != nil {
				input(l, rec)
			}
		},
		Error:    func(w *wheel.ReadWrite, op string, err error) { said(op + ": " + err.Error()) },
		Flushed:  func(w *wheel.ReadWrite) { said("flushed") },
		High:     func(w *wheel.ReadWrite) { said("high") },
		Low:      func(w *wheel.ReadWrite) { said("low") },
		HighMark: high, LowMark: low,
	})
	require.NoError(t, err)
	l.ReadWrite = w
	close(ready)
	t.Cleanup(func() {
		w.Close()
		w.Wait()
	})
	return l
}

// want compares the events since the last call, after everything has come to rest.
// The position of "flushed" among the input events depends on timing, and so does
// whether two Puts are flushed together. Therefore "flushed" in events stands for
// one or more, at any position.
func (l *log) want(t testing.TB, events ...string) {
	t.Helper()
	isFlushed := func(event string) bool { return event == "flushed" }
	var got []string
	for len(l.events) > 0 {
		got = append(got, <-l.events)
	}
	require.Equal(t, slices.ContainsFunc(events, isFlushed), slices.ContainsFunc(got, isFlushed), "flushed: %v", got)
	require.Equal(t, slices.DeleteFunc(events, isFlushed), slices.DeleteFunc(got, isFlushed))
}

// wantNext waits for events, and ignores "flushed".
func (l *log) wantNext(t testing.TB, events ...string) {
	t.Helper()
	for _, want := range events {
		got := l.next(t)
		for got == "flushed" {
			got = l.next(t)
		}
		require.Equal(t, want, got)
	}
}

func (l *log) next(t testing.TB) string {
	t.Helper()
	select {
	case got := <-l.events:
		return got
	case <-time.After(hang):
		require.FailNow(t, "no event")
		return ""
	}
}

// none fails if an event has come. Call it after everything has come to rest.
func (l *log) none(t testing.TB) {
	t.Helper()
	select {
	case got := <-l.events:
		require.FailNow(t, "unexpected event: "+got)
	default:
	}
}

func TestLines(t *testing.T) {
	a, b := net.Pipe()
	server := start(t, a, nil, func(w *log, rec any) { require.NoError(t, w.Put("you said "+rec.(string))) })
	client := start(t, b, nil, nil)
	require.NoError(t, client.Put("one", "two"))
	server.wantNext(t, "input one", "input two")
	client.wantNext(t, "input you said one", "input you said two")
	require.NoError(t, client.Close())
	server.wantNext(t, "read: EOF")
}

// Output that is put before the handshake is flushed after it, and reported once.
func TestEarlyPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		client := start(t, b, stackOf(t, &filter.Line{}, tlsClient(t)), nil)
		require.NoError(t, client.Put("early", "data"))
		synctest.Wait() // the wheel does not spin while nobody answers
		client.none(t)
		require.Equal(t, len("early\r\ndata\r\n")+client.writing(t), client.OutOctets())

		server := start(t, a, stackOf(t, &filter.Line{}, tlsServer(t)), nil)
		require.NoError(t, server.Put("banner"))
		synctest.Wait()
		server.want(t, "input early", "input data", "flushed")
		server.none(t)
		client.want(t, "input banner", "flushed")
		require.Zero(t, client.OutOctets())
	})
}

// writing returns the length of the ClientHello, which nobody has read.
func (l *log) writing(t testing.TB) int {
	t.Helper()
	f := stackOf(t, nil, tlsClient(t))
	defer f.Close()
	return len(f.Outgoing(nil))
}

// Put and ShutdownOutput: everything is sent. The original closes without sending
// anything.
func TestPutAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := start(t, a, stackOf(t, &filter.Line{}, tlsServer(t)), nil)
		client := start(t, b, stackOf(t, &filter.Line{}, tlsClient(t)), nil)
		require.NoError(t, server.Put("goodbye"))
		require.NoError(t, server.ShutdownOutput())
		require.Error(t, server.Put("more"))
		synctest.Wait()
		server.want(t, "flushed")
		server.none(t)
		client.want(t, "input goodbye", "read: EOF")
		client.none(t)

		require.NoError(t, client.Put("the way back is open"))
		synctest.Wait()
		server.want(t, "input the way back is open")
		client.want(t, "flushed")
		require.NoError(t, client.ShutdownOutput())
		synctest.Wait()
		server.want(t, "read: EOF")
		client.want(t, "flushed")
	})
}

func TestShutdownReachesTheConnection(t *testing.T) {
	a, b := testkit.SocketPair(t)
	server, client := start(t, a, nil, nil), start(t, b, nil, nil)
	require.NoError(t, client.Put("last"))
	require.NoError(t, client.ShutdownOutput())
	server.wantNext(t, "input last", "read: EOF")
	require.NoError(t, server.Put("answer"))
	client.wantNext(t, "input answer")
	require.NoError(t, client.ShutdownInput())
	require.NoError(t, client.ShutdownOutput())
}

// A connection that ends without close_notify.
func TestCutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := start(t, a, stackOf(t, &filter.Line{}, tlsServer(t)), nil)
		client := start(t, b, stackOf(t, &filter.Line{}, tlsClient(t)), nil)
		require.NoError(t, client.Put("x"))
		synctest.Wait()
		server.want(t, "input x")
		client.want(t, "flushed")
		require.NoError(t, client.Close())
		synctest.Wait()
		server.want(t, "read: sslfilter: the peer ended the connection without close_notify: unexpected EOF")
		server.none(t)
		client.none(t)
		require.Equal(t, wheel.ErrClosed, errors.Unwrap(client.Put("y")))
		require.NoError(t, client.Close())
	})
}

// Error is called once, and Do in the handler does not cause another call.
func TestErrorIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := start(t, a, stackOf(t, &filter.Line{}, tlsServer(t)), nil)
		client := start(t, b, nil, nil)
		require.NoError(t, client.Put("this is not TLS"))
		synctest.Wait()
		require.Contains(t, server.next(t), "read: sslfilter: SSL_do_handshake")
		require.Error(t, server.Put("x"))
		var cipher string
		require.NoError(t, server.Do(func(s *filter.Stack) error {
			cipher = s.Filters()[0].(*sslfilter.Filter).Cipher()
			return nil
		}))
		require.Equal(t, "(NONE)", cipher)
		synctest.Wait()
		server.none(t)
	})
}

func TestSTARTTLSAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := start(t, a, nil, func(w *log, rec any) {
			if rec == "STARTTLS" {
				require.NoError(t, w.Put("go ahead"))
				require.NoError(t, w.Push(tlsServer(t)))
			}
		})
		tls := tlsClient(t)
		client := start(t, b, nil, func(w *log, rec any) {
			if rec == "go ahead" {
				require.NoError(t, w.Push(tls))
				require.NoError(t, w.Put("secret"))
			}
		})
		require.NoError(t, client.Put("STARTTLS"))
		synctest.Wait()
		server.want(t, "input STARTTLS", "flushed", "input secret")
		client.want(t, "flushed", "input go ahead", "flushed")

		// and back to plain text: the client ends TLS, but not its output
		require.NoError(t, client.Do(func(*filter.Stack) error { return tls.CloseWrite() }))
		synctest.Wait()
		server.want(t, "read: EOF")
		_, err := server.Pop()
		require.NoError(t, err)
		require.NoError(t, server.Put("in plain text"))
		synctest.Wait()
		client.want(t, "read: EOF")
		_, err = client.Pop()
		require.NoError(t, err)
		synctest.Wait()
		server.want(t, "flushed") // only after the client reads on, unless it was sent together with close_notify
		client.want(t, "input in plain text")
		client.none(t)
		server.none(t)
	})
}

func TestInjectionAfterSTARTTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		var pushed error
		server := start(t, a, nil, func(w *log, rec any) {
			if rec == "STARTTLS" {
				pushed = w.Push(tlsServer(t))
				w.Close()
			}
		})
		client := start(t, b, stackOf(t, nil), nil)
		require.NoError(t, client.Put("STARTTLS\r\nRSET\r\n"))
		synctest.Wait()
		server.want(t, "input STARTTLS")
		server.none(t)
		var left *filter.LeftoverError
		require.ErrorAs(t, pushed, &left)
		require.Equal(t, 6, left.N)
	})
}

func TestSetFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := start(t, a, nil, func(w *log, rec any) {
			switch rec {
			case "stream":
				require.NoError(t, w.SetInputFilter(filter.Stream{}))
			case "x\r\n":
				require.NoError(t, w.SetOutputFilter(&filter.Line{Newline: "\n"}))
				require.NoError(t, w.Put("out"))
				require.NoError(t, w.SetFilter(filter.Stream{}))
				require.NoError(t, w.Put("raw"))
			}
		})
		var got strings.Builder
		client := start(t, b, stackOf(t, nil), func(_ *log, rec any) { got.WriteString(rec.(string)) })
		require.NoError(t, client.Put("line\r\nstream\r\nx\r\n"))
		synctest.Wait()
		server.want(t, "input line", "input stream", "input x\r\n", "flushed")
		require.Equal(t, "out\nraw", got.String(), "in one piece or in two")
	})
}

// After the end of input, a new codec can still read an incomplete line.
func TestSetFilterAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		server := start(t, a, nil, nil)
		client := start(t, b, stackOf(t, nil), nil)
		require.NoError(t, client.Put("half a line"))
		synctest.Wait()
		require.NoError(t, client.Close())
		synctest.Wait()
		server.want(t, "read: filter: 11 bytes of an incomplete record at the end: unexpected EOF")
		require.NoError(t, server.SetFilter(filter.Stream{}))
		synctest.Wait()
		server.want(t, "input half a line", "read: EOF")
		require.NoError(t, server.SetFilter(filter.Stream{}))
		synctest.Wait()
		server.none(t)
	})
}

func TestWaterMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		w := startMarks(t, a, stackOf(t, nil), nil, 1000, 100)
		block := make([]byte, 400)
		require.NoError(t, w.Put(block, block))
		synctest.Wait()
		w.none(t)
		require.False(t, w.AboveHighMark())
		require.NoError(t, w.Put(block, block))
		synctest.Wait()
		w.want(t, "high")
		w.none(t)
		require.True(t, w.AboveHighMark())
		require.Equal(t, 1600, w.OutOctets())

		_, err := io.ReadFull(b, make([]byte, 1600))
		require.NoError(t, err)
		synctest.Wait()
		w.want(t, "low", "flushed")
		require.False(t, w.AboveHighMark())
		require.Zero(t, w.OutOctets())
	})
}

// If the peer does not read, the wheel keeps a bounded amount of output, and Put
// fails when the bound is reached.
func TestSlowPeer(t *testing.T) {
	for name, filters := range map[string]func(t *testing.T) []filter.Filter{
		"plain":          func(*testing.T) []filter.Filter { return nil },
		"in a handshake": func(t *testing.T) []filter.Filter { return []filter.Filter{tlsClient(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := net.Pipe()
				w := start(t, a, stackOf(t, nil, filters(t)...), nil)
				block := make([]byte, 1<<20)
				var err error
				for accepted := 0; err == nil; accepted += len(block) {
					require.LessOrEqual(t, accepted, wheel.MaxOutput+len(block), "no bound")
					err = w.Put(block)
				}
				require.True(t, errors.Is(err, wheel.ErrBufferFull) || errors.Is(err, filter.ErrBufferFull), "%v", err)
				synctest.Wait()
				w.none(t)
			})
		})
	}
}

// PauseInput, ResumeInput and ShutdownInput while the peer sends.
func TestPausedInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		w := start(t, a, nil, func(w *log, rec any) {
			if rec == "pause" {
				w.PauseInput()
			}
		})
		go fmt.Fprint(b, "pause\r\none\r\n")
		synctest.Wait()
		w.want(t, "input pause")
		w.none(t)
		w.ResumeInput()
		synctest.Wait()
		w.want(t, "input one")
		w.PauseInput()
		synctest.Wait()
		go fmt.Fprint(b, "two\r\n")
		synctest.Wait() // the wheel may have begun a Read before the pause
		w.none(t)
		w.ResumeInput()
		synctest.Wait()
		w.want(t, "input two")
		require.NoError(t, w.ShutdownInput())
		synctest.Wait()
		go fmt.Fprint(b, "three\r\n")
		synctest.Wait()
		w.none(t)
		require.NoError(t, w.Put("still writing"))
		buf := make([]byte, 100)
		n, err := b.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "still writing\r\n", string(buf[:n]))
		b.Close()
		synctest.Wait()
	})
}

// If the codec waits for an answer while the peer keeps sending, the wheel keeps its
// input and stops reading, and nothing is lost.
func TestCodecThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		count := 0
		var w *wheel.ReadWrite
		requests := make(chan *http.Request, 1)
		w, err := wheel.New(a, stackOf(t, &filter.HTTPD{}), wheel.Events{
			Input: func(_ *wheel.ReadWrite, rec any) {
				if count++; count == 1 {
					requests <- rec.(*http.Request)
				}
			},
			Error: func(w *wheel.ReadWrite, _ string, err error) { require.Equal(t, io.EOF, err) },
		})
		require.NoError(t, err)
		sent := make(chan error, 1)
		go func() {
			_, err := io.WriteString(b, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n"+
				strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", filter.MaxUnread/20))
			sent <- err
		}()
		synctest.Wait()
		require.Len(t, requests, 1)
		require.Empty(t, sent, "the peer has to wait")
		require.NoError(t, w.SetOutputFilter(filter.Stream{}))
		require.NoError(t, w.Close())
		w.Wait()
		require.Error(t, <-sent)
	})
}

func TestWriteError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		w := start(t, a, nil, nil)
		require.NoError(t, w.Put("x"))
		synctest.Wait()
		b.Close()
		synctest.Wait()
		got := []string{w.next(t), w.next(t)}
		require.ElementsMatch(t, []string{"read: EOF", "write: io: read/write on closed pipe"}, got)
		require.Error(t, w.Put("y"))
		require.Error(t, w.ShutdownOutput())
		w.none(t)
	})
}

// Several goroutines call Put until the wheel is closed: nothing is lost, handlers
// do not run at the same time, and all goroutines end.
func TestPutFromManyGoroutines(t *testing.T) {
	a, b := testkit.SocketPair(t)
	const writers, lines = 4, 200
	server := start(t, a, stackOf(t, &filter.Line{}, tlsServer(t)), func(w *log, rec any) { require.NoError(t, w.Put(rec)) })
	client := start(t, b, stackOf(t, &filter.Line{}, tlsClient(t)), nil)
	for i := range writers {
		go func() {
			for j := range lines {
				client.Put(fmt.Sprintf("%d %d", i, j))
				client.OutOctets()
			}
		}()
	}
	var next [writers]int
	for got := 0; got < writers*lines; {
		event := client.next(t)
		if event == "flushed" {
			continue
		}
		var i, j int
		_, err := fmt.Sscanf(event, "input %d %d", &i, &j)
		require.NoError(t, err, event)
		require.Equal(t, next[i], j)
		next[i]++
		got++
	}
	for len(server.events) > 0 {
		require.NotContains(t, <-server.events, "at the same time")
	}
}

func TestCloseFromAHandler(t *testing.T) {
	a, b := testkit.SocketPair(t)
	server := start(t, a, nil, func(w *log, rec any) { require.NoError(t, w.Close()) })
	client := start(t, b, nil, nil)
	require.NoError(t, client.Put("one", "two", "three"))
	server.Wait()
	server.wantNext(t, "input one")
	server.none(t)
}

func TestClosedWheel(t *testing.T) {
	a, _ := net.Pipe()
	w := start(t, a, nil, nil)
	require.NoError(t, w.Close())
	w.Wait()
	require.ErrorIs(t, w.Put("x"), wheel.ErrClosed)
	require.Equal(t, wheel.ErrClosed, w.Push(tlsServer(t)))
	require.Equal(t, wheel.ErrClosed, w.SetFilter(filter.Stream{}))
	require.Equal(t, wheel.ErrClosed, w.ShutdownOutput())
	_, err := w.Pop()
	require.Equal(t, wheel.ErrClosed, err)
	require.Zero(t, w.OutOctets())
	w.none(t)
}

func TestNewRefuses(t *testing.T) {
	a, _ := net.Pipe()
	input := func(*wheel.ReadWrite, any) {}
	failed := func(*wheel.ReadWrite, string, error) {}
	for name, events := range map[string]wheel.Events{
		"no Input":       {Error: failed},
		"no Error":       {Input: input},
		"marks reversed": {Input: input, Error: failed, HighMark: 1, LowMark: 2},
		"marks equal":    {Input: input, Error: failed, HighMark: 1, LowMark: 1},
		"negative mark":  {Input: input, Error: failed, HighMark: -1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := wheel.New(a, nil, events)
			require.Error(t, err)
		})
	}
}
