package sslnet_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Each direction ends on its own.
func TestHalfClose(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			c, s := connect(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
			testkit.Within(t, "half close", func() {
				go func() {
					io.WriteString(c, "question")
					c.CloseWrite()
				}()
				question, err := io.ReadAll(s)
				require.NoError(t, err)
				require.Equal(t, "question", string(question))
				_, err = c.Write([]byte("more"))
				require.ErrorAs(t, err, new(*sslfilter.UsageError))
				go func() {
					io.WriteString(s, "answer")
					s.Close()
				}()
				answer, err := io.ReadAll(c)
				require.NoError(t, err)
				require.Equal(t, "answer", string(answer))
			})
		})
	})
}

func TestReset(t *testing.T) {
	c, s := connect(t, joinTCP, testkit.Server(), nameless())
	require.NoError(t, c.NetConn().(*net.TCPConn).SetLinger(0))
	require.NoError(t, c.NetConn().Close())
	for range 2 { // the result is permanent
		_, err := s.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		var op *net.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, "read", op.Op)
	}
	_, err := s.Write([]byte("x"))
	require.Error(t, err)
	again := err
	_, err = s.Write([]byte("x"))
	require.Equal(t, again, err)
}

// Close ends Read and Write, even if the peer does not read.
func TestCloseEndsEverything(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		for name, use := range map[string]func(c *sslnet.Conn) error{
			"nothing": func(*sslnet.Conn) error { return net.ErrClosed },
			"Read": func(c *sslnet.Conn) error {
				_, err := c.Read(make([]byte, 1))
				return err
			},
			"Write": func(c *sslnet.Conn) error {
				for {
					if _, err := c.Write(make([]byte, 100000)); err != nil {
						return err
					}
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c, _ := connect(t, join, testkit.Server(), nameless())
				errs := make(chan error)
				for range 3 {
					go func() { errs <- use(c) }()
				}
				testkit.Within(t, "Close", func() { c.Close() })
				for range 3 {
					require.ErrorIs(t, <-errs, net.ErrClosed)
				}
			})
		}
		t.Run("handshake", func(t *testing.T) {
			c, _ := pair(t, join, testkit.Server(), nameless())
			errs := make(chan error)
			go func() { errs <- c.Handshake() }()
			testkit.Within(t, "Close", func() { c.Close() })
			require.ErrorIs(t, <-errs, net.ErrClosed)
		})
	})
}

// Close ends a Write that is stuck and does not wait for it: only a peer that reads
// could let it finish, and this peer does not.
func TestCloseEndsAWriteInProgress(t *testing.T) {
	begun := make(chan struct{}, 100)
	c, _ := connect(t, func(t testing.TB) (a, b net.Conn) {
		a, b = net.Pipe()
		return beginning{a, begun}, b
	}, testkit.Server(), nameless())
	for len(begun) > 0 {
		<-begun
	}
	wrote := make(chan error)
	go func() {
		_, err := c.Write([]byte("x"))
		wrote <- err
	}()
	<-begun
	testkit.Within(t, "Close", func() { c.Close() })
	require.ErrorIs(t, <-wrote, net.ErrClosed)
	require.Empty(t, begun, "nothing more was sent")
}

// If a Write has sent all of its data and is about to return, Close still sends
// close_notify. If a Write has sent only a part of its data, Close sends no
// close_notify, so that the peer does not take the part for the whole.
//
// A second Write that waits for the first does not change that.
func TestCloseAfterAWrite(t *testing.T) {
	for name, test := range map[string]struct {
		size   int
		second bool
		want   error
	}{
		"all sent":                  {1, false, io.EOF},
		"cut":                       {1 << 20, false, io.ErrUnexpectedEOF},
		"all sent, another waiting": {1, true, io.EOF},
		"cut, another waiting":      {1 << 20, true, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			size, want := test.size, test.want
			below := &holding{sent: make(chan struct{}), closing: make(chan struct{}, 1), goOn: make(chan struct{})}
			c, s := connect(t, func(t testing.TB) (a, b net.Conn) {
				below.Conn, b = joinTCP(t)
				return below, b
			}, testkit.Server(), nameless())
			below.next.Store(true)
			wrote := make(chan error)
			go func() {
				_, err := c.Write(make([]byte, size))
				wrote <- err
			}()
			<-below.sent
			second := make(chan error, 1)
			second <- net.ErrClosed
			if test.second {
				<-second
				go func() {
					_, err := c.Write([]byte("x"))
					second <- err
				}()
				time.Sleep(20 * time.Millisecond) // the second Write waits now
			}
			closed := make(chan error)
			go func() { closed <- c.Close() }()
			<-below.closing
			time.Sleep(20 * time.Millisecond) // a Close that does not wait would end now
			close(below.goOn)
			got, err := io.Copy(io.Discard, s)
			require.NotZero(t, got)
			if want == io.EOF {
				require.NoError(t, <-wrote)
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, <-wrote, net.ErrClosed)
				require.ErrorIs(t, err, want)
				require.Less(t, got, int64(size))
			}
			require.NoError(t, <-closed)
			require.ErrorIs(t, <-second, net.ErrClosed)
		})
	}
}

// holding keeps the next Write from returning until goOn is closed.
type holding struct {
	net.Conn
	next, holds         atomic.Bool
	sent, closing, goOn chan struct{}
}

func (h *holding) Write(b []byte) (int, error) {
	n, err := h.Conn.Write(b)
	if h.next.Swap(false) {
		h.holds.Store(true)
		h.sent <- struct{}{}
		<-h.goOn
	}
	return n, err
}

// SetWriteDeadline signals that Close has begun: Close sets the deadlines before it
// does anything else.
func (h *holding) SetWriteDeadline(t time.Time) error {
	if h.holds.Load() {
		select {
		case h.closing <- struct{}{}:
		default:
		}
	}
	return h.Conn.SetWriteDeadline(t)
}

// An underlying connection may close the Conn over it, from its Write or its Close.
func TestCloseFromBelow(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(c *sslnet.Conn) error
		want error
	}{
		"Write": {func(c *sslnet.Conn) error { _, err := c.Write([]byte("x")); return err }, net.ErrClosed},
		"Close": {(*sslnet.Conn).Close, nil},
	} {
		t.Run(name, func(t *testing.T) {
			below := &hooked{}
			conn, s := connect(t, func(t testing.TB) (a, b net.Conn) {
				below.Conn, b = joinTCP(t)
				return below, b
			}, testkit.Server(), nameless())
			below.above.Store(conn)
			testkit.Within(t, name, func() { require.ErrorIs(t, c.end(conn), c.want) })
			_, err := s.Read(make([]byte, 1))
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			require.ErrorIs(t, conn.Close(), net.ErrClosed)
		})
	}
}

// hooked closes the Conn over it when it is written to, which fails, and when it is
// closed.
type hooked struct {
	net.Conn
	above atomic.Pointer[sslnet.Conn]
}

func (h *hooked) Write(b []byte) (int, error) {
	if c := h.above.Load(); c != nil {
		return 0, errors.Join(errors.New("broken"), c.Close())
	}
	return h.Conn.Write(b)
}

func (h *hooked) Close() error {
	if c := h.above.Load(); c != nil {
		c.Close()
	}
	return h.Conn.Close()
}

// The process may exit after a second Close has returned: close_notify has been
// sent by then.
func TestSecondCloseWaitsForTheFirst(t *testing.T) {
	begun := make(chan struct{}, 100)
	c, s := connect(t, func(t testing.TB) (a, b net.Conn) {
		a, b = net.Pipe()
		return beginning{a, begun}, b
	}, testkit.Server(), nameless())
	for len(begun) > 0 {
		<-begun
	}
	go c.Close()
	<-begun // close_notify, which nobody reads yet
	second := make(chan error, 1)
	go func() {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			second <- fmt.Errorf("the second Close: %w", err)
		}
		second <- nil
	}()
	select {
	case err := <-second:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	_, err := s.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.NoError(t, <-second)
}

// beginning signals when a Write begins.
type beginning struct {
	net.Conn
	begun chan struct{}
}

func (c beginning) Write(b []byte) (int, error) {
	c.begun <- struct{}{}
	return c.Conn.Write(b)
}

// Goroutines call all methods at the same time, for the race detector. No call
// hangs.
func TestConcurrentUse(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			c, s := pair(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
			var users sync.WaitGroup
			for _, conn := range []*sslnet.Conn{c, s} {
				for range 3 {
					users.Go(func() { io.Copy(io.Discard, conn) })
					users.Go(func() {
						for {
							if _, err := conn.Write(make([]byte, 20000)); err != nil {
								return
							}
						}
					})
					users.Go(func() {
						for range 20 {
							conn.SetDeadline(soon())
							conn.ConnectionState()
							conn.ClientCertValid()
							conn.KeyUpdate(true)
							conn.SetDeadline(never)
							conn.Peer()
							conn.Handshake()
						}
						conn.Close()
					})
				}
			}
			testkit.Within(t, "concurrent use", users.Wait)
		})
	})
}

// A client that only writes and closes has not read the session tickets of the
// server. The data that it wrote arrives nevertheless.
func TestUnreadTicketsDestroyNothing(t *testing.T) {
	config := testkit.GoServer(t)
	data := testkit.Bytes(1<<20, 1)
	for name, server := range map[string]func(net.Conn) net.Conn{
		"sslnet":     func(b net.Conn) net.Conn { return sslnet.Server(b, testkit.Ctx(t, testkit.Server())) },
		"crypto/tls": func(b net.Conn) net.Conn { return tls.Server(b, config) },
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				a, b := joinTCP(t)
				c, s := sslnet.Client(a, testkit.Ctx(t, nameless())), server(b)
				require.NoError(t, c.SetServerName("localhost"))
				errs := make(chan error, 1)
				go func() {
					_, err := c.Write(data)
					errs <- errors.Join(err, c.Close())
				}()
				got, err := io.ReadAll(s)
				require.NoError(t, err)
				require.Equal(t, len(data), len(got))
				require.NoError(t, <-errs)
				s.Close()
			}
		})
	}
}

// If there is unread input from the peer, TCP resets the connection when it is
// closed. That must not destroy what was sent to the peer before, even if the peer
// reads it only after the Close.
func TestUnreadInputDestroysNothing(t *testing.T) {
	c, s := connect(t, joinTCP, testkit.Server(), nameless())
	data := testkit.Bytes(200_000, 1)
	testkit.Within(t, "Close with unread input", func() {
		_, err := c.Write(testkit.Bytes(50_000, 1)) // the server does not read it
		require.NoError(t, err)
		_, err = s.Write(data)
		require.NoError(t, err)
		require.NoError(t, s.Close())
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Equal(t, len(data), len(got))
	})
}

// tapped reports everything that is written to it.
type tapped struct {
	net.Conn
	wrote chan int
}

func (c *tapped) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wrote <- n
	return n, err
}

// An answer that a Read makes TLS produce is sent even if nobody calls Write or Read
// again.
func TestReadAnswersByItself(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	tap := &tapped{a, make(chan int, 100)}
	c, s := sslnet.Client(tap, testkit.Ctx(t, nameless())), sslnet.Server(b, testkit.Ctx(t, testkit.Server()))
	require.NoError(t, c.SetServerName("localhost"))
	shake(t, c, s)
	for len(tap.wrote) > 0 {
		<-tap.wrote
	}
	go func() {
		s.KeyUpdate(true)
		io.WriteString(s, "x")
	}()
	testkit.Hear(t, c, "x")
	go s.Read(make([]byte, 1)) // takes the answer from the pipe
	testkit.Within(t, "the answer", func() { require.Positive(t, <-tap.wrote) })
}

// A Read that receives a broken record sends the peer an alert.
func TestReadSendsTheAlert(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			c, s := connect(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
			go c.NetConn().Write(append([]byte{23, 3, 3, 0, 40}, make([]byte, 40)...))
			_, err := s.Read(make([]byte, 1))
			require.ErrorAs(t, err, new(*sslfilter.Error))
			_, err = c.Read(make([]byte, 1))
			var alert sslfilter.AlertError
			require.ErrorAs(t, err, &alert)
			require.Equal(t, sslfilter.AlertError(20), alert) // bad_record_mac
			_, again := c.Read(make([]byte, 1))
			require.Equal(t, err, again)
		})
	})
}
