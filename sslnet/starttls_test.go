package sslnet_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// startTLS is a server that reads a line and then starts TLS.
func startTLS(t *testing.T, conn net.Conn, leftover sslnet.Leftover) (*sslnet.Conn, error) {
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if line != "STARTTLS\r\n" {
		t.Errorf("unexpected line %q", line)
	}
	c, err := sslnet.ServerBuffered(conn, r, testkit.Ctx(t, testkit.Server()), leftover)
	if err != nil {
		return nil, err
	}
	if leftover == sslnet.RefuseLeftover {
		io.WriteString(conn, "220 go ahead\r\n")
	}
	return c, nil
}

func TestSTARTTLS(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		a, b := join(t)
		defer a.Close()
		defer b.Close()
		go func() {
			s, err := startTLS(t, b, sslnet.RefuseLeftover)
			if err == nil {
				_, err = io.Copy(s, s)
				s.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}()
		testkit.Say(t, a, "STARTTLS\r\n")
		r := bufio.NewReader(a)
		line, err := r.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "220 go ahead\r\n", line)
		c, err := sslnet.ClientBuffered(a, r, testkit.Ctx(t, nameless()), sslnet.RefuseLeftover)
		require.NoError(t, err)
		require.NoError(t, c.SetServerName("localhost"))
		testkit.Say(t, c, "hello")
		testkit.Hear(t, c, "hello")
		require.NoError(t, c.CloseWrite())
		_, err = c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
}

// Plaintext after the command is an error with the number of bytes (CVE-2011-0411).
func TestSTARTTLSInjection(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go io.WriteString(a, "STARTTLS\r\nRCPT TO:<victim@example.org>\r\n")
	_, err := startTLS(t, b, sslnet.RefuseLeftover)
	var left *sslnet.LeftoverError
	require.ErrorAs(t, err, &left)
	require.Equal(t, len("RCPT TO:<victim@example.org>\r\n"), left.N)
	require.ErrorContains(t, err, "30 bytes")

	r := bufio.NewReader(strings.NewReader("220 go ahead\r\n250 forged\r\n"))
	_, err = r.ReadString('\n')
	require.NoError(t, err)
	_, err = sslnet.ClientBuffered(a, r, testkit.Ctx(t, nameless()), sslnet.RefuseLeftover)
	require.ErrorAs(t, err, &left)
	require.Equal(t, len("250 forged\r\n"), left.N)
}

// With KeepLeftover, a ClientHello right after the command is the first input of
// TLS, and an injected command fails because it is not a ClientHello.
func TestSTARTTLSPipelined(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		a, b := join(t)
		defer a.Close()
		defer b.Close()
		c := sslnet.Client(&prefixing{Conn: a, prefix: "STARTTLS\r\n"}, testkit.Ctx(t, nameless()))
		require.NoError(t, c.SetServerName("localhost"))
		go func() {
			s, err := startTLS(t, b, sslnet.KeepLeftover)
			if err == nil {
				_, err = io.Copy(s, s)
				s.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}()
		testkit.Say(t, c, "hello")
		testkit.Hear(t, c, "hello")
		require.NoError(t, c.CloseWrite())
		_, err := c.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	})
	t.Run("injected command", func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		go io.WriteString(a, "STARTTLS\r\nRCPT TO:<victim@example.org>\r\n")
		s, err := startTLS(t, b, sslnet.KeepLeftover)
		require.NoError(t, err)
		go io.Copy(io.Discard, a)
		_, err = s.Read(make([]byte, 1))
		require.ErrorAs(t, err, new(*sslfilter.Error))
	})
}

// prefixing writes prefix together with the data of the first Write.
type prefixing struct {
	net.Conn
	prefix string
}

func (c *prefixing) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(append([]byte(c.prefix), b...))
	n = max(0, n-len(c.prefix))
	c.prefix = ""
	return n, err
}

// Detach with data in flight: both ends read what was sent over TLS before it, and
// what was sent in plain text after it.
func TestDetach(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
			c, s := connect(t, join, testkit.Server(), nameless(testkit.UpTo(highest)))
			testkit.Within(t, "Detach", func() {
				done := make(chan error)
				go func() {
					err := func() error {
						if _, err := io.CopyN(io.Discard, s, 10); err != nil {
							return err
						}
						if _, err := io.WriteString(s, "over TLS"); err != nil {
							return err
						}
						if _, err := s.Read(make([]byte, 1)); err != io.EOF { // c detaches
							return err
						}
						plain, err := s.Detach()
						if err != nil {
							return err
						}
						if _, err := io.WriteString(plain, "in plain text\n"); err != nil {
							return err
						}
						_, err = io.Copy(plain, io.LimitReader(plain, 4))
						return err
					}()
					done <- err
				}()
				testkit.Say(t, c, "last words")
				first := make([]byte, 4)
				_, err := io.ReadFull(c, first)
				require.NoError(t, err)
				_, err = c.Detach()
				require.ErrorContains(t, err, "4 bytes of plaintext")
				rest, err := io.ReadAll(c)
				require.NoError(t, err)
				require.Equal(t, "over TLS", string(first)+string(rest))
				plain, err := c.Detach()
				require.NoError(t, err)
				testkit.Hear(t, plain, "in plain text\n")
				testkit.Say(t, plain, "echo")
				testkit.Hear(t, plain, "echo")
				require.NoError(t, <-done)

				require.NoError(t, c.Close()) // does nothing
				_, err = c.Write([]byte("x"))
				require.ErrorIs(t, err, net.ErrClosed)
				_, err = c.Detach()
				require.ErrorIs(t, err, net.ErrClosed)
				require.ErrorIs(t, c.SetDeadline(soon()), net.ErrClosed)
				require.NoError(t, plain.Close())
			})
		})
	})
}

// Bytes that arrived after the peer's close_notify are read first, even by several
// readers, and the deadlines are unchanged.
func TestDetachKeepsWhatArrived(t *testing.T) {
	c, s := connect(t, joinTCP, testkit.Server(), nameless())
	go func() {
		io.ReadAll(s)
		plain, err := s.Detach()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(plain, "after")
	}()
	require.NoError(t, c.CloseWrite())
	waitReadable(t, c.NetConn()) // close_notify, and perhaps what follows it
	plain, err := c.Detach()
	require.NoError(t, err)
	testkit.Hear(t, plain, "after")
	require.NoError(t, plain.SetReadDeadline(soon()))
	_, err = plain.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, plain.(interface{ CloseWrite() error }).CloseWrite())
	_, err = s.NetConn().Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
}

// Detach waits for a peer that does not answer close_notify only until the
// deadline.
func TestDetachAgainAfterADeadline(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		c, s := connect(t, join, testkit.Server(), nameless())
		go io.Copy(io.Discard, s)
		require.NoError(t, c.SetDeadline(soon()))
		_, err := c.Detach()
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, c.SetDeadline(never))
		other := make(chan error, 1)
		go func() {
			_, err := s.Detach()
			other <- err
		}()
		_, err = c.Detach()
		require.NoError(t, err)
		require.NoError(t, <-other)
	})
}
