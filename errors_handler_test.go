package sslfilter_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// report is one call of an ErrorHandler.
type report struct {
	filter *sslfilter.Filter
	err    error
}

// reporting adds a handler to o that keeps its calls in list.
func reporting(o sslfilter.Options, list *[]report) sslfilter.Options {
	o.ErrorHandler = func(f *sslfilter.Filter, err error) { *list = append(*list, report{f, err}) }
	return o
}

// ErrorHandler is called once for each side of every common failure, during the handshake
// and after it, with the error that Err returns.
func TestErrorsHandlerIsCalledOnce(t *testing.T) {
	for _, f := range failures() {
		if f.name == "key updates that nobody answers" {
			continue // slow, and adds nothing here
		}
		t.Run(f.name, func(t *testing.T) {
			var server, client []report
			p := testkit.NewPair(t, reporting(f.server, &server), reporting(f.client, &client))
			f.play(t, p)
			for _, c := range []struct {
				side *testkit.Side
				got  []report
			}{{&p.Server, server}, {&p.Client, client}} {
				if c.side.Filter.Err() == nil {
					require.Empty(t, c.got)
					continue
				}
				c.side.Receive(nil, []byte("more"))
				c.side.Send([]byte("more"))
				c.side.ReceiveEOF()
				require.Len(t, c.got, 1)
				require.Same(t, c.side.Filter, c.got[0].filter)
				require.Equal(t, c.side.Filter.Err(), c.got[0].err)
			}
			handled := len(server) + len(client)
			p.Server.ReceiveEOF()
			p.Client.ReceiveEOF()
			p.Close()
			require.Equal(t, 2, len(server)+len(client), "the other side is truncated now; %d calls before", handled)
		})
	}
}

// ErrorHandler is not called for an orderly end, a usage error or a full buffer.
func TestErrorsHandlerIsNotCalled(t *testing.T) {
	var list []report
	p := testkit.NewPair(t, reporting(testkit.Server(), &list), reporting(testkit.Client(), &list))
	require.ErrorIs(t, p.Server.Send(make([]byte, sslfilter.MaxPlaintext+1)), sslfilter.ErrBufferFull)
	require.NoError(t, p.Handshake())
	testkit.As[*sslfilter.UsageError](t, p.Client.SetServerName("localhost"))
	require.NoError(t, p.Client.CloseWrite())
	p.Transfer()
	require.Equal(t, io.EOF, p.Server.Err)
	_, err := p.Server.Receive(nil, make([]byte, sslfilter.MaxTrailing+1))
	require.ErrorIs(t, err, sslfilter.ErrBufferFull)
	require.NoError(t, p.Server.CloseWrite())
	p.Transfer()
	require.Equal(t, io.EOF, p.Client.ReceiveEOF())
	require.NoError(t, p.Client.Close())
	require.ErrorIs(t, p.Client.Send(nil), sslfilter.ErrClosed)
	require.Empty(t, list)
}

// Clones share the handler of the context, and each of them is reported.
func TestErrorsHandlerOfClones(t *testing.T) {
	var list []report
	first := testkit.Filter(t, reporting(testkit.Server(), &list))
	second, err := first.Clone()
	require.NoError(t, err)
	defer second.Close()
	for _, f := range []*sslfilter.Filter{first, second} {
		f.Receive(nil, []byte("GET / HTTP/1.0\r\n\r\n"))
		require.Same(t, f, list[len(list)-1].filter)
	}
	require.Len(t, list, 2)
}

// fail lets one connection with handler fail.
func fail(t testing.TB, handler sslfilter.ErrorHandler) error {
	t.Helper()
	f := testkit.Filter(t, testkit.Server(func(o *sslfilter.Options) { o.ErrorHandler = handler }))
	_, err := f.Receive(nil, []byte("GET / HTTP/1.0\r\n\r\n"))
	require.Error(t, err)
	return err
}

func TestErrorsReadyMadeHandlers(t *testing.T) {
	text := fail(t, nil).Error()
	defer slog.SetDefault(slog.Default())
	defaults := new(testkit.Log)
	slog.SetDefault(defaults.Logger())

	log := new(testkit.Log)
	fail(t, sslfilter.IgnoreErrors)
	fail(t, nil)
	require.Empty(t, append(log.Messages(), defaults.Messages()...))

	fail(t, sslfilter.LogErrors(log.Logger()))
	fail(t, sslfilter.LogErrors(log.Logger()))
	require.Equal(t, []string{text, text}, log.Messages())
	require.Equal(t, slog.LevelError, log.Entries()[0].Level)
	require.Empty(t, defaults.Messages())
	fail(t, sslfilter.LogErrors(nil))
	require.Equal(t, []string{text}, defaults.Messages())

	log = new(testkit.Log)
	fail(t, sslfilter.LogErrorsWithStack(log.Logger()))
	require.Equal(t, []string{text}, log.Messages())
	require.Equal(t, slog.LevelError, log.Entries()[0].Level)
	require.Contains(t, log.Values(text, "stack")[0], "TestErrorsReadyMadeHandlers", "the stack that led to the error")
	fail(t, sslfilter.LogErrorsWithStack(nil))
	require.Equal(t, []string{text, text}, defaults.Messages())
}

// LogErrorsOnce logs each text once per process. "carponetime" of the original does so per
// object, though its manual promises "over all".
func TestErrorsLogErrorsOnce(t *testing.T) {
	if child, _ := inChild(t, ""); !child { // the process remembers what was logged
		return
	}
	defaults, one, two := new(testkit.Log), new(testkit.Log), new(testkit.Log)
	slog.SetDefault(defaults.Logger())
	text := fail(t, sslfilter.LogErrorsOnce(one.Logger())).Error()
	fail(t, sslfilter.LogErrorsOnce(one.Logger()))
	fail(t, sslfilter.LogErrorsOnce(two.Logger()))
	fail(t, sslfilter.LogErrorsOnce(nil))
	require.Equal(t, []string{text}, one.Messages())
	require.Equal(t, slog.LevelError, one.Entries()[0].Level)
	require.Empty(t, append(two.Messages(), defaults.Messages()...))
	sslfilter.LogErrorsOnce(nil)(nil, errors.New("another"))
	require.Equal(t, []string{"another"}, defaults.Messages())

	handler := sslfilter.LogErrorsOnce(two.Logger())
	for i := range 2 * sslfilter.MaxLogged {
		handler(nil, fmt.Errorf("%s %d", strings.Repeat("x", 10), i))
	}
	require.Len(t, two.Messages(), sslfilter.MaxLogged-2, "bounded")
}
