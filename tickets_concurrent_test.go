package sslfilter_test

import (
	"crypto/tls"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Keys can be replaced while handshakes use them, also between the ClientHello and the
// ticket.
func TestTicketKeysSetDuringHandshakes(t *testing.T) {
	testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
		one, two := ticketKey("one"), ticketKey("two")
		k := ticketKeys(t, one)
		ctx := testkit.Ctx(t, testkit.Server(sharing(k)))
		v := visiting(t, highest, "", "")
		require.False(t, v.visit(t, ctx))
		for _, keys := range [][][80]byte{{two}, {one}, {one, two}} {
			v.config.VerifyConnection = func(tls.ConnectionState) error { return k.Set(keys...) }
			v.visit(t, ctx)
			v.config.VerifyConnection = nil
			v.visit(t, ctx)
			require.True(t, v.visit(t, ctx))
		}

		var wait sync.WaitGroup
		stop := make(chan struct{})
		wait.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				k.Set([][80]byte{one, two}[i%2], [][80]byte{two, one}[i%2])
				sslfilter.AgeTicketKeys(k, time.Hour)
			}
		})
		var visits sync.WaitGroup
		for range 4 {
			v := visiting(t, highest, "", "")
			visits.Go(func() {
				for i := range 20 {
					if v.visit(t, ctx) != (i > 0) {
						t.Error("a session was lost, although both keys decrypt")
					}
				}
			})
		}
		visits.Wait()
		close(stop)
		wait.Wait()
	})
}

// Keys change and contexts that use them come and go while clients with certificates return. A
// connection outlives its context, and no session is lost as long as both keys decrypt.
func TestTicketKeysOfClosingContexts(t *testing.T) {
	for name, given := range map[string]bool{"given": true, "random": false} {
		t.Run(name, func(t *testing.T) {
			one, two := ticketKey("one"), ticketKey("two")
			k := ticketKeys(t)
			if given {
				require.NoError(t, k.Set(one, two))
			}
			stop := make(chan struct{})
			var changes, visits sync.WaitGroup
			changes.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if given {
						k.Set([][80]byte{one, two}[i%2], [][80]byte{two, one}[i%2])
					} else {
						sslfilter.AgeTicketKeys(k, time.Hour)
					}
				}
			})
			for i := range 4 {
				g := newGuest(t, []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13}[i/2], "client.crt", "client.key")
				o := testkit.Requiring(resuming(k), func(o *sslfilter.Options) { o.StatefulSessions = i%2 == 1 })
				visits.Go(func() {
					var stored []sslfilter.StoredSession
					for n := range 12 {
						ctx, err := sslfilter.NewCtx(o)
						if err != nil {
							t.Error(err)
							return
						}
						f, err := ctx.NewFilter()
						ctx.Close()
						if err != nil {
							t.Error(err)
							return
						}
						for _, s := range stored {
							f.OfferSession(s.ID, s.Data)
						}
						client := testkit.FilterOf(t, g.ctx)
						client.SetSession(g.session)
						p := testkit.Join(f, client)
						err = p.Handshake()
						if err == nil {
							f.Send([]byte("hello"))
							p.Transfer()
						}
						if err != nil || !f.ClientCertValid() || given && f.Resumed() != (n > 0) {
							t.Errorf("visit %d: %v, resumed %t, valid %t, %v", n, err, f.Resumed(), f.ClientCertValid(), client.SessionError())
							return
						}
						if list := client.Sessions(); len(list) > 0 {
							g.session = list[0]
						}
						if list := f.NewSessions(); len(list) > 0 {
							stored = list
						}
						f.Close()
					}
				})
			}
			visits.Wait()
			close(stop)
			changes.Wait()
		})
	}
}
