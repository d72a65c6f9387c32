package sslfilter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Invariant: whatever the bytes of a session are, there is no panic, an error is an
// *Error, bytes that are accepted are returned unchanged, and the connection that offers
// the session completes with a valid server or freezes.
func FuzzSession(f *testing.F) {
	contexts := make(map[sslfilter.Version][2]*sslfilter.Ctx)
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		server, client := testkit.Ctx(f, testkit.ServerOf("server-inter")), testkit.Ctx(f, testkit.Client(testkit.UpTo(v)))
		contexts[v] = [2]*sslfilter.Ctx{server, client}
		data, err := firstVisit(f, server, client).MarshalBinary()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s sslfilter.Session
		if err := s.UnmarshalBinary(data); err != nil {
			landmark(testkit.As[*sslfilter.Error](t, err).Hint)
			return
		}
		same, err := s.MarshalBinary()
		require.NoError(t, err)
		require.Equal(t, data, same)
		c, ok := contexts[s.Version()]
		if !ok {
			c = contexts[sslfilter.VersionTLS13]
		}
		p := testkit.PairOf(t, c[0], c[1])
		defer p.Close()
		require.NoError(t, p.Client.SetSession(&s))
		if p.Handshake() == nil {
			require.True(t, p.Client.ClientCertValid())
		} else {
			require.False(t, p.Client.ClientCertValid())
		}
		if err := p.Client.SessionError(); err != nil {
			landmark(err.Error())
		}
	})
}
