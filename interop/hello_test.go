package interop_test

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// JA3 of real clients is what tshark calculates from the bytes that they have sent.
func TestHelloJA3IsThatOfTshark(t *testing.T) {
	if testing.Short() {
		t.Skip("tshark takes seconds")
	}
	openssl := func(flags ...string) func(t *testing.T, addr string) {
		return func(t *testing.T, addr string) {
			start(t, "openssl", "openssl", append([]string{"s_client", "-connect", addr}, flags...)...)
		}
	}
	port := func(t *testing.T, addr string) string {
		_, port, err := net.SplitHostPort(addr)
		require.NoError(t, err)
		return port
	}
	seen := make(map[string]string)
	for name, connect := range map[string]func(t *testing.T, addr string){
		"s_client":           openssl("-servername", "name.example", "-alpn", "h2,http/1.1"),
		"s_client -tls1_2":   openssl("-tls1_2", "-cipher", "ECDHE+AESGCM"),
		"s_client, no names": openssl("-noservername", "-groups", "P-384:P-256"),
		"curl":               func(t *testing.T, addr string) { start(t, "curl", "curl", "-s", "https://localhost:"+port(t, addr)) },
		"gnutls-cli": func(t *testing.T, addr string) {
			start(t, "gnutls-bin", "gnutls-cli", "--port", port(t, addr), "localhost")
		},
		"crypto/tls": func(t *testing.T, addr string) {
			_, err := tls.Dial("tcp", addr, testkit.GoClient(t))
			require.Error(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			hellos := make(chan *sslfilter.ClientHello, 1)
			addr := testkit.Serve(t, testkit.Listen(t), func(conn net.Conn) {
				var wire []byte
				for buf := make([]byte, 4096); ; {
					n, err := conn.Read(buf)
					wire = append(wire, buf[:n]...)
					if hello, _ := sslfilter.ReadClientHello(wire); hello != nil {
						hellos <- hello
						return
					}
					if err != nil {
						return
					}
				}
			})
			record := testkit.NewCapture()
			connect(t, record.Proxy(t, addr))
			var hello *sslfilter.ClientHello
			testkit.Within(t, "the ClientHello", func() { hello = <-hellos })
			require.Equal(t, record.JA3(t), hello.JA3())
			require.Empty(t, seen[hello.JA3()], "two clients have the same fingerprint")
			seen[hello.JA3()] = name
		})
	}
}
