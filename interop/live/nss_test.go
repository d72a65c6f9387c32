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
		server: nssServer,
		quirks: quirks{
			waitsForEnd: true,
			asked:       func(b []byte) []byte { return []byte("GET / HTTP/1.0\r\n" + string(b[:125*64-1]) + "\r\n\r\n") },
			answers:     func(b []byte) []byte { return []byte(head + string(b) + "EOF\r\n\r\n\r\n") },
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
	args := []string{"-4", "-A", result, "-h", "localhost", "-p", peers.Port(t, c.addr), "-d", nssDatabase(t, c.ca, c.crt != ""), "-V", nssVersion(c.version), "-v"}
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
	return service{addr: "127.0.0.1:" + port, end: func() outcome {
		p.Signal(syscall.SIGKILL)
		p.Wait()
		result := nssTerms(p.Output())
		result.text = p.Output()
		result.done = result.version != ""
		return result
	}}
}
