package sslfilter_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cpeer"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// provedEarlier returns the session as if its full handshake had been earlier. The time of this
// handshake follows the three digests of the binding.
func provedEarlier(t *testing.T, s *sslfilter.Session, by time.Duration) *sslfilter.Session {
	t.Helper()
	data, err := s.MarshalBinary()
	require.NoError(t, err)
	_, rest, found := bytes.Cut(data, []byte{1, 0, 0, 3*32 + 8})
	require.True(t, found)
	proved := rest[3*32:][:8]
	at := time.Unix(int64(binary.BigEndian.Uint64(proved)), 0)
	require.WithinDuration(t, time.Now(), at, time.Minute+testkit.Patience)
	binary.BigEndian.PutUint64(proved, uint64(at.Add(-by).Unix()))
	changed := new(sslfilter.Session)
	require.NoError(t, changed.UnmarshalBinary(data))
	return changed
}

// A chain of resumptions ends a week after the full handshake, although each of them gives a
// new session.
func TestSessionsChainEnds(t *testing.T) {
	const week = 7 * 24 * time.Hour
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		k := ticketKeys(t)
		server, client := testkit.Ctx(t, testkit.Server(sharing(k))), testkit.Ctx(t, testkit.Client(testkit.UpTo(highest)))
		first := firstVisit(t, server, client)
		require.WithinDuration(t, time.Now().Add(2*time.Hour), first.Expires(), time.Minute+testkit.Patience)

		s := provedEarlier(t, first, week-time.Hour)
		for range 3 {
			require.WithinDuration(t, time.Now().Add(time.Hour), s.Expires(), time.Minute+testkit.Patience)
			sslfilter.AgeTicketKeys(k, 2*time.Hour) // in TLS 1.2, a client gets a new ticket when the key has changed
			p, resumed := resumes(t, server, client, s)
			require.True(t, resumed, "%v", p.Client.SessionError())
			list := p.Client.Sessions()
			require.NotEmpty(t, list)
			s = list[0]
		}

		for _, by := range []time.Duration{week, week + time.Hour, 1000 * week} {
			s := provedEarlier(t, first, by)
			require.True(t, s.Expires().Before(time.Now().Add(time.Minute)))
			p, resumed := resumes(t, server, client, s)
			require.False(t, resumed)
			require.ErrorContains(t, p.Client.SessionError(), "it expired at ")
		}

		data, err := provedEarlier(t, first, 0).MarshalBinary()
		require.NoError(t, err)
		head, rest, _ := bytes.Cut(data, []byte{1, 0, 0, 3*32 + 8})
		binary.BigEndian.PutUint64(rest[3*32:], uint64(time.Now().Add(1000*week).Unix()))
		require.NotEmpty(t, head)
		require.Error(t, new(sslfilter.Session).UnmarshalBinary(data), "a full handshake after the session was made")
	})
}

// A TLS 1.3 ticket with the lifetime 0 is not kept.
func TestSessionsLifetimeOfTickets(t *testing.T) {
	for _, lifetime := range []int{0, 60} {
		client := testkit.Filter(t, testkit.Client())
		server, err := cpeer.NewTicketServer(testkit.PKI("server.crt"), testkit.PKI("server.key"), lifetime)
		require.NoError(t, err)
		defer server.Close()
		require.NoError(t, client.Handshake())
		var got []byte
		for _, text := range []string{"", "", "hello"} {
			_, err := server.Receive(client.Outgoing(nil))
			require.NoError(t, err)
			if text != "" {
				require.NoError(t, server.Send([]byte(text)))
			}
			got, err = client.Receive(got, server.Outgoing())
			require.NoError(t, err)
		}
		require.Equal(t, "hello", string(got))
		list := client.Sessions()
		if lifetime == 0 {
			require.Empty(t, list)
			continue
		}
		require.Len(t, list, 2)
		require.WithinDuration(t, time.Now().Add(time.Minute), list[0].Expires(), 30*time.Second+testkit.Patience)
	}
}

// In TLS 1.2, a lifetime of 0 means that the server does not say how long the ticket is valid.
// OpenSSL's servers send it with a new ticket in a resumed handshake.
func TestSessionsUnspecifiedLifetime(t *testing.T) {
	k := ticketKeys(t)
	server, client := testkit.Ctx(t, testkit.Server(sharing(k))), testkit.Ctx(t, testkit.Client(testkit.TLS12))
	s := firstVisit(t, server, client)
	sslfilter.AgeTicketKeys(k, 2*time.Hour)
	p, resumed := resumes(t, server, client, s)
	require.True(t, resumed)
	list := p.Client.Sessions()
	require.Len(t, list, 1)
	require.Equal(t, int64(0), int64(p.Client.State().TicketLifetime))
	require.True(t, list[0].Expires().After(time.Now().Add(time.Hour)))
	_, resumed = resumes(t, server, client, list[0])
	require.True(t, resumed)
}
