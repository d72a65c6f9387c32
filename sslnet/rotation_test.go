package sslnet_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// renewed returns a client's Ctx whose certificate has this serial number.
func renewed(t testing.TB, serial int64, changes ...testkit.Change) *sslfilter.Ctx {
	t.Helper()
	o := nameless(changes...)
	o.CrtMem = testkit.Mint(t, x509.Certificate{
		SerialNumber: big.NewInt(serial), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	o.Key = testkit.PKI("client.key")
	return testkit.Ctx(t, o)
}

// serials starts a server of crypto/tls that requires a client certificate, sends its
// serial number in a line, and then echoes.
func serials(t testing.TB, version uint16) (addr string) {
	t.Helper()
	config := testkit.GoServer(t, func(c *tls.Config) {
		c.ClientAuth, c.MinVersion, c.MaxVersion = tls.RequireAndVerifyClientCert, version, version
	})
	return testkit.Serve(t, testkit.Listen(t), func(below net.Conn) {
		c := tls.Server(below, config)
		if c.Handshake() == nil {
			fmt.Fprintln(c, c.ConnectionState().PeerCertificates[0].SerialNumber)
			io.Copy(c, c)
		}
	})
}

// shown reads the line of serials.
func shown(c net.Conn) (serial int64, err error) {
	_, err = fmt.Fscanln(bufio.NewReader(c), &serial)
	return serial, err
}

// After SetCtx, new connections show the new certificate and old ones continue, also
// if the old Ctx is closed at once.
func TestDialerSetCtx(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			addr := serials(t, version)
			d := &sslnet.Dialer{Ctx: renewed(t, 1)}
			dial := func() (net.Conn, int64) {
				c, err := d.Dial("tcp", addr)
				require.NoError(t, err)
				t.Cleanup(func() { c.Close() })
				serial, err := shown(c)
				require.NoError(t, err)
				return c, serial
			}
			first, serial := dial()
			require.EqualValues(t, 1, serial)
			for want := int64(2); want < 5; want++ {
				old := d.CurrentCtx()
				d.SetCtx(renewed(t, want))
				require.NoError(t, old.Close())
				_, serial = dial()
				require.Equal(t, want, serial)
				testkit.Exchange(t, first, "still here")
			}
			d.SetCtx(nil)
			require.Nil(t, d.CurrentCtx())
			_, err := d.Dial("tcp", addr)
			require.ErrorContains(t, err, "no Ctx")
			d.SetCtx(testkit.Ctx(t, testkit.Server()))
			_, err = d.Dial("tcp", addr)
			require.ErrorContains(t, err, "Options.Client")
		})
	}
}

// Connections that are made while SetCtx replaces the Ctx and the old one is closed
// all succeed. One that is made after SetCtx has returned never shows an earlier
// certificate.
func TestDialerSetCtxUnderLoad(t *testing.T) {
	addr := serials(t, tls.VersionTLS13)
	d := &sslnet.Dialer{Ctx: renewed(t, 1)}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	var mu sync.Mutex
	current := int64(1)
	now := func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return current
	}
	const last = 20
	errs := make(chan error)
	for range 4 {
		go func() {
			for {
				oldest := now()
				c, err := d.DialContext(ctx, "tcp", addr)
				if err != nil {
					errs <- err
					return
				}
				serial, err := shown(c)
				c.Close()
				if err == nil && serial < oldest {
					err = fmt.Errorf("the certificate %d was shown after SetCtx had returned with %d", serial, oldest)
				}
				if err != nil || oldest == last {
					errs <- err
					return
				}
			}
		}()
	}
	for serial := int64(2); serial <= last; serial++ {
		old := d.CurrentCtx()
		d.SetCtx(renewed(t, serial))
		old.Close()
		mu.Lock()
		current = serial
		mu.Unlock()
	}
	for range 4 {
		require.NoError(t, <-errs)
	}
}

// A connection that is about to be made with a Ctx that SetCtx replaces and the
// caller closes is made with the new one.
func TestDialerNeverUsesAClosedCtx(t *testing.T) {
	d := &sslnet.Dialer{Ctx: renewed(t, 1)}
	over := make(chan struct{})
	wrong := make(chan error, 2)
	for range 2 {
		go func() {
			below, _ := net.Pipe()
			below.Close() // each connection fails after its filter was made
			for {
				_, err := d.Client(context.Background(), below, "localhost:1")
				if errors.Is(err, sslfilter.ErrClosed) {
					wrong <- err
					return
				}
				select {
				case <-over:
					wrong <- nil
					return
				default:
				}
			}
		}()
	}
	for range 500 {
		old := d.CurrentCtx()
		d.SetCtx(testkit.Ctx(t, nameless()))
		old.Close()
	}
	close(over)
	for range 2 {
		require.NoError(t, <-wrong)
	}
	d.CurrentCtx().Close()
	_, err := d.Client(context.Background(), testkit.Dial(t, serials(t, tls.VersionTLS13)), "localhost:1")
	require.ErrorIs(t, err, sslfilter.ErrClosed)
}
