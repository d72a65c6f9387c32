package sslfilter_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// checking sets CRLCheck with these files of the test PKI.
func checking(check sslfilter.CRLCheck, files ...string) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) {
		o.CRLCheck = check
		for _, f := range files {
			o.CRLFiles = append(o.CRLFiles, testkit.PKI(f))
		}
	}
}

// both applies two changes.
func both(a, b func(*sslfilter.Options)) func(*sslfilter.Options) {
	return func(o *sslfilter.Options) { a(o); b(o) }
}

func allowMissing(o *sslfilter.Options) { o.AllowMissingCRL = true }
func allowExpired(o *sslfilter.Options) { o.AllowExpiredCRL = true }

// inMem replaces CRLFiles by CRLMem with the same lists.
func inMem(t testing.TB, o sslfilter.Options) sslfilter.Options {
	t.Helper()
	for _, f := range o.CRLFiles {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		o.CRLMem = append(o.CRLMem, data)
	}
	o.CRLFiles = nil
	return o
}

// crlPolicy is the expected result of CRLCheck for one client.
type crlPolicy struct {
	name    string
	crt     string
	change  func(*sslfilter.Options)
	status  sslfilter.CRLStatus
	code    sslfilter.VerifyCode // of the refused handshake; 0 if it is accepted
	depth   int
	ignored bool
}

func crlPolicies() []crlPolicy {
	const (
		leaf, chain = sslfilter.CRLCheckLeaf, sslfilter.CRLCheckChain
		inter       = "client-inter-chain.pem"
	)
	ok := func(o *sslfilter.Options) {}
	return []crlPolicy{
		{"not listed", "client.crt", checking(leaf, "crl.pem"), notListed, 0, 0, false},
		{"listed", "client-revoked.crt", checking(leaf, "crl.pem"), isListed, 23, 0, false},
		{"listed in the second file", "client-revoked.crt", checking(leaf, "crl-other.pem", "crl.pem"), isListed, 23, 0, false},
		{"listed in the second list of a file", "client-revoked.crt", checking(leaf, "crl-multi-other-first.pem"), isListed, 23, 0, false},
		{"listed, and ignored", "client-revoked.crt", both(checking(leaf, "crl.pem"), ignoring(23)), isListed, 0, 0, true},
		{"a list without entries", "client.crt", checking(leaf, "crl-empty.pem"), notListed, 0, 0, false},
		{"same serial on a list of another CA", "client-cabad.crt", checking(leaf, "crl-other.pem", "crl.pem"), notListed, 0, 0, false},
		{"missing", "client.crt", checking(leaf, "crl-other.pem"), sslfilter.CRLMissing, 3, 0, false},
		{"missing, and allowed", "client.crt", both(checking(leaf, "crl-other.pem"), allowMissing), sslfilter.CRLMissing, 0, 0, true},
		{"missing, and expired ones are allowed", "client.crt", both(checking(leaf, "crl-other.pem"), allowExpired), sslfilter.CRLMissing, 3, 0, false},
		{"expired", "client.crt", checking(leaf, "crl-expired.pem"), sslfilter.CRLExpired, 12, 0, false},
		{"expired, and allowed", "client.crt", both(checking(leaf, "crl-expired.pem"), allowExpired), sslfilter.CRLExpired, 0, 0, true},
		{"expired, and missing ones are allowed", "client.crt", both(checking(leaf, "crl-expired.pem"), allowMissing), sslfilter.CRLExpired, 12, 0, false},
		{"expired, allowed, and listed", "client-revoked.crt", both(checking(leaf, "crl-expired.pem"), allowExpired), isListed, 23, 0, false},
		{"expired, and a newer one beside it", "client.crt", checking(leaf, "crl-expired.pem", "crl.pem"), notListed, 0, 0, false},
		{"bad signature", "client.crt", checking(leaf, "crl-badsig.pem"), sslfilter.CRLInvalid, 8, 0, false},
		{"bad signature, all allowed", "client.crt", both(checking(leaf, "crl-badsig.pem"), both(allowMissing, allowExpired)), sslfilter.CRLInvalid, 8, 0, false},
		{"leaf below an intermediate", inter, checking(leaf, "crl-inter-empty.pem"), notListed, 0, 0, false},
		{"leaf, and the list of the root alone", inter, checking(leaf, "crl.pem"), sslfilter.CRLMissing, 3, 0, false},
		{"chain", inter, checking(chain, "crl-inter-empty.pem", "crl.pem"), notListed, 0, 0, false},
		{"chain, and no list of the root", inter, checking(chain, "crl-inter-empty.pem"), sslfilter.CRLMissing, 3, 1, false},
		{"chain, and no list of the intermediate", inter, checking(chain, "crl.pem"), sslfilter.CRLMissing, 3, 0, false},
		{"chain, and missing ones are allowed", inter, both(checking(chain, "crl.pem"), allowMissing), sslfilter.CRLMissing, 0, 0, true},
		{"intermediate listed, leaf asked", inter, checking(leaf, "crl-inter-empty.pem", "crl-all.pem"), notListed, 0, 0, false},
		{"intermediate listed", inter, checking(chain, "crl-inter-empty.pem", "crl-all.pem"), isListed, 23, 1, false},
		{"intermediate listed, leaf's missing and allowed", inter, both(checking(chain, "crl-all.pem"), allowMissing), isListed, 23, 1, false},
		{"another error", "client-expired.crt", checking(leaf, "crl.pem"), notListed, 10, 0, false},
		{"unknown CA", "client-unknown.crt", both(checking(leaf, "crl.pem"), ok), sslfilter.CRLMissing, 20, 0, false},
		{"serials beside it", "client.crt", both(checking(leaf, "crl-empty.pem"), crl(testkit.PKI("crl-empty.pem"))), notListed, 3, 1, false},
	}
}

func TestCRLCheckPolicies(t *testing.T) {
	for _, c := range crlPolicies() {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				for form, o := range map[string]sslfilter.Options{
					"files":  testkit.Asking(c.change),
					"memory": inMem(t, testkit.Asking(c.change)),
				} {
					o.MaxVersion = highest
					f := testkit.Connect(t, o, testkit.Showing(c.crt, "")).Server.Filter
					peer := f.Peer()
					require.Equal(t, c.status, peer.CRLCheck.Status, "%s: %v", form, peer)
					require.Equal(t, c.ignored, peer.CRLCheck.Ignored, form)
					require.Equal(t, c.status == notListed || c.ignored, peer.CRLCheck.OK(), form)
					require.Equal(t, c.code == 0, f.ClientCertValid(), "%s: %v", form, peer)
					require.Equal(t, c.code == 0, peer.Valid, form)
					require.NotEmpty(t, peer.CRLCheck.String())
					if c.status == isListed {
						require.NotEmpty(t, peer.CRLCheck.Serial)
					}
					if c.status != notListed {
						require.NotEmpty(t, peer.CRLCheck.Subject)
						testkit.As[*sslfilter.VerifyError](t, peer.CRLCheck.Err)
					}
					if c.code == 0 && c.status != notListed { // the verdict contains the ignored error
						require.NotEmpty(t, peer.Errors)
						require.True(t, peer.Errors[0].Ignored)
					}
					o.RequireValidClientCert = true
					p := testkit.NewPair(t, o, testkit.Showing(c.crt, ""))
					p.Handshake()
					require.Equal(t, c.code == 0, p.Server.ClientCertValid(), form)
					require.Equal(t, c.code == 0, p.Server.Filter.Err() == nil, form)
					if c.code != 0 {
						refusal := testkit.As[*sslfilter.VerifyError](t, p.Server.Filter.Err())
						require.Equal(t, c.code, refusal.Code, form)
						require.Equal(t, c.depth, refusal.Depth, form)
					}
				}
			})
		})
	}
}

// A client checks the server's certificate in the same way.
func TestCRLCheckOnAClient(t *testing.T) {
	listing := testkit.TempFile(t, "crl.pem", testkit.CRL(t, 0x1001))
	at := func(file string, change func(*sslfilter.Options)) sslfilter.Options {
		return testkit.Client(func(o *sslfilter.Options) {
			o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckChain, []string{file}
			if change != nil {
				change(o)
			}
		})
	}
	for _, c := range []struct {
		name   string
		client sslfilter.Options
		code   sslfilter.VerifyCode
	}{
		{"not listed", at(testkit.PKI("crl.pem"), nil), 0},
		{"listed", at(listing, nil), 23},
		{"missing", at(testkit.PKI("crl-inter-empty.pem"), nil), 3},
		{"missing, and allowed", at(testkit.PKI("crl-inter-empty.pem"), allowMissing), 0},
		{"expired", at(testkit.PKI("crl-expired.pem"), nil), 12},
		{"expired, and allowed", at(testkit.PKI("crl-expired.pem"), allowExpired), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.EachVersion(t, func(t *testing.T, highest sslfilter.Version) {
				p := testkit.NewPair(t, testkit.Server(testkit.UpTo(highest)), c.client)
				p.Handshake()
				require.Equal(t, c.code == 0, p.Client.ClientCertValid())
				if c.code == 0 {
					require.NoError(t, p.Client.Filter.Err())
					return
				}
				require.Equal(t, c.code, testkit.As[*sslfilter.VerifyError](t, p.Client.Filter.Err()).Code)
				lenient := testkit.With(c.client, func(o *sslfilter.Options) { o.InsecureSkipVerify = true })
				f := testkit.Connect(t, testkit.Server(), lenient).Client.Filter
				require.False(t, f.ClientCertValid())
				require.False(t, f.Peer().CRLCheck.OK())
			})
		})
	}
	f := testkit.Connect(t, testkit.Server(), testkit.Client()).Client.Filter
	require.Equal(t, sslfilter.CRLNotAsked, f.Peer().CRLCheck.Status)
	require.True(t, f.Peer().CRLCheck.OK())
}

// Before the lists were checked, the result is not "not listed".
func TestCRLCheckNotReached(t *testing.T) {
	o := testkit.Asking(checking(sslfilter.CRLCheckLeaf, "crl.pem"))
	require.Equal(t, sslfilter.CRLNoCertificate, testkit.Filter(t, o).Peer().CRLCheck.Status)
	none := testkit.Connect(t, o, testkit.Client()).Server.Filter
	require.Equal(t, sslfilter.CRLNoCertificate, none.Peer().CRLCheck.Status)
	require.False(t, none.Peer().CRLCheck.OK())
	refused := testkit.NewPair(t, testkit.Requiring(checking(sslfilter.CRLCheckLeaf, "crl.pem")), testkit.Showing("client-unknown.crt", ""))
	require.Error(t, refused.Handshake())
	require.Equal(t, sslfilter.CRLNotReached, refused.Server.Peer().CRLCheck.Status)
	require.False(t, refused.Server.Peer().CRLCheck.OK())
}

// A context uses a renewed file from the next handshake on. If the file is missing or
// broken, every certificate is rejected, with the reason.
func TestCRLCheckFilesChange(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crl.pem")
	without, listing := testkit.CRL(t, 0x2002), testkit.CRL(t, 0x2001)
	write := func(data []byte) {
		t.Helper()
		require.NoError(t, os.WriteFile(file+".new", data, 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	write(without)
	change := func(o *sslfilter.Options) {
		o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{testkit.PKI("crl-other.pem"), file}
		o.AllowMissingCRL = true // a file that cannot be read is not a missing CRL
		o.IgnoreVerifyErrors = []sslfilter.VerifyCode{sslfilter.VerifyUnableToGetCRL}
	}
	asks, requires, client := testkit.Ctx(t, testkit.Asking(change)), testkit.Ctx(t, testkit.Requiring(change)), testkit.Ctx(t, testkit.Showing("client.crt", ""))
	visit := func(server *sslfilter.Ctx) (*testkit.Pair, error) {
		p := testkit.PairOf(t, server, client)
		return p, p.Handshake()
	}
	check := func(status sslfilter.CRLStatus, code sslfilter.VerifyCode, reason error) {
		t.Helper()
		p, err := visit(asks)
		require.NoError(t, err, "a server that only asks accepts every client")
		got := p.Server.Peer()
		require.Equal(t, status, got.CRLCheck.Status, "%v", got)
		require.Equal(t, code == 0, got.Valid)
		require.Equal(t, code == 0, p.Server.ClientCertValid())
		p, err = visit(requires)
		require.Equal(t, code == 0, err == nil, "%v", err)
		if code != 0 {
			err = p.Server.Filter.Err()
			require.Equal(t, code, testkit.As[*sslfilter.VerifyError](t, err).Code)
			require.False(t, p.Server.ClientCertValid())
		}
		if status == unusable {
			require.Equal(t, file, got.CRLCheck.File)
			require.ErrorContains(t, err, file)
			require.Contains(t, got.String(), file)
		}
		if reason != nil {
			require.ErrorIs(t, got.CRLCheck.Err, reason)
		}
	}
	check(notListed, 0, nil)
	old, err := visit(asks)
	require.NoError(t, err)
	for range 5 {
		write(listing)
		check(isListed, 23, nil)
		write(without)
		check(notListed, 0, nil)
	}
	write(listing)
	require.True(t, old.Server.ClientCertValid(), "the verdict of the handshake does not change")
	require.NoError(t, os.Remove(file))
	check(unusable, 3, fs.ErrNotExist)
	write([]byte("no CRL"))
	check(unusable, 3, nil)
	write(listing[:len(listing)/2])
	check(unusable, 3, nil)
	write(without)
	check(notListed, 0, nil)
	require.NoError(t, os.Chtimes(file, time.Unix(1e9, 0), time.Unix(1e9, 0))) // so old that the file is not read again
	check(notListed, 0, nil)
	check(notListed, 0, nil)
}

// One context may have more files than the cache of the process has room for.
func TestCRLCheckManyFiles(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i := range 40 {
		files = append(files, filepath.Join(dir, fmt.Sprint(i)))
		require.NoError(t, os.WriteFile(files[i], testkit.PKIBytes(t, "crl-other.pem"), 0o600))
	}
	server := testkit.Ctx(t, testkit.Asking(func(o *sslfilter.Options) { o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, files }))
	client := testkit.Ctx(t, testkit.Showing("client.crt", ""))
	status := func() sslfilter.CRLStatus {
		p := testkit.PairOf(t, server, client)
		require.NoError(t, p.Handshake())
		return p.Server.Peer().CRLCheck.Status
	}
	require.Equal(t, sslfilter.CRLMissing, status())
	for _, i := range []int{0, 39} {
		require.NoError(t, os.WriteFile(files[i], testkit.PKIBytes(t, "crl.pem"), 0o600))
		require.Equal(t, notListed, status())
		require.NoError(t, os.WriteFile(files[i], testkit.PKIBytes(t, "crl-other.pem"), 0o600))
		require.Equal(t, sslfilter.CRLMissing, status())
	}
}

// Any number of goroutines use one context while its file is replaced.
func TestCRLCheckConcurrentRenewal(t *testing.T) {
	const goroutines, rounds = 8, 20
	file := testkit.TempFile(t, "crl.pem", testkit.PKIBytes(t, "crl.pem"))
	server := testkit.Ctx(t, testkit.Requiring(func(o *sslfilter.Options) { o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{file} }))
	good, revoked := testkit.Ctx(t, testkit.Showing("client.crt", "")), testkit.Ctx(t, testkit.Showing("client-revoked.crt", ""))
	var visiting sync.WaitGroup
	for i := range goroutines {
		client, code := good, sslfilter.VerifyOK
		if i%2 == 1 {
			client, code = revoked, sslfilter.VerifyCertRevoked
		}
		visiting.Go(func() {
			for range rounds {
				c, err := client.NewFilter()
				s, err2 := server.NewFilter()
				if err != nil || err2 != nil {
					t.Error(err, err2)
					return
				}
				p := testkit.Join(s, c)
				p.Handshake()
				var refusal *sslfilter.VerifyError
				if errors.As(s.Err(), &refusal) != (code != 0) || refusal != nil && refusal.Code != code {
					t.Errorf("goroutine %d: %v", i, s.Err())
				}
				p.Close()
			}
		})
	}
	stop := make(chan struct{})
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			data := append(testkit.PKIBytes(t, "crl.pem"), fmt.Sprintf("renewal %d\n", i)...)
			if err := os.WriteFile(file+".new", data, 0o600); err != nil {
				t.Error(err)
			}
			if err := os.Rename(file+".new", file); err != nil {
				t.Error(err)
			}
		}
	})
	visiting.Wait()
	close(stop)
	renewing.Wait()
}

// deltaIndicator marks a list as the delta of list 1 (RFC 5280 section 5.2.4).
var deltaIndicator = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}

// issuingPoint returns an issuing distribution point (RFC 5280 section 5.2.5) with one field.
func issuingPoint(tag byte, content ...byte) pkix.Extension {
	n := byte(len(content))
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true,
		Value: append([]byte{0x30, n + 2, 0x80 | tag, n}, content...)}
}

// ofList sets CRLCheck with a list that has this extension.
func ofList(t testing.TB, e pkix.Extension) func(*sslfilter.Options) {
	list := testkit.CRLFrom(t, testkit.CA(t, "root"), x509.RevocationList{ExtraExtensions: []pkix.Extension{e}})
	return func(o *sslfilter.Options) { o.CRLCheck, o.CRLMem = sslfilter.CRLCheckLeaf, [][]byte{list} }
}

// A list that contains only user certificates is complete for these.
func TestCRLCheckScopes(t *testing.T) {
	for _, c := range []struct {
		name   string
		scope  pkix.Extension
		status sslfilter.CRLStatus
	}{
		{"onlyContainsUserCerts", issuingPoint(1, 0xff), notListed},
		{"onlyContainsCACerts", issuingPoint(2, 0xff), sslfilter.CRLInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := testkit.Connect(t, testkit.Asking(ofList(t, c.scope)), testkit.Showing("client.crt", "")).Server.Filter
			require.Equal(t, c.status, f.Peer().CRLCheck.Status, "%v", f.Peer())
			require.Equal(t, c.status == notListed, f.ClientCertValid())
		})
	}
}

// In a FIPS context, the FIPS provider verifies the signatures of the lists.
func TestCRLCheckUnderFIPS(t *testing.T) {
	change := both(checking(sslfilter.CRLCheckChain, "crl-other.pem", "crl.pem"), func(o *sslfilter.Options) {
		o.FIPS, o.FIPSConfig = true, testkit.FIPSConfig(t)
	})
	for crt, code := range map[string]sslfilter.VerifyCode{"client.crt": 0, "client-revoked.crt": 23} {
		for form, o := range map[string]sslfilter.Options{"files": testkit.Requiring(change), "memory": inMem(t, testkit.Requiring(change))} {
			p := testkit.NewPair(t, o, testkit.Showing(crt, ""))
			p.Handshake()
			require.Equal(t, code == 0, p.Server.ClientCertValid(), "%s, %s: %v", crt, form, p.Server.Filter.Err())
			if code != 0 {
				require.Equal(t, code, testkit.As[*sslfilter.VerifyError](t, p.Server.Filter.Err()).Code)
			}
		}
	}
}

// The reason removeFromCRL belongs to delta lists. In a complete list, CACRL counts such
// an entry like any other, as the original does, and CRLCheck ignores it, as OpenSSL does.
func TestCRLCheckRemoveFromCRL(t *testing.T) {
	const removeFromCRL = 8
	entries := testkit.Revoked(big.NewInt(0x2001))
	entries[0].ReasonCode = removeFromCRL
	list := testkit.CRLFrom(t, testkit.CA(t, "root"), x509.RevocationList{RevokedCertificateEntries: entries})
	file := testkit.TempFile(t, "crl.pem", list)
	checked := testkit.Connect(t, testkit.Asking(func(o *sslfilter.Options) { o.CRLCheck, o.CRLFiles = sslfilter.CRLCheckLeaf, []string{file} }), testkit.Showing("client.crt", "")).Server
	require.True(t, checked.ClientCertValid())
	require.Equal(t, notListed, checked.Peer().CRLCheck.Status)
	require.Equal(t, isListed, checked.ClientCertCRL(file).Status)
	require.False(t, testkit.Connect(t, testkit.Asking(crl(file)), testkit.Showing("client.crt", "")).Server.ClientCertValid())
}
