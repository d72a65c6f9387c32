package sslfilter_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// pskOf returns where the extensions of a ClientHello of TLS 1.3 are, and where the one with the
// tickets is (RFC 8446 section 4.2.11), which is the last.
func pskOf(t *testing.T, hello []byte) (extensions, last int) {
	t.Helper()
	u16 := func(at int) int { return int(binary.BigEndian.Uint16(hello[at:])) }
	at := 5 + 4 + 2 + 32
	at += 1 + int(hello[at])
	at += 2 + u16(at)
	at += 1 + int(hello[at])
	extensions = at
	for at += 2; u16(at) != 41; at += 4 + u16(at+2) {
	}
	require.Len(t, hello, at+4+u16(at+2))
	return extensions, at
}

// repeatTicket returns hello, a ClientHello of TLS 1.3, with n copies of the only ticket of other
// in place of its tickets. hello and other may be the same.
func repeatTicket(t *testing.T, hello, other []byte, n int) []byte {
	t.Helper()
	_, at := pskOf(t, other)
	identities := other[at+6 : at+6+int(binary.BigEndian.Uint16(other[at+4:]))]
	binders := other[at+6+len(identities)+2:]
	extensions, last := pskOf(t, hello)
	vector := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	body := slices.Concat(vector(bytes.Repeat(identities, n)), vector(bytes.Repeat(binders, n)))
	list := slices.Concat(hello[extensions+2:last+2], vector(body))
	message := slices.Concat(hello[5+4:extensions], vector(list))
	message = slices.Concat([]byte{1, byte(len(message) >> 16), byte(len(message) >> 8), byte(len(message))}, message)
	require.LessOrEqual(t, len(message), 16<<10)
	return slices.Concat([]byte{22, 3, 1}, vector(message))
}

// A client that is refused now and sends its ticket many times gets a full handshake.
func TestResumeClientCertManyTickets(t *testing.T) {
	keys := ticketKeys(t)
	server := func(serial int64) *sslfilter.Ctx {
		return testkit.Ctx(t, testkit.Requiring(resuming(keys), func(o *sslfilter.Options) { o.CACRLMem = testkit.CRL(t, serial) }))
	}
	first := server(0x7000)
	g := newGuest(t, sslfilter.VersionTLS13, "client.crt", "client.key")
	shelf{}.visit(t, g, first)
	client := testkit.FilterOf(t, g.ctx)
	require.NoError(t, client.SetSession(g.session))
	require.NoError(t, client.Handshake())
	hello := client.Outgoing(nil)
	resumes := func(ctx *sslfilter.Ctx, n int) bool {
		f := testkit.FilterOf(t, ctx)
		_, err := f.Receive(nil, repeatTicket(t, hello, hello, n))
		require.NoError(t, err)
		answer := f.Outgoing(nil)
		require.NotEmpty(t, answer)
		require.False(t, f.ClientCertValid() || f.HandshakeDone())
		return bytes.Contains(answer[:5+int(binary.BigEndian.Uint16(answer[3:]))], []byte{0, 41, 0, 2, 0, 0})
	}
	require.True(t, resumes(first, 1), "the ServerHello selects the ticket")
	revoking := server(testkit.Cert(t, "client.crt").SerialNumber.Int64())
	for _, n := range []int{1, 3, 4, 5, 8} {
		require.False(t, resumes(revoking, n))
	}
}

// After a HelloRetryRequest, which makes the server read each ticket twice, a client is resumed
// with the verdict of a full handshake.
func TestResumeClientCertRetry(t *testing.T) {
	for _, stored := range []bool{false, true} {
		server := testkit.Ctx(t, testkit.Requiring(resuming(nil), func(o *sslfilter.Options) { o.StatefulSessions, o.Groups = stored, "P-384" }))
		client := testkit.Showing("client.crt", "client.key", testkit.Only(sslfilter.VersionTLS13), func(o *sslfilter.Options) { o.Groups = "P-256:P-384" })
		s, g := shelf{}, &guest{ctx: testkit.Ctx(t, client)}
		full := s.visit(t, g, server)
		for range 3 {
			again := s.visit(t, g, server)
			require.True(t, again.Resumed())
			require.Equal(t, ask(full), ask(again))
		}
	}
}

// The bound on the sessions that are verified again applies to each ClientHello: the tickets of the
// first one do not count for the one after a HelloRetryRequest.
func TestResumeClientCertManyTicketsAfterRetry(t *testing.T) {
	keys := ticketKeys(t)
	server := func(serial int64) *sslfilter.Ctx {
		return testkit.Ctx(t, testkit.Requiring(resuming(keys), func(o *sslfilter.Options) { o.CACRLMem, o.Groups = testkit.CRL(t, serial), "P-384" }))
	}
	first, revoking := server(0x7000), server(testkit.Cert(t, "client-ec.crt").SerialNumber.Int64())
	returns := func(crt, key string) (*sslfilter.Filter, []byte) {
		g := &guest{ctx: testkit.Ctx(t, testkit.Showing(crt, key, testkit.Only(sslfilter.VersionTLS13), func(o *sslfilter.Options) { o.Groups = "P-256:P-384" }))}
		shelf{}.visit(t, g, first)
		client := testkit.FilterOf(t, g.ctx)
		require.NoError(t, client.SetSession(g.session))
		require.NoError(t, client.Handshake())
		return client, client.Outgoing(nil)
	}
	_, bad := returns("client-ec.crt", "client-ec.key")
	client, hello := returns("client.crt", "client.key")
	f := testkit.FilterOf(t, revoking)
	_, err := f.Receive(nil, repeatTicket(t, hello, bad, 8))
	require.NoError(t, err)
	_, err = client.Receive(nil, f.Outgoing(nil))
	require.NoError(t, err)
	again := client.Outgoing(nil)
	require.NotEmpty(t, again, "the server has sent a HelloRetryRequest")
	_, err = f.Receive(nil, again)
	require.ErrorContains(t, err, "binder does not verify", "the server accepts the ticket, but the client has sent another first ClientHello")
}
