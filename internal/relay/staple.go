package relay

import (
	"bytes"
	"context"
	"log/slog"

	"github.com/seed-014b8713/sslfilter/sslstaple"
)

// startStapling begins to fetch the OCSP responses of the state's certificates, until
// the state is retired. A certificate that old had too keeps its response.
func (st *state) startStapling(log *slog.Logger, old *state, count *counters) {
	if len(st.staples) == 0 {
		return
	}
	var ctx context.Context
	ctx, st.stop = context.WithCancel(context.Background())
	for i, chain := range st.server.Chains() {
		staple := st.staples[i]
		if response := old.stapled(chain[0]); response != nil {
			staple.Set(response) // Set refuses a response that has expired in the meantime
		}
		log := log.With("certificate", i+1)
		go func() {
			err := sslstaple.Keep(ctx, staple, sslstaple.Options{URL: st.conf.Server.StaplingResponder, Log: log, Event: func(e sslstaple.Event) {
				if e.Err != nil {
					count.staplesFailed.Add(1)
				} else {
					count.staples.Add(1)
				}
			}})
			if ctx.Err() == nil {
				log.Warn("no OCSP response is stapled", "error", err)
			}
		}()
	}
}

// stapled returns the current response of a certificate, or nil.
func (st *state) stapled(leaf []byte) []byte {
	if st == nil || len(st.staples) == 0 {
		return nil
	}
	for i, chain := range st.server.Chains() {
		if bytes.Equal(chain[0], leaf) {
			return st.staples[i].Response()
		}
	}
	return nil
}
