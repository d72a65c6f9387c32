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

// nssPeer is tstclnt, which ends after the server has ended, and selfserv, a web server
// that returns the first 10 KB of the request.
func nssPeer() *peer {
	const head = "HTTP/1.0 200 OK\r\nServer: Generic Web Server\r\nDate: Tue, 26 Aug 1997 22:10:05 GMT\r\nContent-type: text/plain\r\n\r\n"
	return &peer{
		name: "NSS", debian: nssPackage,
		version: func(t testing.TB) string {
			peers.Find(t, nssPackage, "tstclnt")
			return debianVersion(t, nssPackage)
		},
		client: nssClient,
		lacks: map[string]string{
			"client " + stapling: "check of a stapled response on a connection that transfers data", "client " + mustStaple: "check of the extension", "client " + alpn: "ALPN",
			"server " + alpn: "ALPN",
		},
		server: nssServer,
		quirks: quirks{
			waitsForEnd: true, staplesSHA1: true,
			asked:   func(b []byte) []byte { return []byte("GET / HTTP/1.0\r\n" + string(b[:125*64-1]) + "\r\n\r\n") },
			answers: func(b []byte) []byte { return []byte(head + string(b) + "EOF\r\n\r\n\r\n") },
		},
	}
}

// debianVersion returns the version of a program that does not report it. It returns
// "" for a program that is not from a Debian package.
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

// nssDatabase returns a database that trusts ca. It has the keys of the tests or no
// keys. If there are keys, tstclnt sends a certificate without being told to.
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
		makeNSSDatabase(t, dir, ca, "client", "client-revoked", "client-expired", "client-unknown", "server", "server-unknown", "root")
		if ca == testkit.AbsPKI("root.crt") {
			out, status := run(t, peers.Find(t, nssPackage, "crlutil"), "-I", "-d", "sql:"+dir, "-i", testkit.AbsPKI("crl.der"), "-B")
			require.Zero(t, status, out)
		}
	} else {
		makeNSSDatabase(t, dir, ca)
	}
	if nssDatabases.made == nil {
		nssDatabases.made = map[string]string{}
	}
	nssDatabases.made[id] = "sql:" + dir
	return nssDatabases.made[id]
}

// makeNSSDatabase makes a database that trusts ca and has keys of the PKI under their
// names.
func makeNSSDatabase(t testing.TB, dir, ca string, names ...string) {
	t.Helper()
	mustNSS(t, nssPackage, "certutil", "-N", "-d", "sql:"+dir, "--empty-password")
	mustNSS(t, nssPackage, "certutil", "-A", "-d", "sql:"+dir, "-n", "ca", "-t", "CT,C,", "-i", ca)
	for _, name := range names {
		addNSSKey(t, dir, testkit.AbsPKI(name+".crt"), testkit.AbsPKI(name+".key"))
	}
}

// addNSSKey adds a key to a database, under the name of the file with the certificate.
func addNSSKey(t testing.TB, dir, crt, key string) {
	t.Helper()
	p12 := filepath.Join(t.TempDir(), "key.p12")
	mustNSS(t, "openssl", "openssl", "pkcs12", "-export", "-in", crt, "-inkey", key, "-name", nssNickname(crt), "-passout", "pass:", "-out", p12)
	mustNSS(t, nssPackage, "pk12util", "-i", p12, "-d", "sql:"+dir, "-W", "")
}

func mustNSS(t testing.TB, debian, name string, args ...string) {
	t.Helper()
	out, status := run(t, peers.Find(t, debian, name), args...)
	require.Zero(t, status, "%s %v: %s", name, args, out)
}

func nssNickname(crt string) string { return strings.TrimSuffix(filepath.Base(crt), ".crt") }

func nssVersion(v sslfilter.Version) string {
	name := "tls" + strings.TrimPrefix(v.String(), "TLSv")
	return name + ":" + name
}

// nssTerms parses "SSL version 3.4 using 128-bit AES-GCM with 128-bit AEAD MAC".
func nssTerms(out string) outcome {
	bits, mode := firstMatch(`using (\d+)-bit`, out), firstMatch(`using \d+-bit AES-(\S+)`, out)
	return outcome{
		version: map[string]string{"3.3": "1.2", "3.4": "1.3"}[firstMatch(`SSL version (\S+)`, out)], cipher: "AES-" + bits + "-" + mode,
		cert: firstMatch(`subject DN: (.*)`, out),
	}
}

// nssSays matches the messages of tstclnt, which also appear inside the data that it
// received.
var nssSays = regexp.MustCompile(`(\n\n)?(tstclnt: .*\n)+`)

func nssClient(t testing.TB, c call) outcome {
	result := filepath.Join(t.TempDir(), "result") // it does not notice the end of a pipe
	require.NoError(t, os.WriteFile(result, c.send, 0o600))
	args := []string{"-4", "-A", result, "-h", "localhost", "-p", peers.Port(t, c.addr), "-d", nssDatabase(t, c.ca, c.crt != ""), "-V", nssVersion(c.version), "-v", "-a", c.host()}
	if c.auth != "" {
		args = append(args, "-J", map[string]string{"RSA": "rsa_pss_rsae_sha256", "ECDSA": "ecdsa_secp256r1_sha256"}[c.auth])
	}
	if c.status {
		args = append(args, "-T")
	}
	if c.again {
		args = append(args, "-r", "1")
	}
	if c.visits > 0 {
		args = append(args, "-u", "-L", fmt.Sprint(c.visits))
	}
	if c.crt != "" {
		args = append(args, "-n", nssNickname(c.crt))
	}
	p := peers.StartForeign(t, nil, peers.Find(t, nssPackage, "tstclnt"), args...)
	p.CloseInput()
	status := p.Wait()
	out := nssSays.ReplaceAllString(p.Output(), "")
	terms := nssTerms(p.Output())
	terms.done, terms.text = status == 0 && string(payloadIn(out)) == strings.Repeat(string(c.want), c.times()), fmt.Sprint(status, nssSays.FindAllString(p.Output(), 20))
	return terms
}

func nssServer(t testing.TB, c call) service {
	port := peers.FreePort(t)
	db := nssDatabase(t, c.ca, true)
	if filepath.Dir(c.crt) != filepath.Dir(c.ca) { // it is not in the PKI
		dir := t.TempDir()
		makeNSSDatabase(t, dir, c.ca, "root")
		addNSSKey(t, dir, c.crt, c.key)
		db = "sql:" + dir
	}
	args := []string{"-p", port, "-d", db, "-n", nssNickname(c.crt), "-V", nssVersion(c.version), "-v"}
	if c.ask {
		args = append(args, "-r", "-r")
	}
	if c.visits > 0 {
		args = append(args, "-u")
	}
	if c.again { // to ask for a certificate then
		args = append(args, "-r", "-r", "-r")
	}
	if c.staple != "" {
		args = append(args, "-T", strings.TrimSuffix(filepath.Base(c.staple), ".ocsp"), "-A", "ca")
	}
	p := peers.StartForeign(t, nil, peers.Find(t, nssPackage, "selfserv"), args...)
	p.AwaitPort(port)
	return service{addr: "127.0.0.1:" + port, end: func() outcome {
		p.Signal(syscall.SIGKILL)
		p.Wait()
		result := nssTerms(p.Output())
		result.text = p.Output()
		result.done = result.version != ""
		return result
	}}
}
