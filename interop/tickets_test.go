package interop_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslhttp"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// ticketKey returns a key whose name begins with name.
func ticketKey(name string) (key [80]byte) {
	copy(key[:], testkit.Bytes(len(key), uint64(name[0])))
	copy(key[:16], name)
	return key
}

// webServer serves HTTP with o, and returns its address.
func webServer(t testing.TB, o sslfilter.Options) string {
	t.Helper()
	l, err := sslnet.Listen("tcp", "127.0.0.1:0", testkit.Ctx(t, o))
	require.NoError(t, err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page") })}
	t.Cleanup(func() { server.Close() })
	go sslhttp.Serve(server, l)
	return l.Addr().String()
}

// fetched requests a page with the sessions in cache, and reports whether one was resumed.
func fetched(t testing.TB, addr string, version uint16, cache tls.ClientSessionCache) bool {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(testkit.Patience)))
	c := tls.Client(conn, testkit.GoClient(t, func(config *tls.Config) {
		config.MinVersion, config.MaxVersion, config.ClientSessionCache = version, version, cache
	}))
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Contains(t, string(answer), "HTTP/1.1 ")
	return c.ConnectionState().DidResume
}

// resumeAtEachOther visits one server and then the other, with both orders of servers.
// OpenSSL 1.1.1 cannot read a session of 3.0, which the other server has.
func resumeAtEachOther(t *testing.T, ours, theirs string) {
	reads := map[string]bool{ours: !strings.HasPrefix(sslfilter.OpenSSLVersion(), "OpenSSL 1.1.1"), theirs: true}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, way := range map[string][]string{"to ours": {theirs, ours}, "from ours": {ours, theirs}} {
			t.Run(tls.VersionName(version)+" "+name, func(t *testing.T) {
				cache := tls.NewLRUClientSessionCache(1)
				require.False(t, fetched(t, way[0], version, cache))
				require.True(t, fetched(t, way[0], version, cache))
				resumed := fetched(t, way[1], version, cache)
				require.Equal(t, reads[way[1]], resumed, "the ticket of the other server")
				if resumed {
					require.Equal(t, reads[way[0]], fetched(t, way[0], version, cache), "and back")
				}
			})
		}
	}
}

// nginxAndUs starts nginx with lines of configuration and returns its address, and options of a
// server that has the same keys and the same certificate.
func nginxAndUs(t *testing.T, lines string) (theirs string, ours sslfilter.Options) {
	t.Helper()
	one, two := ticketKey("one"), ticketKey("two")
	port := freePort(t)
	nginx(t, port, fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3; %s ssl_session_ticket_key %s; ssl_session_ticket_key %s;",
		testkit.AbsPKI("server.crt"), testkit.AbsPKI("server.key"), lines, testkit.TempFile(t, "one.key", one[:]), testkit.TempFile(t, "two.key", two[:])))
	keys, err := sslfilter.NewTicketKeys()
	require.NoError(t, err)
	require.NoError(t, keys.Set(two, one))
	return "127.0.0.1:" + port, testkit.Server(func(o *sslfilter.Options) { o.TicketKeys = keys })
}

// nginx with the same key and certificate resumes our sessions, and we resume those of nginx, if both
// choose the cipher suite in the same way.
func TestTicketsOfNginx(t *testing.T) {
	for name, noHonor := range map[string]bool{"ssl_prefer_server_ciphers on;": false, "": true} {
		t.Run(name, func(t *testing.T) {
			theirs, o := nginxAndUs(t, name)
			o.NoHonor = noHonor
			resumeAtEachOther(t, webServer(t, o), theirs)
		})
	}
}

// By default, nginx follows the client's order of cipher suites and we follow ours. The client of this
// test begins its list with a suite with SHA-256, and our list begins with one with SHA-384. In TLS 1.3,
// neither server can then resume the sessions of the other.
func TestTicketsOfNginxWithAnotherOrder(t *testing.T) {
	theirs, o := nginxAndUs(t, "")
	ours := webServer(t, o)
	for _, way := range [][]string{{theirs, ours}, {ours, theirs}} {
		cache := tls.NewLRUClientSessionCache(1)
		require.False(t, fetched(t, way[0], tls.VersionTLS13, cache))
		require.True(t, fetched(t, way[0], tls.VersionTLS13, cache))
		require.False(t, fetched(t, way[1], tls.VersionTLS13, cache))
		require.Equal(t, way[1] == ours, fetched(t, way[1], tls.VersionTLS13, cache), "nginx gives no new ticket, and the client keeps its old one")
	}
}

// ParseTicketKeys reads a key file of haproxy, and its keys decrypt the tickets of haproxy. haproxy
// binds its sessions to its own name, so the other server does a full handshake.
func TestTicketsOfHaproxy(t *testing.T) {
	var lines []byte
	for _, name := range []string{"one", "two", "three"} {
		key := ticketKey(name)
		lines = append(base64.StdEncoding.AppendEncode(lines, key[:]), '\n')
	}
	list, err := sslfilter.ParseTicketKeys(lines)
	require.NoError(t, err)
	pem := testkit.TempFile(t, "server.pem", append(testkit.PKIBytes(t, "server.crt"), testkit.PKIBytes(t, "server.key")...))
	port := peers.FreePort(t)
	conf := testkit.TempFile(t, "haproxy.cfg", fmt.Appendf(nil, `defaults
	mode http
	timeout client 60s
	timeout server 60s
	timeout connect 60s
frontend web
	bind 127.0.0.1:%s ssl crt %s tls-ticket-keys %s
	http-request return status 200
`, port, pem, testkit.TempFile(t, "keys", lines)))
	p := peers.StartForeign(t, nil, peers.FindDaemon(t, "haproxy", "haproxy"), "-db", "-f", conf)
	p.AwaitPort(port)
	keys, err := sslfilter.NewTicketKeys()
	require.NoError(t, err)
	require.NoError(t, keys.Set(list...))
	ours := webServer(t, testkit.Server(func(o *sslfilter.Options) { o.TicketKeys = keys }))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, addr := range []string{"127.0.0.1:" + port, ours} {
			cache := tls.NewLRUClientSessionCache(1)
			require.False(t, fetched(t, addr, version, cache))
			session, _ := cache.Get("localhost")
			ticket, _, err := session.ResumptionState()
			require.NoError(t, err)
			mac := hmac.New(sha256.New, list[0][16:48])
			body, sum := ticket[:len(ticket)-sha256.Size], ticket[len(ticket)-sha256.Size:]
			mac.Write(body)
			require.Equal(t, sum, mac.Sum(nil), "the ticket is authentic")
			cbc, err := aes.NewCipher(list[0][48:])
			require.NoError(t, err)
			plain := make([]byte, len(body)-32)
			cipher.NewCBCDecrypter(cbc, body[16:32]).CryptBlocks(plain, body[32:])
			require.Equal(t, byte(0x30), plain[0], "an SSL_SESSION in DER form")
			require.Equal(t, addr != ours, bytes.Contains(plain, []byte("haproxy")))
		}
		cache := tls.NewLRUClientSessionCache(1)
		fetched(t, "127.0.0.1:"+port, version, cache)
		require.False(t, fetched(t, ours, version, cache))
		require.False(t, fetched(t, "127.0.0.1:"+port, version, cache))
	}
}
