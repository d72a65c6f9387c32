package memfault_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/memfault"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A context with a Staple knows the issuer and the responders of its certificate, or there
// is no context. A Staple never accepts a response that another CA has signed. Each of its
// functions gives the right result, or says that memory is short.
func TestStaple(t *testing.T) {
	urls := []string{"http://ocsp.test/a", "http://ocsp.test/b"}
	template := x509.Certificate{DNSNames: []string{"localhost"}, OCSPServer: urls}
	inter := testkit.CA(t, "inter")
	for name, c := range map[string]struct {
		ca      testkit.Issuer
		options func(crt []byte) sslfilter.Options
	}{
		"issuer in CACrt": {testkit.CA(t, "root"), func(crt []byte) sslfilter.Options {
			return sslfilter.Options{CrtMem: crt, CACrt: testkit.PKI("root.crt")}
		}},
		"issuer in the chain": {inter, func(crt []byte) sslfilter.Options {
			return sslfilter.Options{CrtMem: append(crt, testkit.PEM("CERTIFICATE", inter.Cert.Raw)...)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			crt := testkit.MintFrom(t, c.ca, template, testkit.Key(t, "client.key").Public())
			cert, err := x509.ParseCertificate(testkit.DER(t, crt))
			require.NoError(t, err)
			o := c.options(crt)
			o.Key = testkit.PKI("client.key")
			good := testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Issuer: c.ca.Cert, Signer: c.ca})
			forged := testkit.OCSPResponse(t, testkit.OCSP{Cert: cert, Issuer: c.ca.Cert, Signer: testkit.CA(t, "other")})
			var want []byte
			texts := make(said)
			defer texts.log(t)
			sweep(t, func(t *testing.T, heal func() int) {
				starved := func(err error) {
					t.Helper()
					var openssl *sslfilter.Error
					require.ErrorAs(t, err, &openssl)
					texts.errors(err)
				}
				staple, err := sslfilter.NewStaple(good)
				if err != nil {
					starved(err)
					return
				}
				o := o // the garbage collector frees the Staple, so nothing may keep it
				o.Staple = staple
				ctx, err := sslfilter.NewCtx(o)
				if err != nil {
					texts.errors(err)
					return
				}
				defer ctx.Close()
				require.Error(t, staple.Set(forged))
				if err := staple.Set(good); err != nil {
					starved(err)
				}
				if s := staple.Status(); s.Status != sslfilter.OCSPGood {
					require.Equal(t, "out of memory", s.String())
				}
				require.Equal(t, urls, staple.Responders())
				request, err := staple.Request()
				if err != nil {
					starved(err)
				}
				heal()
				if want == nil {
					want = request
				}
				require.True(t, err != nil || string(request) == string(want))
				require.ErrorContains(t, staple.Set(forged), "not signed")
				require.NoError(t, staple.Set(good))
				require.Equal(t, sslfilter.OCSPGood, staple.Status().Status)
				request, err = staple.Request()
				require.NoError(t, err)
				require.Equal(t, want, request)
			})
			require.NotEmpty(t, want)
		})
	}
}

// A NameMap has all names of its contexts, or there is none.
func TestNameMap(t *testing.T) {
	named := func(names ...string) *sslfilter.Ctx {
		return testkit.Ctx(t, sslfilter.Options{CrtMem: testkit.Mint(t, x509.Certificate{DNSNames: names}), Key: testkit.PKI("client.key")})
	}
	def, more := named("admin.example.org"), named("*.example.org")
	texts := make(said)
	defer texts.log(t)
	sweep(t, func(t *testing.T, heal func() int) {
		m, err := sslfilter.NewNameMap(def, more)
		heal()
		if err != nil {
			var openssl *sslfilter.Error
			require.ErrorAs(t, err, &openssl)
			texts.errors(err)
			return
		}
		for name, want := range map[string]*sslfilter.Ctx{"admin.example.org": def, "www.example.org": more, "example.org": def} {
			got, err := m.Choose(&sslfilter.ClientHello{ServerName: name})
			require.NoError(t, err)
			require.True(t, got == want, name)
		}
	})
}

// ReadClientHello returns the whole ClientHello, or an error.
func TestReadClientHello(t *testing.T) {
	f := testkit.Filter(t, testkit.Client(func(o *sslfilter.Options) { o.ALPN = []string{"h2", "http/1.1"} }))
	require.NoError(t, f.Handshake())
	wire := f.Outgoing(nil)
	want, err := sslfilter.ReadClientHello(wire)
	require.NoError(t, err)
	require.Equal(t, "localhost", want.ServerName)
	texts := make(said)
	defer texts.log(t)
	sweep(t, func(t *testing.T, heal func() int) {
		hello, err := sslfilter.ReadClientHello(wire)
		failed := heal()
		texts.errors(err)
		if err == nil {
			require.Equal(t, want, hello)
			return
		}
		var openssl *sslfilter.Error
		require.True(t, failed > 0 && errors.As(err, &openssl), "%v", err)
	})
}

// A server whose context was chosen keeps the protocols of the ClientHello only until the
// handshake is complete: a client can send 60 KiB of them.
func TestChooserForgetsTheProtocols(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	testkit.EachVersion(t, func(t *testing.T, v sslfilter.Version) {
		server := testkit.Ctx(t, testkit.Server(testkit.UpTo(v)))
		client := testkit.Ctx(t, testkit.Client(func(o *sslfilter.Options) {
			for i := range 100 {
				o.ALPN = append(o.ALPN, fmt.Sprintf("%0160d", i))
			}
		}))
		held := func(choose bool) int {
			f, err := client.NewFilter()
			require.NoError(t, err)
			g, err := server.NewFilter()
			require.NoError(t, err)
			if choose {
				g.Close()
				g = sslfilter.NewServerFilter(func(*sslfilter.ClientHello) (*sslfilter.Ctx, error) { return server, nil })
			}
			p := testkit.Join(g, f)
			defer p.Close()
			require.NoError(t, p.Handshake())
			_, bytes := memfault.Live()
			return bytes
		}
		held(false) // for memory that OpenSSL never frees
		held(true)
		runtime.GC()
		require.Less(t, held(true)-held(false), 4<<10)
	})
}
