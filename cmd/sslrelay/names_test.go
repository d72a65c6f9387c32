package main_test

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// serverOf returns the lines crt and key of a relay with a certificate for a name.
func serverOf(t *testing.T, name string) string {
	t.Helper()
	file := testkit.TempFile(t, name+".crt", testkit.Mint(t, x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}))
	return fmt.Sprintf("crt = %q\nkey = %q\n", file, testkit.AbsPKI("client.key"))
}

// curl and openssl reach three relays on one port by the server name, each with its own
// certificate and policy. SIGHUP adds a relay.
func TestNamesOnOnePort(t *testing.T) {
	peers.FindCurl(t) // here, because a subtest cannot skip its parent
	web := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s serves %s, verdict %s\n", name, r.Host, r.Header.Get("X-Client-Verdict"))
		}))
		t.Cleanup(s.Close)
		return fmt.Sprintf("mode = \"http\"\nbackend = %q\n", s.Listener.Addr().String())
	}
	port := fmt.Sprint(freePorts(t, 1)[0])
	table := func(name, lines string) string {
		return fmt.Sprintf("[[relay]]\nname = %q\nlisten = [\"tls:127.0.0.1:%s\"]\n%s", name, port, serverOf(t, name+".test")+web(name)+lines)
	}
	text := table("open", "") + table("closed", fmt.Sprintf("cacrt = %q\nrequirevalidclientcert = true\n", testkit.AbsPKI("root.crt")))
	file := testkit.TempFile(t, "relay.toml", []byte(text))
	r := startRelay(t, nil, "-config", file)
	visit := func(name string, more ...string) (string, error) {
		return curl(t, append([]string{"--resolve", name + ":" + port + ":127.0.0.1", "https://" + name + ":" + port + "/"}, more...)...)
	}
	id := []string{"--cert", testkit.AbsPKI("client.crt"), "--key", testkit.AbsPKI("client.key")}
	host := func(name string) []string { return []string{"-H", "Host: " + name, "-w", "%{http_code}"} }

	t.Run("curl", func(t *testing.T) {
		for _, version := range [][]string{{"--tls-max", "1.2"}, {"--tlsv1.3"}, {"--http1.0"}} {
			out, err := visit("open.test", version...)
			require.NoError(t, err, out)
			require.Equal(t, "open serves open.test:"+port+", verdict none\n", out)
			out, err = visit("closed.test", append(version, id...)...)
			require.NoError(t, err, out)
			require.Equal(t, "closed serves closed.test:"+port+", verdict valid\n", out)
			out, err = visit("closed.test", version...)
			require.Error(t, err, out)
			out, err = visit("other.test", version...)
			require.ErrorContains(t, err, "exit status 35", out) // the handshake
			require.Contains(t, out, "unrecognized name")
			out, err = visit("open.test", append(version, host("closed.test")...)...)
			require.NoError(t, err, out)
			require.Equal(t, "Misdirected Request\n421", out)
		}
		out, err := visit("open.test", host("unknown.test")...)
		require.NoError(t, err, out)
		require.Equal(t, "open serves unknown.test, verdict none\n200", out)
		out, err = curl(t, "-k", "https://127.0.0.1:"+port+"/")
		require.Error(t, err, "a client without a server name")
		require.Contains(t, out, "unrecognized name")
	})
	for _, series := range []string{"1.1.1", "3.0", "3.5"} {
		t.Run("openssl "+series, func(t *testing.T) {
			openssl := peers.FindOpenSSL(t, series)
			client := func(args ...string) string {
				args = append([]string{"s_client", "-connect", "127.0.0.1:" + port, "-CAfile", testkit.AbsPKI("root.crt"), "-verify_return_error"}, args...)
				p := peers.StartForeign(t, nil, openssl, args...)
				p.CloseInput()
				p.Wait()
				return p.Output()
			}
			for _, version := range []string{"-tls1_2", "-tls1_3"} {
				require.Contains(t, client(version, "-servername", "OPEN.test", "-verify_hostname", "open.test"), "Verify return code: 0 (ok)")
				require.Contains(t, client(version, "-servername", "closed.test", "-verify_hostname", "closed.test", "-cert", testkit.AbsPKI("client.crt"), "-key", testkit.AbsPKI("client.key")), "Verify return code: 0 (ok)")
				require.Contains(t, client(version, "-servername", "other.test"), "unrecognized name")
				require.Contains(t, client(version, "-noservername"), "unrecognized name")
			}
			session := testkit.TempFile(t, "session", nil)
			client("-tls1_2", "-servername", "open.test", "-sess_out", session)
			require.Contains(t, client("-tls1_2", "-servername", "open.test", "-sess_in", session), "\nReused, ")
			require.NotContains(t, client("-tls1_2", "-servername", "closed.test", "-sess_in", session), "\nReused, ")
		})
	}
	t.Run("SIGHUP", func(t *testing.T) {
		require.NoError(t, os.WriteFile(file, []byte(text+table("other", "default-server = true\n")), 0o600))
		require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
		r.logs("msg=reloaded")
		out, err := visit("other.test")
		require.NoError(t, err, out)
		require.Equal(t, "other serves other.test:"+port+", verdict none\n", out)
		out, err = visit("open.test")
		require.NoError(t, err, out)
		out, err = curl(t, "-k", "https://127.0.0.1:"+port+"/")
		require.NoError(t, err, out)
		require.True(t, strings.HasPrefix(out, "other serves "), out)
		require.NoError(t, os.WriteFile(file, []byte(text+table("other", "")+table("open2", "servernames = [\"open.test\"]\n")), 0o600))
		require.NoError(t, r.cmd.Process.Signal(syscall.SIGHUP))
		r.logs(`belongs to relay \"open\" already`)
		out, err = curl(t, "-k", "https://127.0.0.1:"+port+"/")
		require.NoError(t, err, out)
	})
	r.logs(`msg="request refused" relay=open`)
	r.logs(`no relay has the server name`)
}

// Two mail servers with names of their own on one port with STARTTLS and one with TLS.
func TestNamesInFrontOfDovecot(t *testing.T) {
	d := startDovecot(t)
	ports := freePorts(t, 2)
	table := func(name, lines string) string {
		return fmt.Sprintf("[[relay]]\nname = %q\nmode = \"imap\"\nlisten = [\"starttls:127.0.0.1:%d\", \"tls:127.0.0.1:%d\"]\n%s%s\n", name, ports[0], ports[1], serverOf(t, name+".test"), lines)
	}
	r := startRelay(t, nil, "-config", testkit.TempFile(t, "relay.toml", []byte(
		table("one", fmt.Sprintf("backend = %q", d.IMAP))+
			table("two", fmt.Sprintf("backend-cacrt = %q\nbackend-servername = \"localhost\"\n[relay.users]\nuser1 = \"tls:%s\"", testkit.AbsPKI("root.crt"), d.IMAPS)))))
	imap := func(name string, port int, user string, more ...string) (string, error) {
		scheme := "imaps"
		if port == ports[0] {
			scheme = "imap"
			more = append(more, "--ssl-reqd")
		}
		return curl(t, append(more, "--resolve", fmt.Sprintf("%s:%d:127.0.0.1", name, port), fmt.Sprintf("%s://%s:%d", scheme, name, port), "--user", user+":secret", "-X", "LIST \"\" *")...)
	}
	for _, port := range ports {
		for _, name := range []string{"one.test", "two.test"} {
			out, err := imap(name, port, "user1")
			require.NoError(t, err, out)
			require.Contains(t, out, "INBOX")
		}
		out, err := imap("one.test", port, "user2")
		require.NoError(t, err, out)
		out, err = imap("two.test", port, "user2")
		require.Error(t, err, out) // relay two does not know this user
		out, err = imap("three.test", port, "user1")
		require.Error(t, err, out)
		require.Contains(t, out, "unrecognized name")
		out, err = imap("three.test", port, "user1", "-k")
		require.Error(t, err, out)
	}
	r.logs("no relay has the server name")
	require.NotContains(t, r.log.String(), "secret")
}
