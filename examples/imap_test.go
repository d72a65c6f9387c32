package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/dovecot"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// imapRelay is the running relay.
type imapRelay struct {
	*peers.Program
	imap, imaps, ca string
}

func startIMAPRelay(t *testing.T, args ...string) imapRelay {
	t.Helper()
	p := example(t, "imaprelay", append([]string{"-imap", "127.0.0.1:0", "-imaps", "127.0.0.1:0"}, args...)...)
	m := regexp.MustCompile(`^(\S+) for STARTTLS and on (\S+) for TLS`).FindStringSubmatch(p.Await("imaprelay listens on "))
	require.Len(t, m, 3)
	return imapRelay{p, m[1], m[2], p.Await("throw-away certificates: ")}
}

func TestIMAPRelay(t *testing.T) {
	file := pki(t)
	first := peers.Dovecot(t, file("server.crt"), file("server.key"))
	second := peers.Dovecot(t, file("server.crt"), file("server.key"))
	r := startIMAPRelay(t, "-backend", first.IMAP, "-user", "anna="+second.IMAP, "-user", "nobody=127.0.0.1:1")
	ways := map[string][]string{
		"STARTTLS": {"--ssl-reqd", "imap://localhost:" + peers.Port(t, r.imap)},
		"direct":   {"imaps://localhost:" + peers.Port(t, r.imaps)},
	}
	curl := func(way, path, user string, args ...string) (string, int) {
		args = append(args, "--cacert", r.ca, "--user", user)
		args = append(args, ways[way]...)
		args[len(args)-1] += path
		return peers.Curl(t, args...)
	}
	mail := filepath.Join(t.TempDir(), "mail")
	want := "Subject: hello\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 60_000) // more than all buffers hold
	require.NoError(t, os.WriteFile(mail, []byte(want), 0o600))

	for way := range ways {
		t.Run("curl, "+way, func(t *testing.T) {
			out, status := curl(way, "/INBOX", "anna:"+dovecot.Password, "-T", mail)
			require.Zero(t, status, out)
			out, status = curl(way, "/INBOX;MAILINDEX=1", "anna:"+dovecot.Password)
			require.Zero(t, status)
			require.True(t, out == want, "%d bytes", len(out))
			out, status = curl(way, "", "anna:wrong")
			require.NotZero(t, status, out)
			out, status = curl(way, "", "nobody:"+dovecot.Password)
			require.NotZero(t, status, out)
		})
	}
	t.Run("the user has a backend", func(t *testing.T) { // and no other user sees that mail
		messages := func(addr, user string) string {
			out, status := peers.Curl(t, "imap://"+addr, "--user", user+":"+dovecot.Password, "-X", "STATUS INBOX (MESSAGES)")
			require.Zero(t, status, out)
			return out
		}
		require.Contains(t, messages(second.IMAP, "anna"), "(MESSAGES 2)")
		require.Contains(t, messages(first.IMAP, "anna"), "(MESSAGES 0)")
		out, status := curl("direct", "", "bert:"+dovecot.Password, "-X", "STATUS INBOX (MESSAGES)")
		require.Zero(t, status, out)
		require.Contains(t, out, "(MESSAGES 0)")
	})
	t.Run("mbsync", func(t *testing.T) {
		path := peers.Find(t, "isync", "mbsync")
		for way, security := range map[string]string{"STARTTLS": "SSLType STARTTLS\nPort " + peers.Port(t, r.imap), "direct": "SSLType IMAPS\nPort " + peers.Port(t, r.imaps)} {
			box := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(box, "rc"), fmt.Appendf(nil, `
IMAPAccount relay
Host localhost
User anna
Pass %s
%s
CertificateFile %s

IMAPStore far
Account relay

MaildirStore near
Path %[4]s/
Inbox %[4]s/inbox

Channel all
Far :far:
Near :near:
Create Near
SyncState *
`, dovecot.Password, security, r.ca, box), 0o600))
			out, status := peers.Run(t, path, "-c", filepath.Join(box, "rc"), "-a")
			require.Zero(t, status, out)
			got, err := filepath.Glob(filepath.Join(box, "inbox", "*", "*,*"))
			require.NoError(t, err)
			require.Len(t, got, 2, way)
		}
	})
	t.Run("openssl", func(t *testing.T) { // its tag is a dot, which the original does not accept
		c := peers.Start(t, peers.Find(t, "openssl", "openssl"), "s_client", "-starttls", "imap", "-connect", r.imap, "-CAfile", r.ca, "-verify_return_error", "-crlf", "-quiet")
		c.Await("verify return:1")
		c.Say("a LOGIN \"anna\" {6}\n") // the password as a literal
		c.Await("+ OK")
		c.Say(dovecot.Password + "\n")
		c.Await("a OK")
		c.Say("b LOGOUT\n")
		c.Await("b OK")
		c.Wait()
		require.NotContains(t, c.Output(), "unexpected eof")
	})
	t.Run("gnutls-cli", func(t *testing.T) {
		c := peers.Start(t, peers.Find(t, "gnutls-bin", "gnutls-cli"), "--starttls-proto=imap", "--x509cafile="+r.ca, "--port="+peers.Port(t, r.imap), "localhost")
		c.Await("Simple Client Mode")
		c.Say("a login bert " + dovecot.Password + "\r\n")
		c.Await("a OK")
		c.Say("b LOGOUT\r\n")
		c.Await("Peer has closed the GnuTLS connection")
	})
	require.NotContains(t, r.Output(), dovecot.Password)
	end(t, r.Program, r.ca)
}

// fakeBackend is an IMAP server whose greeting and answer come in one segment, which
// makes the original hang. It reports the commands that it received.
func fakeBackend(t *testing.T) (addr string, told <-chan string) {
	t.Helper()
	l := testkit.Listen(t)
	lines := make(chan string, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "* OK ready\r\na OK logged in\r\n")
			in := bufio.NewReader(conn)
			for line, err := in.ReadString('\n'); err == nil; line, err = in.ReadString('\n') {
				lines <- line
			}
			conn.Close()
		}
	}()
	return l.Addr().String(), lines
}

func TestIMAPRelayWithBadClients(t *testing.T) {
	backend, told := fakeBackend(t)
	r := startIMAPRelay(t, "-backend", backend, "-user", "nobody=127.0.0.1:1", "-timeout", "1s")
	silent, silentTLS := testkit.Dial(t, r.imap), testkit.Dial(t, r.imaps)
	ask := func(conn net.Conn, text, answer string) {
		t.Helper()
		_, err := io.WriteString(conn, text)
		require.NoError(t, err)
		got := make([]byte, len(answer))
		_, err = io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, answer, string(got))
	}
	const greeting = "* OK IMAP Relay v0.1 ready.\r\n"

	plain := testkit.Dial(t, r.imap)
	ask(plain, "", greeting)
	ask(plain, "a LOGIN anna secret\r\n", "a BAD not before STARTTLS, or not before LOGIN\r\n") // no password in plain text
	ask(plain, "\r\n", " BAD not before STARTTLS, or not before LOGIN\r\n")
	injected := testkit.Dial(t, r.imap) // CVE-2011-0411
	ask(injected, "", greeting)
	_, err := io.WriteString(injected, "a STARTTLS\r\nb LOGIN eve secret\r\n")
	require.NoError(t, err)
	rest, _ := io.ReadAll(injected) // it may be reset
	require.Empty(t, string(rest))
	r.Await("20 bytes of plaintext arrived before TLS began")
	long := testkit.Dial(t, r.imap)
	ask(long, "", greeting)
	io.WriteString(long, "a "+strings.Repeat("x", 20_000))
	io.Copy(io.Discard, long)
	r.Await("buffer full")

	c := peers.Start(t, peers.Find(t, "openssl", "openssl"), "s_client", "-connect", r.imaps, "-CAfile", r.ca, "-verify_return_error", "-crlf", "-quiet")
	c.Await("OK IMAP Relay")
	c.Say("a LOGIN nobody secret\n")
	c.Await("* BYE [UNAVAILABLE]")
	c.Wait()

	c = peers.Start(t, peers.Find(t, "openssl", "openssl"), "s_client", "-connect", r.imaps, "-CAfile", r.ca, "-verify_return_error", "-crlf", "-quiet")
	c.Await("OK IMAP Relay")
	c.Say("a LOGIN anna secret\n")
	c.Await("a OK logged in")
	require.Equal(t, "a LOGIN anna secret\r\n", <-told)
	c.Say("b NOOP\n")
	require.Equal(t, "b NOOP\r\n", <-told)

	for _, conn := range []net.Conn{silent, silentTLS, plain} { // after the timeout
		io.Copy(io.Discard, conn)
		require.NoError(t, conn.SetReadDeadline(time.Now()))
	}
	end(t, r.Program, r.ca) // while a client is logged in, which gets a close_notify
	c.Wait()
	require.NotContains(t, c.Output(), "unexpected eof")
	require.Empty(t, told)
}
