package main_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/child"
	"github.com/seed-014b8713/sslfilter/internal/dovecot"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

func startDovecot(t *testing.T) *dovecot.Server {
	t.Helper()
	d, err := dovecot.Start(testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"), true)
	if errors.Is(err, dovecot.ErrMissing) {
		debianPackage := "dovecot-imapd"
		if strings.Contains(err.Error(), "/pop3") {
			debianPackage = "dovecot-pop3d"
		}
		peers.SkipWithout(t, debianPackage, err.Error())
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.Log())
		}
		d.Stop()
	})
	return d
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// awaitPort waits until a program listens.
func awaitPort(t *testing.T, addr string, ended <-chan struct{}) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			require.FailNow(t, "the server ended")
		default:
		}
		require.True(t, time.Now().Before(end), "nobody listens at %s", addr)
	}
}

// run runs a client and returns its output.
func run(t *testing.T, debianPackage, stdin, name string, args ...string) (string, error) {
	t.Helper()
	path := peers.Find(t, debianPackage, name)
	if name == "curl" {
		path = peers.FindCurl(t, args...)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = testkit.Patience
	timer := time.AfterFunc(testkit.Patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// curl runs curl with the test PKI and without a proxy.
func curl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return run(t, "curl", "", "curl", append([]string{"-sS", "--noproxy", "*", "--cacert", testkit.AbsPKI("root.crt")}, args...)...)
}

// talk runs a client that reads commands. It writes each command after the previous
// one has been answered.
func talk(t *testing.T, debianPackage string, argv []string, steps ...string) string {
	t.Helper()
	cmd := exec.Command(peers.Find(t, debianPackage, argv[0]), argv[1:]...)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	var out testkit.Log
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, child.Start(cmd))
	defer cmd.Wait()
	defer stdin.Close()
	timer := time.AfterFunc(testkit.Patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	for i := 0; i < len(steps); i += 2 {
		for end := time.Now().Add(testkit.Patience); !strings.Contains(out.String(), steps[i]); time.Sleep(5 * time.Millisecond) {
			require.True(t, time.Now().Before(end), "%s has not said %q: %s", argv[0], steps[i], out.String())
		}
		if i+1 < len(steps) {
			io.WriteString(stdin, steps[i+1])
		}
	}
	return out.String()
}

// The man page's deployment with dovecot: clients with STARTTLS, with TLS and in plain
// text, and a backend for each user in plain text, with STARTTLS and with TLS.
func TestIMAPRelayInFrontOfDovecot(t *testing.T) {
	d := startDovecot(t)
	config := testkit.TempFile(t, "relay.toml", []byte(fmt.Sprintf(`
log-level = "debug"
[[relay]]
name = "imap"
mode = "imap"
listen = ["starttls:127.0.0.1:0", "tls:127.0.0.1:0"]
crt = %[1]q
key = %[2]q
backend = %[4]q
backend-cacrt = %[3]q
backend-servername = "localhost"
allow-plaintext = true
greeting = "IMAP Relay v0.1 ready."
[relay.users]
user1 = %[4]q
user2 = "starttls:%[4]s"
user3 = "tls:%[5]s"
nobody = "127.0.0.1:1"

[[relay]]
name = "pop3"
mode = "pop3"
listen = ["starttls:127.0.0.1:0", "tls:127.0.0.1:0"]
crt = %[1]q
key = %[2]q
backend = "starttls:%[6]s"
backend-cacrt = %[3]q
backend-servername = "localhost"
[relay.users]
user1 = %[6]q

[[relay]]
name = "transparent"
mode = "imap"
listen = ["starttls:127.0.0.1:0", "tls:127.0.0.1:0"]
crt = %[1]q
key = %[2]q
backend = "starttls:%[4]s"
backend-cacrt = %[3]q
backend-servername = "localhost"

[[relay]]
name = "transparent, plain backend"
mode = "imap"
listen = ["tls:127.0.0.1:0"]
crt = %[1]q
key = %[2]q
backend = %[4]q

[[relay]]
name = "transparent, plain backend, pop3"
mode = "pop3"
listen = ["tls:127.0.0.1:0"]
crt = %[1]q
key = %[2]q
backend = %[6]q
`, testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"), testkit.AbsPKI("root.crt"), d.IMAP, d.IMAPS, d.POP3)))

	r := startRelay(t, nil, "-config", config)
	require.Len(t, r.addrs, 8)
	imap, imaps, pop, pops, open, opens := r.addrs[0], r.addrs[1], r.addrs[2], r.addrs[3], r.addrs[4], r.addrs[5]

	t.Run("curl", func(t *testing.T) {
		upgrade, direct, lax := []string{"imap://localhost:" + port(imap), "--ssl-reqd"}, []string{"imaps://localhost:" + port(imaps)}, []string{"imap://localhost:" + port(imap)}
		for who, url := range map[string][]string{"user1": upgrade, "user2": direct, "user3": lax, "somebody": direct} {
			out, err := curl(t, append(url, "--user", who+":secret", "-X", "LIST \"\" *")...)
			require.NoError(t, err, out)
			require.Contains(t, out, "INBOX", url)
		}
		for _, url := range [][]string{{"imap://localhost:" + port(open), "--ssl-reqd"}, {"imaps://localhost:" + port(opens)}} {
			out, err := curl(t, append(url, "--user", "user9:secret", "-X", "LIST \"\" *")...)
			require.NoError(t, err, out)
			require.Contains(t, out, "INBOX", url)
		}
		out, err := curl(t, "imaps://localhost:"+port(imaps), "--user", "user1:wrong")
		require.Error(t, err, out)
		out, err = curl(t, "imaps://localhost:"+port(imaps), "--user", "nobody:secret")
		require.Error(t, err, out)
		r.logs("backend failed")
	})
	t.Run("mail is stored and fetched", func(t *testing.T) {
		mail := testkit.TempFile(t, "mail", []byte("Subject: hello\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 60_000))) // larger than all buffers together
		out, err := curl(t, "imaps://localhost:"+port(imaps)+"/INBOX", "--user", "user3:secret", "-T", mail)
		require.NoError(t, err, out)
		out, err = curl(t, "imap://localhost:"+port(imap)+"/INBOX;MAILINDEX=1", "--ssl-reqd", "--user", "user3:secret")
		require.NoError(t, err)
		want, err := os.ReadFile(mail)
		require.NoError(t, err)
		require.Equal(t, len(want), len(out))
		require.Equal(t, string(want), out)
		out, err = curl(t, "pop3s://localhost:"+port(pops)+"/1", "--user", "user3:secret")
		require.NoError(t, err)
		require.Contains(t, out, "Subject: hello")
		out, err = curl(t, "pop3://localhost:"+port(pop)+"/1", "--ssl-reqd", "--user", "user3:secret", "--login-options", "AUTH=PLAIN")
		require.NoError(t, err)
		require.Contains(t, out, "Subject: hello")
	})
	t.Run("mbsync", func(t *testing.T) {
		box := t.TempDir()
		for what, security := range map[string]string{"STARTTLS": "SSLType STARTTLS\nPort " + port(imap), "direct": "SSLType IMAPS\nPort " + port(imaps)} {
			rc := testkit.TempFile(t, "mbsyncrc", []byte(fmt.Sprintf(`IMAPAccount relay
Host localhost
User user3
Pass secret
%s
CertificateFile %s

IMAPStore far
Account relay

MaildirStore near
Path %s/
Inbox %s/%s

Channel all
Far :far:
Near :near:
Create Near
SyncState *
`, security, testkit.AbsPKI("root.crt"), box, box, what)))

			out, err := run(t, "isync", "", "mbsync", "-c", rc, "-a")
			require.NoError(t, err, out)
			got, err := filepath.Glob(filepath.Join(box, what, "*", "*,*"))
			require.NoError(t, err)
			require.Len(t, got, 1, out)
		}
	})
	t.Run("openssl", func(t *testing.T) { // s_client uses a dot as its tag, which the original's relay rejects
		out := talk(t, "openssl", []string{"openssl", "s_client", "-connect", imap, "-starttls", "imap", "-CAfile", testkit.AbsPKI("root.crt"), "-verify_return_error", "-quiet", "-crlf"},
			"OK", "a LOGIN user1 {6}\n", "+ OK", "secret\n", "a OK", "b LOGOUT\n", "b OK")
		require.Contains(t, out, "* BYE")
		talk(t, "openssl", []string{"openssl", "s_client", "-connect", imaps, "-CAfile", testkit.AbsPKI("root.crt"), "-verify_return_error", "-quiet", "-crlf"}, // as Outlook does
			"LITERAL-", "A1 ID (\"name\" {23+}\nMicrosoft.Exchange.Imap \"version\" {4}\n", "+ OK", "15.2)\nA2 XYZ {3+}\nabc\nA3 LOGIN {5+}\nuser1 {6+}\nsecret\n",
			"A1 OK ID completed", "", "A2 BAD Unknown command", "", "A3 OK", "A4 LOGOUT\n", "A4 OK")
		talk(t, "openssl", []string{"openssl", "s_client", "-connect", pop, "-starttls", "pop3", "-CAfile", testkit.AbsPKI("root.crt"), "-verify_return_error", "-quiet", "-crlf"},
			"verify return:1", "USER user2\nPASS secret\n", "+OK Logged in", "QUIT\n", "+OK Logging out")
	})
	t.Run("a plain backend's STARTTLS", func(t *testing.T) { // dovecot announces it until the login
		client := func(addr string) []string {
			return []string{"openssl", "s_client", "-connect", addr, "-CAfile", testkit.AbsPKI("root.crt"), "-verify_return_error", "-quiet", "-crlf"}
		}
		out := talk(t, "openssl", client(r.addrs[6]), "* OK", "a CAPABILITY\nb STARTTLS\nc LOGIN user1 wrong\nd AUTHENTICATE PLAIN\n", "b BAD TLS is already active", "", "c NO", "",
			"\n+", base64.StdEncoding.EncodeToString([]byte("\x00user1\x00secret"))+"\n", "d OK", "e LOGOUT\n", "e OK")
		require.Contains(t, out, "AUTH=PLAIN")
		require.NotContains(t, out, " STARTTLS")
		out = talk(t, "openssl", client(r.addrs[7]), "+OK", "CAPA\nSTLS\nUSER user1\nPASS secret\n", "-ERR TLS is already active", "", "+OK Logged in", "QUIT\n", "+OK Logging out")
		require.Contains(t, out, "SASL PLAIN")
		require.NotContains(t, out, "\nSTLS")
		for _, url := range []string{"imaps://localhost:" + port(r.addrs[6]), "pop3s://localhost:" + port(r.addrs[7])} {
			out, err := curl(t, url, "--user", "user9:secret")
			require.NoError(t, err, out)
		}
	})
	t.Run("gnutls-cli", func(t *testing.T) {
		talk(t, "gnutls-bin", []string{"gnutls-cli", "--starttls-proto=imap", "--x509cafile=" + testkit.AbsPKI("root.crt"), "--port=" + port(imap), "localhost"},
			"Handshake was completed", "a LOGIN user2 secret\r\n", "a OK", "b LOGOUT\r\n", "b OK")
	})
	require.NotContains(t, r.log.String(), "secret")
	require.NotContains(t, r.log.String(), "somebody")
	require.NotContains(t, r.log.String(), base64.StdEncoding.EncodeToString([]byte("\x00user1\x00secret")))
}

// curl sends mail through the relay to a server with STARTTLS, which is another relay
// with a backend in plain text.
func TestSMTPRelay(t *testing.T) {
	mails := make(chan string, 10)
	l := testkit.Listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveSMTP(conn, mails)
		}
	}()
	inner := startRelay(t, nil, "-mode", "smtp", "-listen", "starttls:127.0.0.1:0", "-crt", testkit.AbsPKI("server.crt"), "-key", testkit.AbsPKI("server.key"), "-backend", l.Addr().String(), "-user", "x=127.0.0.1:1")
	r := startRelay(t, nil, "-mode", "smtp", "-listen", "starttls:127.0.0.1:0", "-listen", "tls:127.0.0.1:0", "-crt", testkit.AbsPKI("server.crt"), "-key", testkit.AbsPKI("server.key"),
		"-user", "anna=starttls:"+inner.addrs[0], "-backend-cacrt", testkit.AbsPKI("root.crt"), "-backend-servername", "localhost")
	mail := testkit.TempFile(t, "mail", []byte("Subject: hello\r\n\r\nthrough two relays\r\n"))
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		for _, url := range [][]string{{"smtp://localhost:" + port(r.addrs[0]), "--ssl-reqd"}, {"smtps://localhost:" + port(r.addrs[1])}} {
			out, err := curl(t, append(url, "--user", "anna:secret", "--login-options", "AUTH="+mechanism, "--mail-from", "a@example.org", "--mail-rcpt", "b@example.org", "-T", mail)...)
			require.NoError(t, err, out)
			require.Contains(t, <-mails, "through two relays")
		}
	}
	out, err := curl(t, "smtps://localhost:"+port(r.addrs[1]), "--user", "eve:secret", "--mail-from", "a@example.org", "--mail-rcpt", "b@example.org", "-T", mail)
	require.Error(t, err, out)
	talk(t, "openssl", []string{"openssl", "s_client", "-connect", r.addrs[0], "-starttls", "smtp", "-CAfile", testkit.AbsPKI("root.crt"), "-verify_return_error", "-quiet", "-crlf"},
		"verify return:1", "EHLO me\nAUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00anna\x00secret"))+"\n", "235 ", "QUIT\n", "221 ")
}

// serveSMTP accepts mail from anna.
func serveSMTP(conn net.Conn, mails chan<- string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	io.WriteString(conn, "220 test ESMTP\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch name := strings.ToUpper(strings.Fields(line + " x")[0]); name {
		case "EHLO":
			io.WriteString(conn, "250-test\r\n250 AUTH PLAIN\r\n")
		case "AUTH":
			io.WriteString(conn, "235 welcome\r\n")
		case "DATA":
			io.WriteString(conn, "354 go\r\n")
			mail := ""
			for line, err = in.ReadString('\n'); err == nil && line != ".\r\n"; line, err = in.ReadString('\n') {
				mail += line
			}
			mails <- mail
			io.WriteString(conn, "250 taken\r\n")
		case "QUIT":
			io.WriteString(conn, "221 bye\r\n")
			return
		default:
			io.WriteString(conn, "250 fine\r\n")
		}
	}
}

// curl with and without a client certificate, through a relay to Python's web server.
func TestHTTPSInFrontOfPython(t *testing.T) {
	python := peers.Find(t, "python3", "python3", "-c", "import http.server")
	web := freePorts(t, 1)[0]
	cmd := exec.Command(python, "-c", `
import http.server
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = "".join("%s: %s\n" % h for h in self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", `+fmt.Sprint(web)+`), H).serve_forever()`)
	require.NoError(t, child.Start(cmd))
	done := make(chan struct{})
	go func() {
		cmd.Wait()
		close(done)
	}()
	defer func() {
		cmd.Process.Kill()
		<-done
	}()
	awaitPort(t, fmt.Sprintf("127.0.0.1:%d", web), done)
	r := startRelay(t, nil, "-mode", "http", "-listen", "127.0.0.1:0", "-crt", testkit.AbsPKI("server.crt"), "-key", testkit.AbsPKI("server.key"), "-backend", fmt.Sprintf("127.0.0.1:%d", web),
		"-clientcert", "-cacrt", testkit.AbsPKI("root.crt"), "-cacrl", testkit.AbsPKI("crl.pem"))
	url := "https://localhost:" + port(r.addrs[0]) + "/"
	for who, want := range map[string]string{"": "none", "client": "valid", "client-revoked": "invalid", "client-expired": "invalid"} {
		args := []string{url, url, "-H", "X-Client-Verdict: valid", "-H", "X_Client_Verdict: valid"}
		if who != "" {
			args = append(args, "--cert", testkit.AbsPKI(who+".crt"), "--key", testkit.AbsPKI(who+".key"))
		}
		out, err := curl(t, args...)
		require.NoError(t, err, out)
		require.Equal(t, 2, strings.Count(strings.ToLower(out), "x-client-verdict: "+want), out)
		require.Equal(t, 2, strings.Count(strings.ReplaceAll(strings.ToLower(out), "_", "-"), "client-verdict"), out)
	}
	out, err := curl(t, "http://localhost:"+port(r.addrs[0])+"/")
	require.NoError(t, err)
	require.Contains(t, out, "This port speaks HTTPS.")
}
