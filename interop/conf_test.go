package interop_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

func conf(pairs ...string) testkit.Change {
	return func(o *sslfilter.Options) {
		for i := 0; i < len(pairs); i += 2 {
			o.Conf = append(o.Conf, sslfilter.ConfCommand{Name: pairs[i], Value: pairs[i+1]})
		}
	}
}

// openssl s_client sees the effect of the commands of a server: signatures, groups, options,
// versions, padding and tickets.
func TestConfOpenSSLClient(t *testing.T) {
	const ticket = "Post-Handshake New Session Ticket arrived"
	for _, c := range []struct {
		name     string
		change   testkit.Change
		args     []string
		has, not []string
		tickets  int
	}{
		{"SignatureAlgorithms", conf("SignatureAlgorithms", "rsa_pss_rsae_sha384"), nil, []string{"Peer signing digest: SHA384", "RSA-PSS"}, nil, 2},
		{"SignatureAlgorithms 1.2", conf("SignatureAlgorithms", "RSA+SHA512"), []string{"-tls1_2"}, []string{"Peer signing digest: SHA512", "Peer signature type: RSA\n"}, nil, 0},
		{"Groups", conf("Groups", "P-384"), nil, []string{"384 bits"}, []string{"X25519"}, 2},
		{"Groups 1.2", conf("Groups", "P-521"), []string{"-tls1_2"}, []string{"521 bits"}, []string{"X25519"}, 0},
		{"Options", conf("Options", "-EncryptThenMac", "CipherString", "ECDHE-RSA-AES128-SHA"), []string{"-tls1_2", "-tlsextdebug"},
			[]string{"Cipher is ECDHE-RSA-AES128-SHA"}, []string{`TLS server extension "encrypt-then-mac"`}, 0},
		{"without Options", conf("CipherString", "ECDHE-RSA-AES128-SHA"), []string{"-tls1_2", "-tlsextdebug"},
			[]string{`TLS server extension "encrypt-then-mac"`}, nil, 0},
		{"MaxProtocol", conf("MaxProtocol", "TLSv1.2"), nil, []string{"TLSv1.2"}, []string{"TLSv1.3"}, 0},
		{"MinProtocol", conf("MinProtocol", "TLSv1.3"), []string{"-tls1_2"}, []string{"alert protocol version"}, []string{"Server certificate\n"}, 0},
		{"RecordPadding", conf("RecordPadding", "4096"), []string{"-msg", "-tls1_3"}, []string{"17 03 03 10 10"}, nil, 2},
		{"NumTickets", conf("NumTickets", "1"), []string{"-tls1_3"}, nil, nil, 1},
		{"Options -SessionTicket", conf("Options", "-SessionTicket"), []string{"-tls1_2"}, nil, []string{"TLS session ticket:"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, _ := echo(t, testkit.Server(c.change))
			client := start(t, "openssl", "openssl", append([]string{"s_client", "-connect", l.Addr().String(), "-CAfile", testkit.PKI("root.crt")}, c.args...)...)
			if c.name != "MinProtocol" {
				client.say("hello\n")
				client.await("hello", 1)
			}
			client.stdin.Close()
			client.wait()
			<-client.ended
			out := client.output()
			for _, text := range c.has {
				require.Contains(t, out, text)
			}
			for _, text := range c.not {
				require.NotContains(t, out, text)
			}
			require.Equal(t, c.tickets, strings.Count(out, ticket), out)
		})
	}
}

// openssl s_server sees the effect of the commands of a client.
func TestConfOpenSSLServer(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  testkit.Change
		flag    string
		has     []string
		refused bool
	}{
		{"SignatureAlgorithms", conf("SignatureAlgorithms", "RSA-PSS+SHA384:ECDSA+SHA256"), "-tls1_3", []string{"Signature Algorithms: RSA-PSS+SHA384:ECDSA+SHA256\n"}, false},
		{"SignatureAlgorithms 1.2", conf("SignatureAlgorithms", "RSA-PSS+SHA384:ECDSA+SHA256"), "-tls1_2", []string{"Signature Algorithms: RSA-PSS+SHA384:ECDSA+SHA256\n"}, false},
		{"ClientSignatureAlgorithms", conf("ClientSignatureAlgorithms", "RSA-PSS+SHA512"), "-tls1_3", []string{"Peer signing digest: SHA512"}, false},
		{"Groups", conf("Groups", "P-384:P-256"), "-tls1_3", []string{"roups: secp384r1:"}, false},
		{"MinProtocol", conf("MinProtocol", "TLSv1.3"), "-tls1_2", nil, true},
		{"Options", conf("Options", "-SessionTicket", "RecordPadding", "512"), "-tls1_3", []string{"17 03 03 02 10"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := start(t, "openssl", "openssl", "s_server", "-accept", "127.0.0.1:0", c.flag, "-cert", testkit.PKI("server.crt"),
				"-key", testkit.PKI("server.key"), "-CAfile", testkit.PKI("root.crt"), "-Verify", "1", "-msg")
			conn, err := sslnet.Dial("tcp", server.await("ACCEPT ", 1), testkit.Ctx(t, testkit.Showing("client.crt", "", c.change)))
			if c.refused {
				require.ErrorContains(t, err, "protocol version")
				return
			}
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(testkit.Patience)))
			_, err = io.WriteString(conn, "hello\n")
			require.NoError(t, err)
			server.await("hello", 1)
			for _, text := range c.has {
				server.await(text, 1)
			}
		})
	}
}
