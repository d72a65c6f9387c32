package sslnet_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// WriteTo writes what Read would return, in order, including what an earlier Read
// has left.
func TestWriteTo(t *testing.T) {
	networks(t, func(t *testing.T, join joiner) {
		c, s := connect(t, join, testkit.Server(), nameless())
		data := testkit.Bytes(300_000, 1)
		testkit.Within(t, "WriteTo", func() {
			go func() {
				c.Write(data)
				c.CloseWrite()
			}()
			head := make([]byte, 10)
			_, err := io.ReadFull(s, head)
			require.NoError(t, err)
			var got bytes.Buffer
			n, err := io.Copy(&got, s)
			require.NoError(t, err)
			require.EqualValues(t, len(data)-len(head), n)
			require.True(t, bytes.Equal(data, append(head, got.Bytes()...)))
			n, err = s.WriteTo(io.Discard) // a second call returns the end again
			require.NoError(t, err)
			require.Zero(t, n)
		})
	})
}

// A timeout ends WriteTo but not the connection. An error of the writer ends it too.
func TestWriteToEnds(t *testing.T) {
	c, s := connect(t, joinTCP, testkit.Server(), nameless())
	testkit.Within(t, "WriteTo", func() {
		s.SetReadDeadline(time.Unix(1, 0))
		_, err := s.WriteTo(io.Discard)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		s.SetReadDeadline(time.Time{})
		_, err = c.Write([]byte("hello"))
		require.NoError(t, err)
		full := errors.New("full")
		n, err := s.WriteTo(writerFunc(func(b []byte) (int, error) { return len(b), full }))
		require.ErrorIs(t, err, full)
		require.EqualValues(t, 5, n)
		require.NoError(t, c.NetConn().Close())
		_, err = s.WriteTo(io.Discard)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
