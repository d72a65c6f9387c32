package sslredis_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	sslredis "github.com/seed-014b8713/sslfilter/adapters/redis"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var replies = []struct {
	text string
	ok   bool
}{
	{"+OK\r\n", true},
	{"$-1\r\n", true},
	{"$5\r\nhello\r\n", true},
	{"$9\r\n$99999999\r\n", true}, // the content looks like a header
	{":12\r\n-ERR wrong\r\n_\r\n,1.5\r\n#t\r\n", true},
	{"*2\r\n$1\r\na\r\n*-1\r\n", true},
	{"*0\r\n%1\r\n+a\r\n:1\r\n", true},
	{"-" + strings.Repeat("x", 9000) + "\r\n", true},
	{strings.Repeat("*1\r\n", sslredis.MaxDepth) + ":1\r\n", true},
	{strings.Repeat("*1\r\n:1\r\n", 100), true},
	{strings.Repeat("*0\r\n", sslredis.MaxLists), true},
	{strings.Repeat("*0\r\n", sslredis.MaxLists+1), false},
	{strings.Repeat("*2\r\n:1\r\n", 100), false}, // each is the last element of the one before
	{strings.Repeat("*1\r\n", 100), false},
	{"$9223372036854775807\r\n", false},
	{"$99999999999999999999999\r\n", false},
	{"$536870912\r\n", false},
	{"=536870912\r\n", false},
	{"*1000000\r\n", false},
	{"%1000000\r\n", false},
	{"$-2\r\n", false},
	{"$\r\n", false},
	{"$1x\r\n", false},
	{"$3\n", false},
	{"-" + strings.Repeat("x", 20000), false},
	{fmt.Sprintf("!%d\r\n", 64<<10), false}, // an error is written to a log
	{"|0\r\n+OK\r\n", false},                // an attribute: see guard.go
	{"|1\r\n+a\r\n+b\r\n+OK\r\n", false},
	{"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", false},
}

// Replies within the bounds pass, and others do not, however they are cut.
func TestGuard(t *testing.T) {
	for _, c := range replies {
		name := c.text[:min(len(c.text), 24)]
		err := sslredis.CheckReplies([]byte(c.text))
		require.Equal(t, c.ok, err == nil, "%q: %v", name, err)
		var bytewise [][]byte
		for i := range c.text {
			bytewise = append(bytewise, []byte(c.text[i:i+1]))
		}
		err = sslredis.CheckReplies(bytewise...)
		require.Equal(t, c.ok, err == nil, "%q, a byte at a time: %v", name, err)
	}
}

// The division of the replies makes no difference, and nothing panics.
func FuzzReplies(f *testing.F) {
	for _, c := range replies {
		f.Add([]byte(c.text), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = min(max(cut, 0), len(b))
		whole, parts := sslredis.CheckReplies(b), sslredis.CheckReplies(b[:cut], b[cut:])
		require.Equal(t, whole == nil, parts == nil)
	})
}

// A Redis that announces huge or deeply nested replies gets an error, and neither memory
// nor the process.
func TestGuardAgainstALyingRedis(t *testing.T) {
	defer debug.SetMaxStack(debug.SetMaxStack(16 << 20)) // more ends the process
	for _, reply := range []string{"$9223372036854775800\r\n", fmt.Sprintf("$%d\r\n", 500<<20), strings.Repeat("*1\r\n", 1<<20), strings.Repeat("junk", 100), "*2\r\n", strings.Repeat("|0\r\n", 1<<20)} {
		addr := testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
			if _, err := conn.Read(make([]byte, 1000)); err == nil {
				io.Copy(conn, bytes.NewReader([]byte(reply)))
			}
		})
		store := newStore(t, options(t, addr))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		data, err := store.Load(patient(t), []byte("id"))
		runtime.ReadMemStats(&after)
		require.Error(t, err)
		require.Empty(t, data)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "%.20q", reply)
	}
}

// lying returns a Store whose Redis answers each request after the first with reply, and
// closes the connection. The first is HELLO, which it does not know.
func lying(t *testing.T, reply string) *sslredis.Store {
	return newStore(t, options(t, testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
		for _, answer := range []string{"-ERR unknown command\r\n", reply} {
			if _, err := conn.Read(make([]byte, 1000)); err != nil {
				return
			}
			io.WriteString(conn, answer)
		}
	})))
}

// Delete succeeds only if Redis says that the session is removed, and that it remembers this
// or has no memory for it.
func TestDeleteNeedsBothAnswers(t *testing.T) {
	for reply, ok := range map[string]bool{
		":1\r\n+OK\r\n":                      true,
		":0\r\n+OK\r\n":                      true,
		":1\r\n-OOM command not allowed\r\n": true,
		":1\r\n":                             false,
		":1\r\n+":                            false,
		":1\r\n-NOPERM no permission for SET\r\n": false,
		":1\r\n$-1\r\n":  false,
		"$-1\r\n+OK\r\n": false,
		"-NOPERM no permission for DEL\r\n+OK\r\n": false,
		"": false,
	} {
		store := lying(t, reply)
		err := store.Delete(patient(t), id)
		require.Equal(t, ok, err == nil, "%q: %v", reply, err)
		want := sslredis.StoreStats{Deletes: 1}
		if !ok {
			want = sslredis.StoreStats{Errors: 1}
		}
		require.Equal(t, want, store.Stats(), "%q", reply)
	}
}
