package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
)

// returning is a client of a case that comes back, and the server that it visits. Each visit
// has contexts of its own, as after a reload, which share the ticket keys.
type returning struct {
	t       *testing.T
	highest sslfilter.Version     // of the client; 0 leaves the options of the case
	keys    *sslfilter.TicketKeys // nil: the server does not resume
	stored  bool                  // the server stores the sessions
	session *sslfilter.Session    // what the client offers
	shelf   []sslfilter.StoredSession

	// what was seen in the last visit
	resumed bool
	done    bool
	peer    *sslfilter.Peer
	ids     []sslfilter.CertID
	valid   bool
}

func (v *returning) options(o *sslfilter.Options) {
	switch {
	case o.Client && v.highest != 0 && !o.TLS12:
		o.MaxVersion = v.highest
	case !o.Client && v.keys != nil:
		o.ResumeClientCert, o.StatefulSessions, o.TicketKeys = true, v.stored, v.keys
	}
}

func (v *returning) before(server, client *side) {
	for _, s := range v.shelf {
		require.NoError(v.t, server.filter.OfferSession(s.ID, s.Data))
	}
	require.NoError(v.t, client.filter.SetSession(v.session))
}

func (v *returning) after(server, client *side) {
	require.NoError(v.t, client.filter.SessionError())
	f := server.filter
	v.resumed, v.done = f.Resumed(), f.HandshakeDone()
	v.peer, v.ids, v.valid = f.Peer(), f.ClientCertIDs(), f.ClientCertValid()
	for _, s := range client.filter.Sessions() {
		v.session = s
	}
	v.shelf = append(v.shelf, f.NewSessions()...)
	v.shelf = v.shelf[max(0, len(v.shelf)-4):]
}

// Every recorded case in which a server asks for a client certificate has the same results
// with and without resumption: in a full handshake, in one that resumes its session, and
// in one that resumes the session of a resumed one. A client that was refused or not
// valid at first is so in the later handshakes too.
func TestOracleResumed(t *testing.T) {
	resumptions := make(map[string]int)
	for _, c := range allCases(t) {
		asks := c.Scenario.Server != nil && truth(c.Scenario.Server.New["clientcert"])
		if !asks || c.Scenario.Client == nil || notFIPS[c.Name] != "" && sslfilter.FIPSEnabled() {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			for _, highest := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
				reference := &returning{t: t, highest: highest}
				want := runVisit(c, pkiDir, reference)
				require.Empty(t, want.Unsupported)
				for kind, stored := range map[string]bool{"tickets": false, "stored": true} {
					v := &returning{t: t, highest: highest, keys: new(sslfilter.TicketKeys), stored: stored}
					for visit := range 3 {
						got := runVisit(c, pkiDir, v)
						require.Equal(t, want, got, "%v, %s, visit %d", highest, kind, visit)
						require.Equal(t, visit > 0 && reference.done && reference.valid, v.resumed && v.done, "%v, %s, visit %d", highest, kind, visit)
						require.Equal(t, reference.peer, v.peer, "%v, %s, visit %d", highest, kind, visit)
						require.Equal(t, reference.ids, v.ids)
						require.Equal(t, reference.valid, v.valid)
						if v.resumed {
							resumptions[highest.String()+", "+kind]++
						}
					}
				}
			}
		})
	}
	t.Log(resumptions)
	require.Len(t, resumptions, 4)
	for kind, n := range resumptions {
		require.Greater(t, n, 20, kind)
	}
}
