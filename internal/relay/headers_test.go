package relay

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
)

// identities are headers from which common programs take the identity of a client.
var identities = []string{
	"Client-Cert", "Client-Cert-Chain", "X-SSL-Client-Verify", "X-SSL-Client-S-DN", "X-SSL-CERT", "ssl-client-verify", "ssl-client-subject-dn",
	"SSL_CLIENT_VERIFY", "SSL_CLIENT_S_DN", "X-Forwarded-Client-Cert", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Tls-Client-Cert-Info",
	"X-ARR-ClientCert", "X-Amzn-Mtls-Clientcert", "X-Amzn-Mtls-Clientcert-Subject", "X-Amzn-Mtls-Clientcert-Serial-Number",
	"Remote-User", "REMOTE_USER", "X-Remote-User", "X-Remote-Group", "X_Forwarded_Client_Cert", "X-Client-Cert", "X-Client-DN",
}

// forwardings are headers from which common programs take the address of a client.
var forwardings = []string{"X-Forwarded-Port", "X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Forwarded-Server", "X-Forwarded-By", "X-Real-IP"}

func askWith(c *lines, names ...string) string {
	head := "GET / HTTP/1.1\r\nHost: x\r\n"
	for _, name := range names {
		head += name + ": forged\r\n"
	}
	status, body := c.ask(head + "X-App-Token: forged-not\r\n\r\n")
	require.Equal(c.t, 200, status)
	require.Contains(c.t, body, "X-App-Token: forged-not\r\n")
	return strings.Replace(body, "X-App-Token: forged-not\r\n", "", 1)
}

func TestIdentityHeadersAreRemoved(t *testing.T) {
	c := newLines(t, dialTLS(t, httpRelay(t, `strip-headers = ["X-Auth-User", "X-Corp-*"]`).addr()))
	own := []string{"X-Auth-User", "x_auth_user", "X-Corp-Login", "X.Corp.Role"}
	require.NotContains(t, askWith(c, slices.Concat(identities, forwardings, own)...), "forged")

	c = newLines(t, dialTLS(t, httpRelay(t, "trust-forwarded = true").addr()))
	body := askWith(c, slices.Concat(identities, forwardings)...)
	for _, name := range forwardings {
		require.Equal(t, []string{"forged"}, header(body, name), name)
	}
	require.Equal(t, len(forwardings), strings.Count(body, "forged"), body)
}

// A program may treat "Content_Length" as Content-Length.
func TestOtherSpellingsOfFramingAreRemoved(t *testing.T) {
	c := newLines(t, dialTLS(t, httpRelay(t).addr()))
	require.NotContains(t, askWith(c, "Content_Length", "Transfer_Encoding", "content.length", "Transfer~Encoding", "X_Forwarded_For"), "forged")
}

func TestForwardedIsExtended(t *testing.T) {
	c := newLines(t, dialTLS(t, httpRelay(t, "trust-forwarded = true").addr()))
	_, body := c.ask("GET / HTTP/1.1\r\nHost: x\r\nForwarded: for=192.0.2.7;proto=http\r\nForwarded: for=\"[2001:db8::1]\"\r\n\r\n")
	require.Equal(t, []string{`for=192.0.2.7;proto=http, for="[2001:db8::1]", for=127.0.0.1;proto=https`}, header(body, "Forwarded"))
	_, body = c.ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: Forwarded, X-Forwarded-For\r\nForwarded: for=192.0.2.7\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
	require.Empty(t, header(body, "Forwarded"))
	require.Equal(t, []string{"127.0.0.1"}, header(body, "X-Forwarded-For"))
	require.Equal(t, `for="[fe80::1]";proto=http`, forwardedElement("fe80::1%eth0", "http"))
}

func TestStripHeadersIsChecked(t *testing.T) {
	for _, name := range []string{"*", "", "Host", "content-length", "X Y", "Transfer-Encoding"} {
		_, err := config.Parse([]byte(relayTable(`mode = "http"`, `listen = ["plain:127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, fmt.Sprintf("strip-headers = [%q]", name))))
		require.ErrorContains(t, err, "strip-headers", name)
	}
	for _, key := range []string{`strip-headers = ["X-A"]`, "reuse-after-body = true"} {
		_, err := config.Parse([]byte(relayTable(`listen = ["plain:127.0.0.1:0"]`, `backend = "127.0.0.1:1"`, key)))
		require.ErrorContains(t, err, "is for mode http")
	}
}

func TestDocsNameTheRemovedHeaders(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "relay.md"))
	require.NoError(t, err)
	for _, name := range slices.Concat(forwardingHeaders, identityHeaders) {
		require.Contains(t, string(page), "`"+name+"`", "docs/relay.md")
	}
}
