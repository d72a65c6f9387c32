// Package certs_test compares our verdicts on certificates and CRLs with those of
// "openssl verify" of the same OpenSSL.
package certs_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
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

// row is one chain and the options with which it is verified.
type row struct {
	name  string
	sent  [][]byte    // leaf first
	key   *derpki.Key // of the leaf
	roots [][]byte
	crls  [][]byte
	check sslfilter.CRLCheck
	depth int // CAVerifyDepth
	level int // security level

	bothSides bool // if false, one side is chosen by the name of the row, because each command is slow
	tls12     bool // if false, the version is chosen by the name of the row
	together  bool // the result of sociable

	// differs says why the two answers may differ. Our answer must then be want.
	// differsFor is the purpose to which this applies; empty means both.
	differs, differsFor string
	want                answer
}

// issue is one error at one depth.
type issue struct{ code, depth int }

// answer is the verdict of one side on a chain.
type answer struct {
	unusable bool // it cannot be parsed
	valid    bool
	issues   []issue // in order
}

const hostname = "leaf.test"

// goesOn lists the errors after which "openssl verify" continues, as we do when we
// only record errors. After any other error its list ends.
var goesOn = []int{10, 11, 12, 18, 24, 25, 26, 34, 37}

// agree reports whether the two answers are the same. theirs may end early.
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

// side says which end verifies the other.
type side struct {
	name    string
	purpose string
	client  bool // we are
}

var everything = flag.Bool("all", false, "verify every row on both sides")

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
	if testing.Short() { // with a sanitizer, and with each of several versions of OpenSSL
		some := all[:0:0]
		for i := 0; i < len(all); i += 5 {
			some = append(some, all[i])
		}
		all = some
	}
	groups := make(map[group][]row)
	for i := range all {
		all[i].together = all[i].sociable()
		r := all[i]
		if !r.together {
			continue
		}
		for _, s := range sides {
			g := group{s, false, r.check, r.depth, r.level}
			groups[g] = append(groups[g], r)
			if g.name = true; s.client {
				groups[g] = append(groups[g], r)
			}
		}
	}
	many := make(map[group]map[string]answer)
	for g, rows := range groups {
		many[g] = openssl.verifyMany(t, rows, g.side, g.name)
	}
	verifications, alone := 0, 0
	// ask returns the answer of the command, from a group if want accepts that.
	ask := func(t *testing.T, r row, s side, name bool, want func(answer) bool) (answer, string) {
		if a, ok := many[group{s, name, r.check, r.depth, r.level}][r.name]; ok && want(a) {
			return a, ""
		}
		return openssl.verify(t, r, s, name)
	}
	for _, r := range all {
		highest := sslfilter.VersionTLS13
		if r.tls12 || r.id()[0] < '8' {
			highest = sslfilter.VersionTLS12
		}
		for i, s := range sides {
			if !*everything && !r.bothSides && r.differs == "" && int(r.id()[1]&1) != i {
				continue
			}
			verifications++
			if !r.together {
				alone++
			}
			t.Run(r.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				ours := verdict(t, r, s, own, highest, false)
				theirs, output := ask(t, r, s, false, func(a answer) bool { return agree(ours, a) })
				strict := verdict(t, r, s, own, highest, true)
				if r.differs != "" && (r.differsFor == "" || r.differsFor == s.purpose) {
					if agree(ours, theirs) {
						t.Logf("no difference in this version: %s", r.differs)
					}
					require.Equal(t, r.want, ours, r.differs)
					require.False(t, strict.valid && !r.want.valid)
					return
				}
				if ours.unusable && !theirs.unusable && openssl.leavesOut(t, r) { // later versions read less than 3.0
					require.False(t, strict.valid)
					return
				}
				require.True(t, agree(ours, theirs), "ours %+v\nopenssl %+v\n%s", ours, theirs, output)
				if !s.client || !r.bothSides && !r.together { // a side that enforces stops at the first error
					if s.client && slices.ContainsFunc(strict.issues, isName) { // a name that was not to be checked
						return
					}
					require.Equal(t, theirs.valid, strict.valid)
					require.Equal(t, first(theirs), first(strict))
					return
				}
				named, output := ask(t, r, s, true, func(a answer) bool { // a client also compares the name
					return a.valid == strict.valid && slices.Equal(first(a), first(strict))
				})
				require.Equal(t, named.valid, strict.valid, "%s", output)
				require.Equal(t, first(named), first(strict), "%s", output)
			})
		}
	}
	t.Logf("%d rows, %d verifications, of them %d by a command of their own and the others in %d groups", len(all), verifications, alone, len(groups))
}

func isName(i issue) bool { return i.code == int(sslfilter.VerifyHostnameMismatch) }

// first returns the first error, if there is one.
func first(a answer) []issue { return a.issues[:min(1, len(a.issues))] }

// verdict connects a Filter with crypto/tls, which sends any certificates that it is
// given.
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

// survives calls every function that examines a certificate.
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
		peer.Chain[i].Parse() // it may return an error, but must not panic
		require.NotEmpty(t, peer.Chain[i].DER)
	}
	f.ClientCertCRL("no-such-file.pem")
}

// meet does a handshake between f and crypto/tls.
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

// end is the end of the peer in a connection in memory.
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

// sameOpenSSL returns the openssl command of the OpenSSL that is linked in: the
// command of the system, or the one that scripts/mkssl.sh installed with a private
// library.
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
	peers.SkipUnless(t, "openssl", "the openssl command of "+sslfilter.OpenSSLVersion(),
		"install the one that belongs to the library; "+strings.Join(seen, ", "))
	return program{}
}

var errorLine = regexp.MustCompile(`(?m)^(?:\[CRL path\] ?)?error (\d+) at (\d+) depth lookup`)

// files writes the files to verify.
type files struct {
	t   *testing.T
	dir string
}

func (f files) write(name, kind string, ders ...[]byte) string {
	path := filepath.Join(f.dir, name)
	require.NoError(f.t, os.WriteFile(path, derpki.PEM(kind, ders...), 0o600))
	return path
}

// arguments returns the arguments of "openssl verify" for rows with the same options.
func (p program) arguments(f files, rows []row, s side, name bool) []string {
	r := rows[0]
	depth := r.depth
	if depth == 0 {
		depth = 5
	}
	var roots, sent, crls [][]byte
	for _, r := range rows {
		roots, sent, crls = append(roots, r.roots...), append(sent, r.sent...), append(crls, r.crls...)
	}
	args := append([]string{"verify"}, p.noStores...)
	args = append(args, "-purpose", s.purpose, "-auth_level", strconv.Itoa(r.level), "-verify_depth", strconv.Itoa(depth),
		"-CAfile", f.write("roots.pem", "CERTIFICATE", roots...), "-untrusted", f.write("sent.pem", "CERTIFICATE", sent...))
	switch r.check {
	case sslfilter.CRLCheckLeaf:
		args = append(args, "-crl_check")
	case sslfilter.CRLCheckChain:
		args = append(args, "-crl_check_all")
	}
	if r.check != sslfilter.CRLCheckOff {
		args = append(args, "-CRLfile", f.write("crls.pem", "X509 CRL", crls...))
	}
	if name {
		args = append(args, "-verify_hostname", hostname)
	}
	return args
}

func (p program) run(t *testing.T, args []string) (output []byte, ok bool) {
	t.Helper()
	output, err := exec.Command(p.path, args...).CombinedOutput()
	var failed *exec.ExitError
	require.True(t, err == nil || errors.As(err, &failed), "%v", err)
	return output, err == nil
}

// verify runs "openssl verify" with the same options.
func (p program) verify(t *testing.T, r row, s side, name bool) (answer, string) {
	t.Helper()
	f := files{t, t.TempDir()}
	args := p.arguments(f, []row{r}, s, name)
	out, ok := p.run(t, append(args, f.write("leaf.pem", "CERTIFICATE", r.sent[0])))
	a := answer{valid: ok}
	for _, m := range errorLine.FindAllSubmatch(out, -1) {
		a.issues = append(a.issues, issueOf(m[1], m[2]))
	}
	a.unusable = !ok && len(a.issues) == 0
	if !a.unusable {
		require.Equal(t, a.valid, len(a.issues) == 0, "%s", out)
	}
	return a, string(out)
}

// leavesOut reports whether one of the intermediates or lists cannot be parsed. TLS
// and this library then reject all of them, and "openssl verify" continues without
// that one.
func (p program) leavesOut(t *testing.T, r row) bool {
	t.Helper()
	f := files{t, t.TempDir()}
	for _, der := range r.sent[1:] {
		if _, ok := p.run(t, []string{"x509", "-noout", "-in", f.write("cert.pem", "CERTIFICATE", der)}); !ok {
			return true
		}
	}
	for _, der := range r.crls {
		if _, ok := p.run(t, []string{"crl", "-noout", "-in", f.write("crl.pem", "X509 CRL", der)}); !ok {
			return true
		}
	}
	return false
}

func issueOf(code, depth []byte) (i issue) {
	i.code, _ = strconv.Atoi(string(code))
	i.depth, _ = strconv.Atoi(string(depth))
	return i
}

// Each error follows the name of its certificate.
var namedError = regexp.MustCompile(`(?m)^.*CN ?= ?[a-z 0-9]* ([0-9a-f]{8})\n(?:\[CRL path\] ?)?error (\d+) at (\d+) depth lookup`)

// verifyMany runs one command for all rows of one group, because starting a command
// costs more than a hundred verifications. The names in one row differ from those in
// every other row, so that their certificates do not mix. Rows that can have no answer
// here are left out.
func (p program) verifyMany(t *testing.T, rows []row, s side, name bool) map[string]answer {
	t.Helper()
	answers, ids := make(map[string]answer), make(map[string]string)
	f := files{t, t.TempDir()}
	args := p.arguments(f, rows, s, name)
	for _, r := range rows {
		ids[r.id()] = r.name
		args = append(args, f.write(r.id()+".pem", "CERTIFICATE", r.sent[0]))
	}
	require.Len(t, ids, len(rows))
	out, _ := p.run(t, args)
	for _, m := range namedError.FindAllSubmatch(out, -1) {
		row := ids[string(m[1])]
		a := answers[row]
		a.issues = append(a.issues, issueOf(m[2], m[3]))
		answers[row] = a
	}
	for id, row := range ids {
		if bytes.Contains(out, []byte(id+".pem: OK\n")) {
			require.NotContains(t, answers, row, "%s", out)
			answers[row] = answer{valid: true}
		}
	}
	return answers
}

// id returns the text that the names of a row's certificates contain.
func (r row) id() string {
	hash := fnv.New32a()
	hash.Write([]byte(r.name))
	return fmt.Sprintf("%08x", hash.Sum32())
}

func (r row) cn(cn string) []byte { return derpki.CN(cn + " " + r.id()) }

// sociable reports whether a row can be verified together with others: everything in
// it can be parsed and has names of its own.
func (r row) sociable() bool {
	for _, der := range append(slices.Clone(r.sent), r.roots...) {
		if _, err := x509.ParseCertificate(der); err != nil || bytes.Count(der, []byte(r.id())) < 2 {
			return false
		}
	}
	for _, der := range r.crls {
		if _, err := x509.ParseRevocationList(der); err != nil || !bytes.Contains(der, []byte(r.id())) {
			return false
		}
	}
	return r.differs == ""
}

// group has the properties that rows must share to be verified together.
type group struct {
	side         side
	name         bool
	check        sslfilter.CRLCheck
	depth, level int
}
