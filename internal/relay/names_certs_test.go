package relay

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A relay that does not share its address needs no server name, unless the
// configuration asks for one.
func TestNamesOfOneRelay(t *testing.T) {
	f := share(t, named(t, "a", []string{"a.test"}, greeter(t, "a")))
	require.Nil(t, f.listeners[0].current.Load().names)
	f.reaches("b.test", "a", anyName)
	f.reaches("", "a")
	require.EqualValues(t, 2, f.relay("a").count.accepted.Value())
	require.Zero(t, f.lobby().accepted.Value())
	require.NotContains(t, f.countersJSON(), "names_refused")
	require.NotContains(t, f.log.String(), "servername")

	f = share(t, named(t, "a", []string{"a.test"}, greeter(t, "a"), `servernames = ["b.test"]`, `default-server = true`))
	require.Nil(t, f.listeners[0].current.Load().names)

	f = share(t, named(t, "a", []string{"a.test"}, greeter(t, "a"), `servernames = ["b.test"]`))
	f.reaches("b.test", "a", anyName)
	f.refuses("a.test")
	f.refuses("")
}

// -check shows the relay of each name.
func TestNamesCheck(t *testing.T) {
	cas := fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true", testkit.AbsPKI("root.crt"))
	run := func(tables ...string) (Findings, string) {
		var out strings.Builder
		found := Check(&out, parseShared(t, "127.0.0.1:443", tables...), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
		return found, out.String()
	}
	web := named(t, "web", []string{"web.test", "*.web.test", "localhost"}, `backend = "127.0.0.1:80"`)
	closed := named(t, "closed", []string{"a.test", "*.c.test"}, `backend = "127.0.0.1:81"`, cas, `servernames = ["a.test", "x.c.test", "*.c.test", "b.test", "*.d.test"]`)
	_, out := run(web, closed)
	_, table, ok := strings.Cut(out, "\nlistener tls:127.0.0.1:443, by server name\n")
	require.True(t, ok, out)
	var rows []string
	for line := range strings.Lines(table) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	require.Equal(t, []string{
		"name relay mode certificate serial expires client certs backend",
		"web.test web tcp 47:11 2049-01-01 not requested plain:127.0.0.1:80",
		"*.web.test web tcp 47:11 2049-01-01 not requested plain:127.0.0.1:80",
		"localhost web tcp 47:11 2049-01-01 not requested plain:127.0.0.1:80",
		"a.test closed tcp 47:11 2049-01-01 valid one required plain:127.0.0.1:81",
	}, rows[:5])
	require.Contains(t, table, "all others, or none  rejected with the alert unrecognized_name")
	require.Contains(t, table, `WEAK: servernames: b.test is not in the certificate of relay "closed"`)
	require.Contains(t, table, `WEAK: servernames: *.d.test is not in the certificate of relay "closed"`)
	require.NotContains(t, table, "x.c.test is not")
	require.NotContains(t, table, "*.c.test is not")
	_, out = run(web, closed+"default-server = true\n")
	require.Regexp(t, `all others, or none +closed `, out)
	_, out = run(web)
	require.NotContains(t, out, "by server name")
	found, out := run(web, named(t, "two", []string{"x.test", "web.test"}, `backend = "127.0.0.1:80"`))
	require.Equal(t, 1, found.Errors)
	require.Contains(t, out, `ERROR: relay "two": servernames: "web.test" belongs to relay "web" already, which shares tls:127.0.0.1:443`)
	found, _ = run(web, named(t, "two", []string{"x.test"}, `backend = "127.0.0.1:80"`, `cacrt = "nowhere"`))
	require.Equal(t, 1, found.Errors)
}

// withEC adds a certificate with an EC key to a relay.
func withEC(t *testing.T, names ...string) string {
	t.Helper()
	crt := testkit.MintFrom(t, testkit.CA(t, "root"), x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, testkit.Key(t, "client-ec.key").Public())
	return fmt.Sprintf("identities = {%q = %q}", testkit.TempFile(t, "ec.crt", crt), testkit.AbsPKI("client-ec.key"))
}

// A client may get any of a relay's certificates, so a relay has only the names that are
// in all of them, as in a NameMap.
func TestNamesOfSeveralCertificates(t *testing.T) {
	f := share(t,
		named(t, "two", []string{"A.test", "*.w.test", "rsa.test"}, greeter(t, "two"), withEC(t, "a.test", "x.w.test", "ec.test")),
		named(t, "one", []string{"one.test"}, greeter(t, "one")))
	for _, suite := range []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256} {
		only := func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }
		f.reaches("a.test", "two", only)
		f.reaches("x.w.test", "two", only)
		for _, name := range []string{"rsa.test", "ec.test", "y.w.test"} {
			_, err := f.dial(name, only, anyName)
			require.ErrorContains(t, err, "unrecognized name", name)
		}
	}
	f.reaches("one.test", "one")
}

// -check reports the names that only some of the certificates have.
func TestNamesOfSeveralCertificatesCheck(t *testing.T) {
	run := func(tables ...string) (Findings, string) {
		var out strings.Builder
		found := Check(&out, parseShared(t, "127.0.0.1:443", tables...), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
		return found, out.String()
	}
	where := `backend = "127.0.0.1:80"`
	one := named(t, "one", []string{"one.test"}, where)
	two := func(more ...string) string {
		return named(t, "two", []string{"A.test", "*.w.test", "rsa.test"}, append(more, where, withEC(t, "a.test", "x.w.test", "ec.test"))...)
	}
	for _, tables := range [][]string{{two()}, {one, two()}} {
		found, out := run(tables...)
		require.Zero(t, found.Errors, out)
		for _, name := range []string{"*.w.test", "rsa.test", "ec.test"} {
			require.Contains(t, out, fmt.Sprintf("WEAK: identities: %s is not in all certificates of relay \"two\"\n", name))
		}
		require.Equal(t, 3, strings.Count(out, "is not in all certificates"), out)
	}
	_, out := run(one, two(`servernames = ["a.test", "ec.test"]`))
	require.Contains(t, out, `WEAK: servernames: ec.test is not in the certificate of relay "two"`)
	require.NotContains(t, out, "is not in all certificates")
	_, out = run(one, named(t, "two", []string{"a.test"}, where, withEC(t, "a.test")))
	require.NotContains(t, out, "is not in all certificates")
	found, out := run(one, named(t, "two", []string{"rsa.test"}, where, withEC(t, "ec.test")))
	require.Equal(t, 1, found.Errors)
	require.Contains(t, out, `ERROR: relay "two": servernames: is missing, and there is no DNS name for which all its certificates are valid, so no client of tls:127.0.0.1:443 can reach the relay`)
}

// A certificate that only OpenSSL can parse has its row in the table, its names count, and
// its end is the one in the counters.
func TestNamesOfACertificateOfOpenSSL(t *testing.T) {
	end := time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
	only := func(lines ...string) string {
		return fmt.Sprintf("[[relay]]\nname = \"odd\"\nlisten = [\"tls:ADDR\"]\ncrt = %q\nkey = %q\n%s\n", odd(t, end, "odd.test", "*.w.test"), testkit.AbsPKI("client.key"), strings.Join(lines, "\n"))
	}
	one := named(t, "one", []string{"one.test"}, greeter(t, "one"))
	f := share(t, one, only(greeter(t, "odd")))
	for _, name := range []string{"odd.test", "x.w.test"} { // crypto/tls would reject the certificate
		conn, err := dialWith(t, f.at, func(o *sslfilter.Options) { o.ServerName = name })
		require.NoError(t, err)
		testkit.Hear(t, conn, "odd\n")
		conn.Close()
	}
	require.Equal(t, end.Unix(), f.relay("odd").count.notAfter.Value())

	var out strings.Builder
	Check(&out, parseShared(t, "127.0.0.1:443", one, only(`backend = "127.0.0.1:80"`, `servernames = ["odd.test", "x.w.test", "b.test"]`)), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	require.Regexp(t, `\n  odd.test +odd +tcp +CN=odd +47:11 +2040-01-01 +not requested +plain:127.0.0.1:80\n`, out.String())
	require.Contains(t, out.String(), `WEAK: servernames: b.test is not in the certificate of relay "odd"`)
	require.NotContains(t, out.String(), `WEAK: servernames: odd.test`)
	require.NotContains(t, out.String(), `WEAK: servernames: x.w.test`)
}
