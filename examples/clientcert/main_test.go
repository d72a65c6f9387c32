package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/child"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/internal/testpki"
)

var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "clientcert-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "clientcert")
		if err := peers.Build(dir, "."); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// server is the running program.
type server struct {
	cmd    *exec.Cmd
	stderr testkit.Log
	url    string // https://127.0.0.1:…/
	addr   string
	dir    string // folder of its temporary certificates
}

// logs waits until the program has logged text.
func (s *server) logs(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.stderr.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Contains(t, s.stderr.String(), text)
		}
	}
}

// start runs the program on a free port until the test ends.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	s := &server{cmd: exec.CommandContext(ctx, program, append([]string{"-listen", "127.0.0.1:0"}, args...)...)}
	s.cmd.Stderr = &s.stderr
	out, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start(s.cmd))

	lines := bufio.NewScanner(out)
	for last := false; !last; {
		if !lines.Scan() {
			s.cmd.Wait()
			require.Fail(t, "the program ended", s.stderr.String())
		}
		line := lines.Text()
		if url, ok := strings.CutPrefix(line, "clientcert listens on "); ok {
			s.url, s.addr = url, strings.Trim(strings.TrimPrefix(url, "https:"), "/")
			last = len(args) > 0 // with certificates of its own, it prints more
		}
		if dir, ok := strings.CutPrefix(line, "  cd '"); ok {
			s.dir = strings.TrimSuffix(dir, "'")
		}
		last = last || strings.HasPrefix(line, "  curl --cacert ca.crt https:")
	}
	t.Cleanup(func() { s.cmd.Process.Kill() })
	return s
}

// stop ends the program as Ctrl-C does, and returns what it logged.
func (s *server) stop(t *testing.T) string {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, s.cmd.Wait())
	return s.stderr.String()
}

// curl fetches the page with the files of dir and returns the head and the page.
func curl(t *testing.T, dir, url string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), peers.FindCurl(t, args...), append([]string{"-sS", "-i", "--max-time", "20", "--noproxy", "*", "--cacert", "ca.crt", url}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// as returns the flags of curl for one of the clients of testpki.
func as(client string) []string {
	if client == "none" {
		return nil
	}
	return []string{"--cert", "client-" + client + ".crt", "--key", "client-" + client + ".key"}
}

func newPKI(t *testing.T) (*testpki.PKI, string) {
	t.Helper()
	pki, err := testpki.New()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, pki.Write(dir))
	return pki, dir
}

func TestEveryKindOfCertificate(t *testing.T) {
	s := start(t)
	for _, version := range []struct{ name, flag string }{{"TLSv1.2", "1.2"}, {"TLSv1.3", "1.3"}} {
		for _, c := range []struct{ client, verdict, page string }{
			{"valid", "valid", "CRL: not listed<br>"},
			{"revoked", "invalid", "CRL: listed: /O=sslfilter test/CN=revoked client<br>"},
			{"expired", "invalid", "Error 10 at depth 0: certificate has expired"},
			{"unknown", "invalid", "Error 20 at depth 0: unable to get local issuer certificate"},
			{"none", "none", "No client certificate"},
		} {
			t.Run(version.name+" "+c.client, func(t *testing.T) {
				out, err := curl(t, s.dir, s.url+"some/page?a=<b>", append(as(c.client), "--tlsv"+version.flag, "--tls-max", version.flag)...)
				require.NoError(t, err, out)
				require.Contains(t, out, "X-Client-Verdict: "+c.verdict+"\r\n")
				require.Contains(t, out, c.page)
				require.Contains(t, out, "Cipher: "+version.name+" ")
				require.Contains(t, out, "Your URL was: /some/page?a=&lt;b&gt;<br>")
				if c.client != "none" {
					require.Regexp(t, regexp.MustCompile(`SERIAL=[0-9A-F]{2}(:[0-9A-F]{2})+`), out)
				}
				require.Equal(t, c.client == "valid", strings.Contains(out, "Hello"))
			})
		}
	}
	require.Empty(t, s.stop(t))
	_, err := os.Stat(s.dir)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestFlagsOfTheOriginal(t *testing.T) {
	_, dir := newPKI(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	files := []string{"-crt", file("server.crt"), "-key", file("server.key"), "-cacrt", file("ca.crt"), "-cacrl", file("ca.crl")}

	t.Run("cipher and version", func(t *testing.T) {
		cipher := "ECDHE-ECDSA-CHACHA20-POLY1305"
		if sslfilter.FIPSEnabled() { // which has no ChaCha20
			cipher = "ECDHE-ECDSA-AES128-GCM-SHA256"
		}
		s := start(t, append(files, "-tls1_2", "-cipher", cipher, "-caverifydepth", "1", "-nohonor",
			"-dhcert", filepath.Join("..", "..", "testdata", "pki", "dh2048.pem"))...)
		out, err := curl(t, dir, s.url, as("valid")...)
		require.NoError(t, err, out)
		require.Contains(t, out, "X-Client-Verdict: valid\r\n")
		require.Contains(t, out, "Cipher: TLSv1.2 "+cipher)
		out, err = curl(t, dir, s.url, "--tlsv1.3")
		require.Error(t, err, out)
		s.logs(t, "unsupported protocol")
	})
	t.Run("ignoreVerifyErrors", func(t *testing.T) {
		s := start(t, append(files, "-ignoreVerifyErrors", "9, 10")...)
		out, err := curl(t, dir, s.url, as("expired")...)
		require.NoError(t, err, out)
		require.Contains(t, out, "X-Client-Verdict: valid\r\n")
		require.Contains(t, out, "certificate has expired (ignored)")
		out, err = curl(t, dir, s.url, as("unknown")...)
		require.NoError(t, err, out)
		require.Contains(t, out, "X-Client-Verdict: invalid\r\n")
	})
	t.Run("blockbadclientcert", func(t *testing.T) {
		s := start(t, append(files, "-blockbadclientcert", "-debug")...)
		out, err := curl(t, dir, s.url)
		require.Error(t, err, out)
		out, err = curl(t, dir, s.url, as("expired")...)
		require.NoError(t, err, out)
		require.Contains(t, out, "X-Client-Verdict: invalid\r\n")
		s.logs(t, "peer did not return a certificate")
		s.logs(t, "level=DEBUG")
	})
	t.Run("chain with key", func(t *testing.T) {
		chain := file("chain.pem")
		var all []byte
		for _, name := range []string{"server.crt", "ca.crt", "server.key"} {
			data, err := os.ReadFile(file(name))
			require.NoError(t, err)
			all = append(all, data...)
		}
		require.NoError(t, os.WriteFile(chain, all, 0o600))
		s := start(t, "-chain", chain)
		out, err := curl(t, dir, s.url, as("valid")...)
		require.NoError(t, err, out)
		require.Contains(t, out, "X-Client-Verdict: invalid\r\n") // no CA was named
	})
}

func TestNamesInCertificatesAreEscaped(t *testing.T) {
	pki, dir := newPKI(t)
	hostile, err := pki.CA.Issue(testpki.Spec{Name: `<img src=x onerror="alert(1)">&`})
	require.NoError(t, err)
	require.NoError(t, hostile.Write(dir, "client-hostile"))
	file := func(name string) string { return filepath.Join(dir, name) }
	s := start(t, "-crt", file("server.crt"), "-key", file("server.key"), "-cacrt", file("ca.crt"))
	out, err := curl(t, dir, s.url, as("hostile")...)
	require.NoError(t, err, out)
	require.Contains(t, out, "X-Client-Verdict: valid\r\n")
	require.NotContains(t, out, "<img")
	require.Contains(t, out, "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;&amp;")
}

func TestWrongFlags(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"unknown flag", []string{"-cert", "x"}, 2, "-cert"},
		{"not a number", []string{"-ignoreVerifyErrors", "9,ten"}, 2, `"ten" is not a number`},
		{"not a flag", []string{"server.crt"}, 2, `"server.crt" is not a flag`},
		{"missing file", []string{"-crt", "no-such.crt", "-key", "no-such.key"}, 1, "Crt (no-such.crt): cannot open it"},
		{"no certificate", []string{"-cacrt", "no-such.crt"}, 1, "option CACrt (no-such.crt)"},
		{"bad cipher", []string{"-cipher", "NONSENSE"}, 1, "option Cipher"},
		{"bad address", []string{"-listen", "127.0.0.1"}, 1, "missing port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			// a later flag wins, so that a program that starts by mistake takes no port that others need
			cmd := exec.CommandContext(ctx, program, append([]string{"-listen", "127.0.0.1:0"}, c.args...)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			var exit *exec.ExitError
			require.True(t, errors.As(err, &exit), "%v", err)
			require.Equal(t, c.status, exit.ExitCode())
			require.Contains(t, stderr.String(), c.says)
			require.Equal(t, 1, strings.Count(stderr.String(), "\n"), stderr.String())
			require.Empty(t, stdout.String())
		})
	}
	out, err := exec.Command(program, "-help").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "-blockbadclientcert")
}

func TestBadClientsDoNotAffectOthers(t *testing.T) {
	s := start(t)
	dial := func() net.Conn {
		conn, err := net.DialTimeout("tcp", s.addr, 10*time.Second)
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	say := func(conn net.Conn, text string) string {
		_, err := io.WriteString(conn, text)
		require.NoError(t, err)
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		return string(answer)
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(s.dir, "ca.crt"))
	require.NoError(t, err)
	require.True(t, pool.AppendCertsFromPEM(ca))
	dialTLS := func() *tls.Conn {
		conn := tls.Client(dial(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
		require.NoError(t, conn.Handshake())
		return conn
	}

	silent := dial() // stays open for the whole test
	defer silent.Close()
	require.NoError(t, dial().Close())
	require.Contains(t, say(dial(), "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "an HTTP request to an HTTPS server")
	say(dial(), strings.Repeat("\xff\x00garbage", 9000))

	hello := dial() // cut inside the ClientHello
	_, err = io.WriteString(hello, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	require.NoError(t, err)
	require.NoError(t, hello.Close())

	request := dialTLS() // cut inside the request
	_, err = io.WriteString(request, "GET / HTTP/1.1\r\nHo")
	require.NoError(t, err)
	require.NoError(t, request.NetConn().Close())

	require.NoError(t, dialTLS().Close()) // close_notify and nothing else
	require.Contains(t, say(dialTLS(), "what is this?\r\n\r\n"), "400 Bad Request")
	require.Contains(t, say(dialTLS(), "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 70<<10)), "431 Request Header Fields Too Large")
	require.Contains(t, say(dialTLS(), "GET / HTTP/1.0\r\n\r\n"), "200 OK") // and close_notify: ReadAll would fail

	refusing := tls.Client(dial(), &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"})
	require.Error(t, refusing.Handshake())

	out, err := curl(t, s.dir, s.url, as("valid")...)
	require.NoError(t, err, out)
	require.Contains(t, out, "X-Client-Verdict: valid\r\n")
	s.logs(t, "the peer speaks plain HTTP")
	s.logs(t, "the peer seems not to speak TLS")
	s.logs(t, "unexpected EOF")
	s.logs(t, "bad certificate")
	require.NotContains(t, s.stop(t), "panic")
}
