package live_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

const nssPackage = "libnss3-tools"

// nssPeer is tstclnt, which ends when the server has, and selfserv, a web server
// that sends back the request, up to 10 KB of it.
func nssPeer() *peer {
	const head = "HTTP/1.0 200 OK\r\nServer: Generic Web Server\r\nDate: Tue, 26 Aug 1997 22:10:05 GMT\r\nContent-type: text/plain\r\n\r\n"
	return &peer{
		name: "NSS", debian: nssPackage,
		version: func(t testing.TB) string {
			peers.Find(t, nssPackage, "tstclnt")
			return debianVersion(t, nssPackage)
		},
		client: nssClient,
		server: nssServer,
		quirks: quirks{
			waits:   true,
			asked:   func(b []byte) []byte { return []byte("GET / HTTP/1.0\r\n" + string(b[:125*64-1]) + "\r\n\r\n") },
			answers: func(b []byte) []byte { return []byte(head + string(b) + "EOF\r\n\r\n\r\n") },
		},
	}
}

// debianVersion is for programs that do not tell. It is empty for one that is not
// out of a package of Debian.
func debianVersion(t testing.TB, name string) string {
	dpkg, err := exec.LookPath("dpkg-query")
	if err != nil {
		return ""
	}
	out, status := run(t, dpkg, "-W", "-f", "${Version}", name)
	if status != 0 {
		return ""
	}
	return firstMatch(`(?:\d+:)?([^-+]+)`, out)
}

var nssDatabases struct {
	sync.Mutex
	made map[string]string
}

// nssDatabase trusts ca. It has the keys of the tests, or none: with any,
// tstclnt shows one that it is not told.
func nssDatabase(t testing.TB, ca string, keys bool) string {
	t.Helper()
	nssDatabases.Lock()
	defer nssDatabases.Unlock()
	id := fmt.Sprint(ca, keys)
	if dir := nssDatabases.made[id]; dir != "" {
		return dir
	}
	dir, err := os.MkdirTemp(scratch, "nss-")
	require.NoError(t, err)
	if keys {
		makeNSSDatabase(t, dir, ca, "client", "client-revoked", "client-expired", "client-unknown", "server", "server-unknown")
		out, status := run(t, peers.Find(t, nssPackage, "crlutil"), "-I", "-d", "sql:"+dir, "-i", testkit.AbsPKI("crl.der"), "-B")
		require.Zero(t, status, out)
	} else {
		makeNSSDatabase(t, dir, ca)
	}
	if nssDatabases.made == nil {
		nssDatabases.made = map[string]string{}
	}
	nssDatabases.made[id] = "sql:" + dir
	return nssDatabases.made[id]
}

// makeNSSDatabase makes a database that trusts ca and has keys under their names.
func makeNSSDatabase(t testing.TB, dir, ca string, names ...string) {
	t.Helper()
	must := func(debian, name string, args ...string) {
		out, status := run(t, peers.Find(t, debian, name), args...)
		require.Zero(t, status, "%s %v: %s", name, args, out)
	}
	db := "sql:" + dir
	must(nssPackage, "certutil", "-N", "-d", db, "--empty-password")
	must(nssPackage, "certutil", "-A", "-d", db, "-n", "ca", "-t", "CT,C,", "-i", ca)
	for _, name := range names {
		p12 := filepath.Join(t.TempDir(), name+".p12")
		must("openssl", "openssl", "pkcs12", "-export", "-in", testkit.AbsPKI(name+".crt"), "-inkey", testkit.AbsPKI(name+".key"), "-name", name,
			"-passout", "pass:", "-out", p12)
		must(nssPackage, "pk12util", "-i", p12, "-d", db, "-W", "")
	}
}

func nssNickname(crt string) string { return strings.TrimSuffix(filepath.Base(crt), ".crt") }

func nssVersion(v sslfilter.Version) string {
	name := "tls" + strings.TrimPrefix(v.String(), "TLSv")
	return name + ":" + name
}

// nssTerms reads "SSL version 3.4 using 128-bit AES-GCM with 128-bit AEAD MAC".
func nssTerms(out string) told {
	bits, mode := firstMatch(`using (\d+)-bit`, out), firstMatch(`using \d+-bit AES-(\S+)`, out)
	return told{
		version: map[string]string{"3.3": "1.2", "3.4": "1.3"}[firstMatch(`SSL version (\S+)`, out)], cipher: "AES-" + bits + "-" + mode,
		cert: firstMatch(`subject DN: (.*)`, out),
	}
}

// nssSays is what tstclnt says of itself, in the middle of what it received too.
var nssSays = regexp.MustCompile(`(\n\n)?(tstclnt: .*\n)+`)

func nssClient(t testing.TB, c call) told {
	said := filepath.Join(t.TempDir(), "said") // it never sees the end of a pipe
	require.NoError(t, os.WriteFile(said, c.send, 0o600))
	args := []string{"-4", "-A", said, "-h", "localhost", "-p", peers.Port(t, c.addr), "-d", nssDatabase(t, c.ca, c.crt != ""), "-V", nssVersion(c.version), "-v"}
	if c.crt != "" {
		args = append(args, "-n", nssNickname(c.crt))
	}
	p := peers.StartForeign(t, nil, peers.Find(t, nssPackage, "tstclnt"), args...)
	p.CloseInput()
	status := p.Wait()
	out := nssSays.ReplaceAllString(p.Output(), "")
	terms := nssTerms(p.Output())
	terms.done, terms.text = status == 0 && string(payloadIn(out)) == string(c.want), fmt.Sprint(status, nssSays.FindAllString(p.Output(), 20))
	return terms
}

func nssServer(t testing.TB, c call) service {
	port := peers.FreePort(t)
	args := []string{"-p", port, "-d", nssDatabase(t, testkit.AbsPKI("root.crt"), true), "-n", nssNickname(c.crt), "-V", nssVersion(c.version), "-v"}
	if c.ask {
		args = append(args, "-r", "-r")
	}
	p := peers.StartForeign(t, nil, peers.Find(t, nssPackage, "selfserv"), args...)
	p.AwaitPort(port)
	return service{addr: "127.0.0.1:" + port, end: func() told {
		p.Signal(syscall.SIGKILL)
		p.Wait()
		said := nssTerms(p.Output())
		said.text = p.Output()
		said.done = said.version != ""
		return said
	}}
}
