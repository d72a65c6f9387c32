package sslfilter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Invariant: a server that chooses its context by the ClientHello gives the same results as
// a server with that context, however the bytes are divided, and the function that chooses
// is called at most once. ReadClientHello finds a ClientHello if and only if that function is
// called, and reads the server name as OpenSSL does in the handshake that follows.
func FuzzClientHello(f *testing.F) {
	ctx := testkit.Ctx(f, testkit.ServerOf("server-ec", func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }))
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		c := testkit.Filter(f, testkit.Client(testkit.UpTo(v), func(o *sslfilter.Options) { o.ALPN = []string{"h2"} }))
		require.NoError(f, c.Handshake())
		f.Add(uint64(v), c.Outgoing(nil))
	}
	f.Add(uint64(1), []byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(uint64(2), append([]byte{0x80, 31, 1, 3, 3, 0, 6, 0, 0, 0, 16, 1, 0, 0x80, 0, 0xc0, 0x2b}, make([]byte, 16)...))
	f.Add(uint64(3), clientHello(0x0303, nil, []uint16{0xc02b}, sni("name.example"), extension{10, vector(2, words(29))}, extension{13, vector(2, words(0x0403))}))
	f.Fuzz(func(t *testing.T, seed uint64, wire []byte) {
		if len(wire) > 1<<15 {
			return
		}
		leavesNothing(t, func() {
			hello, err := sslfilter.ReadClientHello(wire)
			require.False(t, hello != nil && err != nil)
			plain := testkit.FilterOf(t, ctx)
			defer plain.Close()
			want := listen(plain, wire, testkit.Whole)
			for _, cut := range []testkit.Cut{testkit.Whole, testkit.Size(1), testkit.Random(seed)} {
				calls := 0
				server := sslfilter.NewServerFilter(func(seen *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
					calls++
					require.Equal(t, hello, seen)
					return ctx, nil
				})
				require.Equal(t, want, listen(server, wire, cut))
				require.Equal(t, hello != nil, calls == 1)
				require.LessOrEqual(t, calls, 1)
				requireSound(t, server)
				server.Close()
			}
			if hello != nil && plain.Err() == nil {
				require.Equal(t, plain.ServerName(), hello.ServerName)
				require.Len(t, hello.JA3(), 32)
				require.Regexp(t, `^t(13|12|11|10|s3|00)[di]\d{4}.._[0-9a-f]{12}_[0-9a-f]{12}$`, hello.JA4())
			}
		})
	})
}
