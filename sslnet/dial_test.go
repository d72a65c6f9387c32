package sslnet_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// A host that is verified must be given as its A-label. The error says so before a
// connection is made. The name of the options is verified for any address.
func TestDialInternationalHosts(t *testing.T) {
	d := &sslnet.Dialer{Ctx: testkit.Ctx(t, nameless())}
	const want = "give its A-label, which begins with xn-- (RFC 5890)"
	_, err := d.Dial("tcp", "bücher.example:443")
	require.ErrorContains(t, err, want)
	require.ErrorContains(t, err, `"bücher.example"`)
	l := echo(t, testkit.Server())
	_, err = d.Client(context.Background(), testkit.Dial(t, l.Addr().String()), "bücher.example:443")
	require.ErrorContains(t, err, want)
	d.SetCtx(testkit.Ctx(t, testkit.Client()))
	c, err := d.Client(context.Background(), testkit.Dial(t, l.Addr().String()), "bücher.example:443")
	require.NoError(t, err)
	testkit.Exchange(t, c, "hello")
	require.NoError(t, c.Close())
}
