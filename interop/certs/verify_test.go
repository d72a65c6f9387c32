// Package certs_test holds our verdict on certificates and CRLs to that of
// "openssl verify" of the same OpenSSL.
package certs_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/derpki"
	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// row is one chain, and what is asked of it.
type row struct {
	name  string
	sent  [][]byte    // leaf first
	key   *derpki.Key // of the leaf
	roots [][]byte
	crls  [][]byte
	check sslfilter.CRLCheck
	depth int // CAVerifyDepth
	level int // security level

	// differs says why the two answers are not the same; then ours is want.
	differs string
	want    answer
}

// issue is one error at one depth.
type issue struct{ code, depth int }

// answer is what somebody says of a chain.
type answer struct {
	unusable bool // it cannot even be read
	valid    bool
	issues   []issue // in order
}

const hostname = "leaf.test"

// goesOn are the errors after which "openssl verify" looks further, as we do
// when we only record. After any other its list ends.
var goesOn = []int{10, 11, 12, 18, 24, 25, 26, 34, 37}

// agree reports whether theirs, which may end early, is ours.
func agree(ours, theirs answer) bool {
	n := len(theirs.issues)
	switch {
	case ours.unusable || theirs.unusable:
		return ours.unusable == theirs.unusable
	case ours.valid != theirs.valid || n > len(ours.issues) || !slices.Equal(ours.issues[:n], theirs.issues):
		return false
	case n < len(ours.issues):
		return n > 0 && !slices.Contains(goesOn, theirs.issues[n-1].code)
	}
	return true
}

// side is who verifies whom.
type side struct {
	name    string
	purpose string
	client  bool // we are
}

var sides = []side{{"server verifies client", "sslclient", false}, {"client verifies server", "sslserver", true}}

func TestVerdictsAreThoseOfOpenSSL(t *testing.T) {
	openssl := sameOpenSSL(t)
	own := ownCertificate()
	all := append(chainRows(), crlRows()...)
	slices.SortFunc(all, func(a, b row) int { return strings.Compare(a.name, b.name) })
	names := make(map[string]bool)
	for _, r := range all {
		require.False(t, names[r.name], "two rows are called %q", r.name)
		names[r.name] = true
	}
	t.Logf("%d rows, each on both sides", len(all))
	for i, r := range all {
		for _, s := range sides {
			t.Run(r.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				highest := sslfilter.VersionTLS13
				if i%2 == 1 {
					highest = sslfilter.VersionTLS12
				}
				theirs, output := openssl.verify(t, r, s, false)
				ours := verdict(t, r, s, own, highest, false)
				strict := verdict(t, r, s, own, highest, true)
				if r.differs != "" {
					require.False(t, agree(ours, theirs), "this row has a reason to differ, and does not: %s\n%s", r.differs, output)
					require.Equal(t, r.want, ours, r.differs)
					require.Equal(t, r.want.valid, strict.valid)
					return
				}
				require.True(t, agree(ours, theirs), "ours %+v\nopenssl %+v\n%s", ours, theirs, output)
				if !s.client { // who enforces stops at the first error
					require.Equal(t, theirs.valid, strict.valid)
					require.Equal(t, first(theirs), first(strict))
					return
				}
				named, output := openssl.verify(t, r, s, true) // and a client compares the name too
				require.Equal(t, named.valid, strict.valid, "%s", output)
				require.Equal(t, first(named), first(strict), "%s", output)
			})
		}
	}
}

// first is the first error, if there is one.
func first(a answer) []issue { return a.issues[:min(1, len(a.issues))] }

// verdict joins a Filter with crypto/tls, which sends whatever it is given.
func verdict(t *testing.T, r row, s side, own [][]byte, highest sslfilter.Version, strict bool) answer {
	t.Helper()
	o := sslfilter.Options{
		Client: s.client, CACrtMem: [][]byte{derpki.PEM("CERTIFICATE", r.roots...)}, CAVerifyDepth: r.depth,
		CRLCheck: r.check, MaxVersion: highest, Cipher: fmt.Sprintf("DEFAULT@SECLEVEL=%d", r.level),
	}
	if r.check != sslfilter.CRLCheckOff {
		o.CRLMem = [][]byte{derpki.PEM("X509 CRL", r.crls...)}
	}
	if s.client {
		o.ServerName, o.InsecureSkipVerify = hostname, !strict
	} else {
		o.CrtMem, o.KeyMem, o.ClientCert, o.RequireValidClientCert = own[0], own[1], true, strict
	}
	f, err := sslfilter.New(o)
	if err != nil {
		var option *sslfilter.OptionError
		require.True(t, errors.As(err, &option), "%v", err)
		return answer{unusable: true}
	}
	defer f.Close()
	cert := tls.Certificate{Certificate: r.sent, PrivateKey: r.key.Signer}
	config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if s.client {
		config.Certificates = []tls.Certificate{cert}
	} else {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	meet(f, config, s.client)
	survives(t, f)
	var a answer
	for _, id := range f.ClientCertIDs() {
		if id.Err != sslfilter.VerifyOK {
			a.issues = append(a.issues, issue{int(id.Err), id.Depth})
		}
	}
	a.valid = f.ClientCertValid()
	a.unusable = !f.ClientCertExists()
	require.True(t, f.HandshakeDone() || f.Err() != nil)
	var refused *sslfilter.VerifyError
	if strict && errors.As(f.Err(), &refused) && !a.unusable {
		require.Equal(t, []issue{{int(refused.Code), refused.Depth}}, first(a))
	}
	return a
}

// survives asks everything that looks into a certificate.
func survives(t *testing.T, f *sslfilter.Filter) {
	t.Helper()
	peer := f.Peer()
	require.Equal(t, f.ClientCertValid(), peer.Valid)
	require.NotEmpty(t, peer.String())
	require.NotEmpty(t, peer.CRLCheck.String())
	if peer.Valid {
		require.True(t, peer.CRLCheck.OK())
	}
	for i := range peer.Chain {
		peer.Chain[i].Parse() // an error, or none; no panic
		require.NotEmpty(t, peer.Chain[i].DER)
	}
	f.CheckCRL("no-such-file.pem")
}

// meet makes a handshake between f and crypto/tls.
func meet(f *sslfilter.Filter, config *tls.Config, client bool) {
	toPeer, fromPeer := make(chan []byte, 1024), make(chan []byte, 1024)
	var peer sync.WaitGroup
	defer peer.Wait()
	defer close(toPeer)
	peer.Go(func() {
		defer close(fromPeer)
		conn := tls.Client(&end{in: toPeer, out: fromPeer}, config)
		if client {
			conn = tls.Server(&end{in: toPeer, out: fromPeer}, config)
		}
		if conn.Handshake() == nil {
			io.Copy(io.Discard, conn)
		}
	})
	f.Handshake()
	for {
		if out := f.Outgoing(nil); len(out) > 0 {
			toPeer <- out
		}
		if f.HandshakeDone() || f.Err() != nil {
			return
		}
		in, ok := <-fromPeer
		if !ok {
			f.ReceiveEOF()
			return
		}
		f.Receive(nil, in)
	}
}

// end is the peer's end of a connection in memory.
type end struct {
	in   <-chan []byte
	out  chan<- []byte
	rest []byte
}

func (e *end) Read(p []byte) (int, error) {
	for len(e.rest) == 0 {
		var ok bool
		if e.rest, ok = <-e.in; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

func (e *end) Write(p []byte) (int, error) {
	e.out <- bytes.Clone(p)
	return len(p), nil
}

func (*end) Close() error                     { return nil }
func (*end) LocalAddr() net.Addr              { return nil }
func (*end) RemoteAddr() net.Addr             { return nil }
func (*end) SetDeadline(time.Time) error      { return nil }
func (*end) SetReadDeadline(time.Time) error  { return nil }
func (*end) SetWriteDeadline(time.Time) error { return nil }

// program is an openssl command.
type program struct {
	path     string
	noStores []string // flags that keep the system's CAs out
}

// sameOpenSSL is the command of the OpenSSL that is linked in: that of the
// system, or the one that scripts/mkssl.sh put beside a private library.
func sameOpenSSL(t *testing.T) program {
	t.Helper()
	candidates := []string{peers.Find(t, "openssl", "openssl")}
	if conf := os.Getenv("OPENSSL_CONF"); conf != "" { // DIR/ssl/etc/ssl/openssl.cnf or DIR/fips.cnf
		for dir := filepath.Dir(conf); len(dir) > 1; dir = filepath.Dir(dir) {
			candidates = append(candidates, filepath.Join(dir, "openssl"))
		}
	}
	var seen []string
	for _, path := range candidates {
		out, err := exec.Command(path, "version").Output()
		if err != nil {
			continue
		}
		version := strings.TrimSpace(string(out))
		linked := version // "OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)"
		if _, library, ok := strings.Cut(version, "(Library: "); ok {
			linked = strings.TrimSuffix(library, ")")
		}
		if linked == sslfilter.OpenSSLVersion() {
			p := program{path: path, noStores: []string{"-no-CApath"}}
			if !strings.Contains(linked, " 1.1.1") {
				p.noStores = append(p.noStores, "-no-CAstore")
			}
			return p
		}
		seen = append(seen, path+" is "+version)
	}
	t.Skipf("no openssl command of %s: %s", sslfilter.OpenSSLVersion(), strings.Join(seen, ", "))
	return program{}
}

var errorLine = regexp.MustCompile(`(?m)^(?:\[CRL path\] ?)?error (\d+) at (\d+) depth lookup`)

// verify asks "openssl verify" with the same options.
func (p program) verify(t *testing.T, r row, s side, name bool) (answer, string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, kind string, ders ...[]byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, derpki.PEM(kind, ders...), 0o600))
		return path
	}
	depth := r.depth
	if depth == 0 {
		depth = 5
	}
	args := append([]string{"verify"}, p.noStores...)
	args = append(args, "-purpose", s.purpose, "-auth_level", strconv.Itoa(r.level), "-verify_depth", strconv.Itoa(depth),
		"-CAfile", file("roots.pem", "CERTIFICATE", r.roots...), "-untrusted", file("sent.pem", "CERTIFICATE", r.sent...))
	switch r.check {
	case sslfilter.CRLCheckLeaf:
		args = append(args, "-crl_check")
	case sslfilter.CRLCheckChain:
		args = append(args, "-crl_check_all")
	}
	if r.check != sslfilter.CRLCheckOff {
		args = append(args, "-CRLfile", file("crls.pem", "X509 CRL", r.crls...))
	}
	if name {
		args = append(args, "-verify_hostname", hostname)
	}
	out, err := exec.Command(p.path, append(args, file("leaf.pem", "CERTIFICATE", r.sent[0]))...).CombinedOutput()
	var failed *exec.ExitError
	require.True(t, err == nil || errors.As(err, &failed), "%v", err)
	a := answer{valid: err == nil}
	for _, m := range errorLine.FindAllSubmatch(out, -1) {
		code, _ := strconv.Atoi(string(m[1]))
		depth, _ := strconv.Atoi(string(m[2]))
		a.issues = append(a.issues, issue{code, depth})
	}
	a.unusable = err != nil && len(a.issues) == 0
	if !a.unusable {
		require.Equal(t, a.valid, len(a.issues) == 0, "%s", out)
	}
	return a, string(out)
}
