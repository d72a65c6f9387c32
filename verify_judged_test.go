package sslfilter_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A chain that is verified outside of a handshake gets the verdict of a handshake:
// the same records in the same order, and the same answer.
func TestVerifyJudged(t *testing.T) {
	clients := make(map[string]*sslfilter.Ctx) // whatever chains the test PKI has for clients
	for _, pattern := range []string{"client*.crt", "client*-chain.pem"} {
		found, err := filepath.Glob(testkit.PKI(pattern))
		require.NoError(t, err)
		for _, file := range found {
			crt := filepath.Base(file)
			if client, err := sslfilter.NewCtx(testkit.Showing(crt, "")); err == nil {
				t.Cleanup(func() { client.Close() })
				clients[crt] = client
			}
		}
	}
	require.Greater(t, len(clients), 20)
	for name, change := range map[string]func(*sslfilter.Options){
		"plain":       func(*sslfilter.Options) {},
		"ignoring":    ignoring(10, 20, 21),
		"depth":       depth(1),
		"CRL":         checking(sslfilter.CRLCheckLeaf, "crl.pem"),
		"CRL missing": both(checking(sslfilter.CRLCheckChain, "crl.pem"), allowMissing),
		"level 0":     testkit.Cipher("DEFAULT@SECLEVEL=0"),
	} {
		t.Run(name, func(t *testing.T) {
			server, required := testkit.Ctx(t, testkit.Asking(change)), testkit.Ctx(t, testkit.Requiring(change))
			for crt, client := range clients {
				p := testkit.PairOf(t, server, client)
				require.NoError(t, p.Handshake(), crt)
				want, sent := p.Server.ClientCertIDs(), p.Server.Peer().Sent
				require.NotEmpty(t, sent, crt)
				require.NotEmpty(t, want, crt)
				for when, f := range map[string]*sslfilter.Filter{"after its handshake": p.Server.Filter, "before the handshake of another": started(t, server)} {
					own := f.ClientCertIDs()
					ids, valid, err := sslfilter.Judge(f, sent)
					require.NoError(t, err, "%s %s", crt, when)
					require.Equal(t, want, ids, "%s %s", crt, when)
					require.Equal(t, p.Server.ClientCertValid(), valid, "%s %s", crt, when)
					require.Equal(t, own, f.ClientCertIDs(), "the verdict of the connection itself does not change")
				}
				_, valid, err := sslfilter.Judge(started(t, required), sent)
				require.NoError(t, err, crt)
				require.Equal(t, p.Server.ClientCertValid(), valid, "enforced: %s", crt)
			}
		})
	}
}

// started is a server that waits for its ClientHello.
func started(t *testing.T, ctx *sslfilter.Ctx) *sslfilter.Filter {
	t.Helper()
	f := testkit.FilterOf(t, ctx)
	_, err := f.Receive(nil, nil)
	require.NoError(t, err)
	return f
}

// The name that a client verifies is part of the verdict.
func TestVerifyJudgedName(t *testing.T) {
	p := testkit.Connect(t, testkit.Server(), testkit.Client())
	sent := p.Client.Peer().Sent
	for name, valid := range map[string]bool{"localhost": true, "other.test": false} {
		f := testkit.Filter(t, testkit.Client())
		require.NoError(t, f.SetServerName(name))
		require.NoError(t, f.Handshake())
		ids, got, err := sslfilter.Judge(f, sent)
		require.NoError(t, err)
		require.Equal(t, valid, got)
		if !valid {
			require.Equal(t, sslfilter.VerifyHostnameMismatch, ids[len(ids)-1].Err)
		}
	}
}

// Serials of CACRL count. An empty chain is not valid, and what is not a
// certificate is an error.
func TestVerifyJudgedOtherwise(t *testing.T) {
	p := testkit.Connect(t, testkit.Asking(), testkit.Showing("client-revoked.crt", ""))
	sent := p.Server.Peer().Sent
	f := started(t, testkit.Ctx(t, testkit.Requiring(func(o *sslfilter.Options) { o.CACRL = testkit.PKI("crl.pem") })))
	_, valid, err := sslfilter.Judge(f, sent)
	require.NoError(t, err)
	require.False(t, valid)
	ids, valid, err := sslfilter.Judge(f, nil)
	require.NoError(t, err)
	require.Empty(t, ids)
	require.False(t, valid)
	leaf := sent[0]
	for _, broken := range [][]byte{leaf[:40], append(leaf[:len(leaf):len(leaf)], 0), {}, nil} {
		_, _, err = sslfilter.Judge(f, [][]byte{broken})
		require.Error(t, err)
	}
	require.False(t, sslfilter.ErrorQueued())
}
