package sslfilter_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// visited returns a server that has completed its handshake with a client of the test
// PKI.
func visited(t testing.TB, crt string) *sslfilter.Filter {
	t.Helper()
	return testkit.Connect(t, testkit.Asking(), testkit.Showing(crt, "")).Server.Filter
}

const (
	notListed = sslfilter.CRLNotListed
	isListed  = sslfilter.CRLListed
	noEntries = sslfilter.CRLEmpty
	unusable  = sslfilter.CRLUnusable
)

func TestCRLSerials(t *testing.T) {
	for _, c := range []struct {
		crt, file string
		want      sslfilter.CRLStatus
		listed    string // CN and serial number of the listed certificate
	}{
		{"client.crt", "crl.pem", notListed, ""},
		{"client-revoked.crt", "crl.pem", isListed, "client revoked 20:07"},
		{"client-revoked.crt", "crl-text.pem", isListed, "client revoked 20:07"},
		{"client-revoked.crt", "crl-expired.pem", isListed, "client revoked 20:07"},
		{"client.crt", "crl-expired.pem", notListed, ""},
		{"client-revoked.crt", "crl-badsig.pem", isListed, "client revoked 20:07"}, // signatures are not checked
		{"client.crt", "crl-badsig.pem", notListed, ""},
		{"client-revoked.crt", "crl-multi-root-first.pem", isListed, "client revoked 20:07"},
		{"client-revoked.crt", "crl-multi-other-first.pem", isListed, "client revoked 20:07"},
		{"client.crt", "crl-multi-other-first.pem", notListed, ""},
		{"client-revoked.crt", "crl-after-cert.pem", isListed, "client revoked 20:07"},
		{"client.crt", "crl-after-cert.pem", notListed, ""},
		{"client-revoked.crt", "crl-other.pem", notListed, ""},
		{"client-cabad.crt", "crl-other.pem", isListed, "client same serial as a cert of other CA 77:77"}, // nor is the issuer checked
		{"client.crt", "crl-empty.pem", noEntries, ""},
		{"client.crt", "crl-inter-empty.pem", noEntries, ""},
		{"client.crt", "crl.der", unusable, ""},
		{"client.crt", "crl-garbage.pem", unusable, ""},
		{"client.crt", "crl-zero.pem", unusable, ""},
		{"client.crt", "crl-trunc.pem", unusable, ""},
		{"client.crt", "root.crt", unusable, ""}, // PEM, but no CRL
		{"client.crt", "no-such-file.pem", unusable, ""},
		{"client.crt", ".", unusable, ""},
		{"client.crt", "crl.pem\x00", unusable, ""},
		{"client.crt", "crl.pem\x00.pem", unusable, ""},
		// every byte of a serial number is compared, and its sign
		{"client-nulA.crt", "crl-nulB.pem", notListed, ""},
		{"client-nulB.crt", "crl-nulB.pem", isListed, "client serial 0100BB 01:00:BB"},
		{"client-ser30.crt", "crl-30.pem", isListed, "client serial 0x30 30"},
		{"client-ser30.crt", "crl-nulB.pem", notListed, ""},
		{"client-ser5.crt", "crl-all.pem", isListed, "client serial 5 05"},
		{"client-serneg.crt", "crl-all.pem", notListed, ""},
		{"client-ser20.crt", "crl-all.pem", isListed, "client serial 20 bytes F1:23:45:67:89:AB:CD:EF:00:11:22:33:44:55:66:77:88:99:AA:BB"},
		{"client-ser20.crt", "crl-30.pem", notListed, ""},
		{"client-ser0.crt", "crl-all.pem", notListed, ""},
		{"client-ser80.crt", "crl-all.pem", notListed, ""},
		{"client-inter-chain.pem", "crl.pem", notListed, ""},
		{"client-inter-chain.pem", "crl-all.pem", isListed, "Oracle Intermediate CA 0C"},
	} {
		t.Run(c.crt+" "+fmt.Sprintf("%q", c.file), func(t *testing.T) {
			f := visited(t, c.crt)
			file := testkit.PKI(c.file)
			if c.file == "crl.pem\x00" {
				file = "testdata/pki/crl.pem\x00" // filepath.Join keeps it too; be sure
			}
			for range 2 { // the second answer comes from the cache
				got := f.ClientCertCRL(file)
				require.Equal(t, c.want, got.Status, "%v", got)
				require.Equal(t, c.want == notListed, f.ClientCertNotOnCRL(file))
				require.Equal(t, c.want == notListed, got.OK())
				require.Equal(t, c.want == unusable, got.Err != nil)
				require.Equal(t, file, got.File)
				require.NotEmpty(t, got.String())
				if c.want == isListed {
					require.Contains(t, []string{clientName + c.listed, "/C=DE/O=Oracle Test/CN=" + c.listed}, got.Subject+" "+sslfilter.Hexdump(got.Serial))
				}
			}
		})
	}
	f := visited(t, "client.crt")
	require.Equal(t, unusable, f.ClientCertCRL("").Status, "without a file name nothing is checked")
	require.ErrorIs(t, f.ClientCertCRL(testkit.PKI("no-such-file.pem")).Err, fs.ErrNotExist)
	require.Error(t, testkit.As[*sslfilter.Error](t, f.ClientCertCRL(testkit.PKI("crl-trunc.pem")).Err))
}

// Signs of serial numbers are compared. "openssl ca" cannot list these numbers.
func TestCRLSerialSigns(t *testing.T) {
	for _, c := range []struct {
		listed int64
		crt    string
		want   sslfilter.CRLStatus
	}{
		{-5, "client-serneg.crt", isListed},
		{-5, "client-ser5.crt", notListed},
		{5, "client-serneg.crt", notListed},
		{-0x8001, "client-sernegbig.crt", isListed},
		{0x8001, "client-sernegbig.crt", notListed},
		{0, "client-ser0.crt", isListed},
		{0, "client-ser1.crt", notListed},
		{1, "client-ser1.crt", isListed},
		{0x80, "client-ser80.crt", isListed},
		{-0x80, "client-ser80.crt", notListed},
		{0x0100, "client-ser1.crt", notListed},
	} {
		t.Run(fmt.Sprintf("%d and %s", c.listed, c.crt), func(t *testing.T) {
			file := testkit.TempFile(t, "crl.pem", testkit.CRL(t, c.listed))
			require.Equal(t, c.want, visited(t, c.crt).ClientCertCRL(file).Status)
		})
	}
}

// A file with one broken CRL blocks every certificate: that CRL could be the one that
// lists it.
func TestCRLOneBrokenListBlocks(t *testing.T) {
	f := visited(t, "client.crt")
	good, broken := testkit.PKIBytes(t, "crl.pem"), testkit.PEM("X509 CRL", []byte("no CRL"))
	der := testkit.DER(t, good)
	longer := testkit.PEM("X509 CRL", append(bytes.Clone(der), 0))
	shorter := testkit.PEM("X509 CRL", der[:len(der)-1])
	for name, data := range map[string][]byte{
		"a broken one after it":        append(bytes.Clone(good), broken...),
		"a broken one before it":       append(bytes.Clone(broken), good...),
		"a truncated one after it":     append(bytes.Clone(good), good[:len(good)/2]...),
		"END is incomplete":            append(bytes.Clone(good), bytes.TrimSuffix(good, []byte("-----END X509 CRL-----\n"))...),
		"BEGIN indented":               append(append(bytes.Clone(good), "  "...), good...),
		"a byte order mark after text": append(append(bytes.Clone(good), "text\n\ufeff"...), good...),
		"a byte too many in the DER":   append(bytes.Clone(good), longer...),
		"a byte missing in the DER":    append(bytes.Clone(good), shorter...),
		"BEGIN without END after it":   append(bytes.Clone(good), "-----BEGIN X509 CRL-----\n"...),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, unusable, f.ClientCertCRL(testkit.TempFile(t, "crl.pem", data)).Status)
		})
	}
	for name, data := range map[string][]byte{
		"CRLF":           bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
		"text around":    append(append([]byte("a text\n\n"), good...), "\nanother\n"...),
		"empty and full": append(testkit.PKIBytes(t, "crl-empty.pem"), good...),
		"key in between": append(append(bytes.Clone(good), testkit.PKIBytes(t, "client.key")...), good...),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, notListed, f.ClientCertCRL(testkit.TempFile(t, "crl.pem", data)).Status)
		})
	}
	marked := unusable // 3.0 and later skip a byte order mark at the beginning
	if since(openssl30) {
		marked = notListed
	}
	require.Equal(t, marked, f.ClientCertCRL(testkit.TempFile(t, "crl.pem", append([]byte("\ufeff"), good...))).Status)
	empty := testkit.TempFile(t, "crl.pem", append(testkit.PKIBytes(t, "crl-empty.pem"), testkit.PKIBytes(t, "crl-inter-empty.pem")...))
	require.Equal(t, noEntries, f.ClientCertCRL(empty).Status)
}

// Without a peer certificate, ClientCertNotOnCRL is false.
func TestCRLWithoutACertificate(t *testing.T) {
	for _, file := range []string{"crl.pem", "no-such-file.pem", "crl-empty.pem"} {
		for name, f := range map[string]*sslfilter.Filter{
			"no certificate":       testkit.Connect(t, testkit.Asking(), testkit.Client()).Server.Filter,
			"not asked for":        testkit.Connect(t, testkit.Server(), testkit.Showing("client.crt", "")).Server.Filter,
			"before the handshake": testkit.Filter(t, testkit.Asking()),
		} {
			require.False(t, f.ClientCertNotOnCRL(testkit.PKI(file)), name)
			require.Equal(t, sslfilter.CRLNoCertificate, f.ClientCertCRL(testkit.PKI(file)).Status, name)
		}
	}
	closed := visited(t, "client.crt")
	require.True(t, closed.ClientCertNotOnCRL(testkit.PKI("crl.pem")))
	require.NoError(t, closed.Close())
	require.False(t, closed.ClientCertNotOnCRL(testkit.PKI("crl.pem")))
}

// On a client, the methods check the server's certificate.
func TestCRLSerialsOnAClient(t *testing.T) {
	f := testkit.Connect(t, testkit.Server(), testkit.Client()).Client.Filter
	require.True(t, f.ClientCertNotOnCRL(testkit.PKI("crl.pem")))
	require.False(t, f.ClientCertNotOnCRL(testkit.TempFile(t, "crl.pem", testkit.CRL(t, 0x1001))))
}

// A changed file takes effect at the next check, also on connections that are open.
func TestCRLSerialsFileChanges(t *testing.T) {
	without, listing := testkit.CRL(t, 0x2002), testkit.CRL(t, 0x2001)
	require.Len(t, listing, len(without), "nothing but the content differs")
	replace := func(file string, data []byte) error {
		next := file + ".new"
		if err := os.WriteFile(next, data, 0o600); err != nil {
			return err
		}
		return os.Rename(next, file)
	}
	inPlace := func(file string, data []byte) error { return os.WriteFile(file, data, 0o600) }
	for name, write := range map[string]func(string, []byte) error{
		"renamed over": replace,
		"in place":     inPlace,
		"in place, time of change alike": func(file string, data []byte) error {
			now := time.Now()
			if info, err := os.Stat(file); err == nil {
				now = info.ModTime()
			}
			if err := inPlace(file, data); err != nil {
				return err
			}
			return os.Chtimes(file, now, now)
		},
		"renamed over, time of change alike and old": func(file string, data []byte) error {
			if err := replace(file, data); err != nil {
				return err
			}
			return os.Chtimes(file, time.Unix(1e9, 0), time.Unix(1e9, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "crl.pem")
			require.NoError(t, write(file, without))
			f := testkit.Connect(t, testkit.Asking(crl(file)), testkit.Showing("client.crt", "")).Server.Filter
			for range 20 {
				require.NoError(t, write(file, without))
				require.True(t, f.ClientCertNotOnCRL(file))
				require.True(t, f.ClientCertValid())
				require.NoError(t, write(file, listing))
				require.False(t, f.ClientCertNotOnCRL(file))
				require.False(t, f.ClientCertValid())
				require.Equal(t, isListed, f.Peer().CRL.Status)
			}
			require.NoError(t, os.Remove(file))
			require.False(t, f.ClientCertValid())
			require.Equal(t, unusable, f.Peer().CRL.Status)
			require.NoError(t, write(file, []byte("no CRL")))
			require.False(t, f.ClientCertValid())
			require.NoError(t, write(file, without))
			require.True(t, f.ClientCertValid())
		})
	}
}

// manySerials is the size of the list in TestCRLLarge.
const manySerials = 100_000

// leastSpeedup is how many times faster than the first check a later one must be. When
// this was written, it was 5,000 to 20,000 times.
const leastSpeedup = 50

func TestCRLLarge(t *testing.T) {
	list := make([]*big.Int, manySerials) // 2, 5, 8, … in an order of its own; the root's 10 is not among them
	for i := range list {
		list[i] = big.NewInt(int64(i*7919%manySerials)*3 + 2)
	}
	file := testkit.TempFile(t, "crl.pem", testkit.CRLFrom(t, testkit.CA(t, "root"), x509.RevocationList{RevokedCertificateEntries: testkit.Revoked(list...)}))
	require.NoError(t, os.Chtimes(file, time.Unix(1e9, 0), time.Unix(1e9, 0))) // a file that changed recently is read again
	const middle, last = manySerials/2*3 + 2, (manySerials-1)*3 + 2
	visitor := func(serial int64) *sslfilter.Filter {
		crt := testkit.Mint(t, x509.Certificate{SerialNumber: big.NewInt(serial)})
		client := testkit.Client(func(o *sslfilter.Options) { o.CrtMem, o.Key = crt, testkit.PKI("client.key") })
		return testkit.Connect(t, testkit.Asking(), client).Server.Filter
	}
	ask := func(f *sslfilter.Filter) (sslfilter.CRLStatus, time.Duration) {
		begin := time.Now()
		status := f.ClientCertCRL(file).Status
		return status, time.Since(begin)
	}
	f := visitor(1)
	status, first := ask(f)
	require.Equal(t, notListed, status)
	second := first
	for range 20 {
		_, took := ask(f)
		second = min(second, took)
	}
	t.Logf("first check %v, later ones %v", first, second)
	require.Less(t, second*leastSpeedup, first)
	for serial, want := range map[int64]sslfilter.CRLStatus{
		2: isListed, 5: isListed, middle: isListed, last - 3: isListed, last: isListed, 0x7F: notListed, 0x80: isListed, 0x101: isListed,
		1: notListed, 3: notListed, middle - 1: notListed, middle + 1: notListed, last + 1: notListed, last + 3: notListed, 1 << 40: notListed,
	} {
		status, _ := ask(visitor(serial))
		require.Equal(t, want, status, "serial %d", serial)
	}
}

// Any number of goroutines check certificates with one file while it is replaced.
func TestCRLConcurrentQuestions(t *testing.T) {
	const goroutines, questions = 16, 100
	file := testkit.TempFile(t, "crl.pem", testkit.PKIBytes(t, "crl.pem"))
	server, client := testkit.Ctx(t, testkit.Asking(crl(file))), testkit.Ctx(t, testkit.Showing("client.crt", ""))
	revoked := testkit.Ctx(t, testkit.Showing("client-revoked.crt", ""))
	var asking sync.WaitGroup
	for i := range goroutines {
		c, want := client, true
		if i%2 == 1 {
			c, want = revoked, false
		}
		p := testkit.PairOf(t, server, c)
		asking.Go(func() {
			if err := p.Handshake(); err != nil {
				t.Error(err)
				return
			}
			for range questions {
				if p.Server.ClientCertValid() != want || p.Server.ClientCertNotOnCRL(testkit.PKI("crl.pem")) != want {
					t.Errorf("goroutine %d: wrong answer", i)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	var replacing sync.WaitGroup
	replacing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			next := file + ".new"
			if err := os.WriteFile(next, testkit.PKIBytes(t, "crl.pem"), 0o600); err != nil {
				t.Error(err)
			}
			if err := os.Rename(next, file); err != nil {
				t.Error(err)
			}
		}
	})
	asking.Wait()
	close(stop)
	replacing.Wait()
}

// Serial numbers with more than the 20 bytes of RFC 5280 are compared like others, up to
// the bound of what a list can hold.
func TestCRLOverlongSerials(t *testing.T) {
	for n, want := range map[int]sslfilter.CRLStatus{20: isListed, 4096: isListed, 4097: unusable} {
		serial := new(big.Int).Lsh(big.NewInt(1), uint(8*n-2))
		crt := testkit.Mint(t, x509.Certificate{SerialNumber: serial})
		client := testkit.Client(func(o *sslfilter.Options) { o.CrtMem, o.Key = crt, testkit.PKI("client.key") })
		f := testkit.Connect(t, testkit.Asking(), client).Server.Filter
		require.Equal(t, want, f.ClientCertCRL(testkit.TempFile(t, "crl.pem", testkit.CRLFrom(t, testkit.CA(t, "root"), x509.RevocationList{RevokedCertificateEntries: testkit.Revoked(serial)}))).Status, "%d bytes", n)
		require.Equal(t, want != unusable, f.ClientCertNotOnCRL(testkit.PKI("crl.pem")), "%d bytes", n)
		require.Len(t, f.Peer().Chain[0].Serial, n)
	}
}

// Connections that check the same new file at the same time share one reading of it.
func TestCRLFirstReadingIsShared(t *testing.T) {
	const goroutines = 16
	list := make([]*big.Int, manySerials/10)
	for i := range list {
		list[i] = big.NewInt(int64(i) + 1<<32)
	}
	file := testkit.TempFile(t, "crl.pem", testkit.CRLFrom(t, testkit.CA(t, "root"), x509.RevocationList{RevokedCertificateEntries: testkit.Revoked(list...)})) // changed recently: without sharing, each connection would read and hash it
	f := visited(t, "client.crt")
	filters := []*sslfilter.Filter{f}
	for range goroutines - 1 {
		filters = append(filters, visited(t, "client.crt"))
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // or an unused list would be freed before it is counted
	before := sslfilter.LiveHandles()
	var asking sync.WaitGroup
	for _, f := range filters {
		asking.Go(func() {
			if status := f.ClientCertCRL(file).Status; status != notListed {
				t.Error(status)
			}
		})
	}
	asking.Wait()
	require.Equal(t, before+1, sslfilter.LiveHandles())
}

// Only a regular file can be a CRL. A device may have no end, a pipe cannot be read
// twice, and a pipe without a writer would block NewCtx and every check.
func TestCRLOnlyRegularFiles(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	f := visited(t, "client.crt")
	for _, file := range []string{fifo, "/dev/zero", "/dev/null"} {
		answer := make(chan sslfilter.CRLResult, 1)
		go func() { answer <- f.ClientCertCRL(file) }()
		select {
		case r := <-answer:
			require.Equal(t, unusable, r.Status, file)
			require.ErrorContains(t, r.Err, "not a regular file", file)
		case <-time.After(testkit.Patience):
			require.Fail(t, "blocked", file)
		}
		_, err := sslfilter.NewCtx(testkit.Asking(crl(file)))
		require.Equal(t, "CACRL", testkit.As[*sslfilter.OptionError](t, err).Option, file)
	}
}
