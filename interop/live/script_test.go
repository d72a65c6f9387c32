package live_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// script is a program in testdata. It does one connection for each line of its standard
// input, so that it needs to start only once. A line has words NAME=VALUE, separated by
// tabs:
//
//	role=client|server version=TLSv1.3 ca=FILE crt=FILE key=FILE crl=FILE ask=1
//	port=PORT send=FILE want=LENGTH name=HOST auth=RSA|ECDSA status=1 again=1
//	staple=FILE|URL chain=FILE visits=NUMBER
//
// It first prints version=…. As a server it prints port=…, and at the end of
// each connection "result" with words version, cipher, cert, status (the
// OCSP response in hexadecimal digits, or what the peer says about it), sha256 of what it received, end=orderly if the other side's close_notify came, or error. With
// close it ends as its programs usually do, without a wait for the other side.
type script struct {
	name, debian string
	argv         []string // without the file
	file         string
	quirks       quirks
	lacks        map[string]string
}

// destroyed are the errors with which a connection ends that Node does not trust. Data
// that Node has not read turns the end into a reset.
var destroyed = []error{io.ErrUnexpectedEOF, syscall.ECONNRESET}

var scripts = []script{
	{name: "Java JSSE", debian: "default-jdk-headless", file: "Peer.java",
		// The single-file launcher compiles the source. After that, a small heap and the C1
		// compiler are sufficient.
		argv: []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m",
			"-Djdk.tls.server.enableStatusRequestExtension=true", "-Djdk.tls.stapling.responderOverride=true"},
		quirks: quirks{asksResponder: true},
		lacks:  map[string]string{"client " + twoKeys + " 1.3": "choice of signature algorithms for one connection", "client " + mustStaple: "check of the extension"}},
	{name: "Node", debian: "nodejs", file: "peer.mjs", argv: []string{"node"},
		quirks: quirks{clientLeaves: destroyed, serverLeaves: destroyed},
		lacks:  map[string]string{"client " + mustStaple: "check of the extension"}},
	{name: "Python", debian: "python3", file: "peer.py", argv: []string{"/usr/bin/python3"}, quirks: quirks{plain: true}},
	{name: "Net::SSLeay", debian: "libnet-ssleay-perl", file: "peer.pl", argv: []string{"perl"}, quirks: quirks{plain: true}},
}

func scriptPeers() (list []*peer) {
	for _, s := range scripts {
		r := &running{script: s}
		list = append(list, &peer{
			name: s.name, debian: s.debian, clientALPN: "interop", serverALPN: "interop",
			version: r.version, client: r.client, server: r.server, quirks: s.quirks, lacks: s.lacks,
		})
	}
	return list
}

// running is a script that has been started. Its scenes run one after the other.
type running struct {
	script
	p    *peers.Program
	read int // bytes of its output
}

// version starts the script until the end of t.
func (r *running) version(t testing.TB) string {
	file := filepath.Join("testdata", r.file)
	path := peers.FindFor(t, file, r.debian, r.argv[0])
	r.p = peers.StartForeign(t, nil, path, append(r.argv[1:], file)...)
	return r.next("version=")
}

// next returns the rest of the next line that begins with prefix. It drops the lines
// before it.
func (r *running) next(prefix string) (rest string) {
	found := false
	r.p.AwaitOutput(prefix, func(out string, ended bool) bool {
		for !found {
			line, _, whole := strings.Cut(out[r.read:], "\n")
			if !whole {
				return ended
			}
			r.read += len(line) + 1
			rest, found = strings.CutPrefix(line, prefix)
		}
		return true
	})
	return rest
}

// say starts a connection.
func (r *running) say(t testing.TB, role string, c call) {
	t.Helper()
	send := filepath.Join(t.TempDir(), "send")
	require.NoError(t, os.WriteFile(send, c.send, 0o600))
	line := fmt.Sprintf("role=%s\tversion=%s\tca=%s\tsend=%s\twant=%d", role, c.version, c.ca, send, len(c.want))
	if c.addr != "" {
		line += "\tport=" + peers.Port(t, c.addr)
	}
	if c.crt != "" {
		line += "\tcrt=" + c.crt + "\tkey=" + c.key
	}
	if c.ask {
		line += "\task=1"
	}
	for name, value := range map[string]string{"crl": c.crl, "name": c.name, "auth": c.auth, "staple": c.staple, "chain": c.chain} {
		if value != "" {
			line += "\t" + name + "=" + value
		}
	}
	if c.status {
		line += "\tstatus=1"
	}
	if c.again {
		line += "\tagain=1"
	}
	if c.visits > 0 {
		line += fmt.Sprintf("\tvisits=%d", c.visits)
	}
	if c.closes {
		line += "\tclose=1"
	}
	r.p.Say(line + "\n")
}

// outcome reads the result of the connection.
func (r *running) outcome(c call) outcome {
	words := map[string]string{}
	text := r.next("result")
	for word := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == '\t' }) {
		name, value, _ := strings.Cut(word, "=")
		words[name] = value
	}
	digest := sha256.Sum256(c.want)
	return outcome{
		done:    words["error"] == "" && words["end"] == "orderly" && words["sha256"] == hex.EncodeToString(digest[:]),
		version: words["version"], cipher: words["cipher"], cert: words["cert"], status: words["status"], text: text,
		resumed: words["resumed"],
	}
}

func (r *running) client(t testing.TB, c call) outcome {
	r.say(t, "client", c)
	return r.outcome(c)
}

func (r *running) server(t testing.TB, c call) service {
	r.say(t, "server", c)
	return service{addr: "127.0.0.1:" + r.next("port="), end: func() outcome { return r.outcome(c) }}
}

// Java's SSLSocket.close() sends user_canceled and close_notify (RFC 8446 section 6.1).
// That is an orderly end, and our side can still end in order.
func TestJavaCloses(t *testing.T) {
	const java = "Java JSSE"
	r := &running{script: scripts[slices.IndexFunc(scripts, func(s script) bool { return s.name == java })]}
	r.version(t)
	requireClosed := func(t *testing.T, conn net.Conn, o sslfilter.Options, want, send []byte) {
		t.Helper()
		side := sslnet.Server
		if o.Client {
			side = sslnet.Client
		}
		c := side(conn, testkit.Ctx(t, o))
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(peers.Patience)))
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write(send)
			sent <- err
		}()
		got := make([]byte, len(want))
		_, err := io.ReadFull(c, got)
		require.NoError(t, err)
		require.NoError(t, <-sent)
		require.Equal(t, string(want), string(got))
		_, err = c.Read(got)
		require.Equal(t, io.EOF, err)
		require.NoError(t, c.CloseWrite())
	}
	for _, version := range tlsVersions {
		t.Run("client/"+version.String(), func(t *testing.T) {
			l := testkit.Listen(t)
			require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(peers.Patience)))
			c := call{version: version, addr: l.Addr().String(), ca: testkit.AbsPKI("root.crt"), send: payload(), want: payload(), closes: true}
			r.say(t, "client", c)
			conn, err := l.Accept()
			require.NoError(t, err)
			requireClosed(t, conn, testkit.Server(), c.send, c.want)
			require.NotContains(t, r.outcome(c).text, "error=")
		})
		t.Run("server/"+version.String(), func(t *testing.T) {
			c := call{version: version, ca: testkit.AbsPKI("root.crt"), crt: testkit.AbsPKI("server.crt"), key: testkit.AbsPKI("server.key"), send: payload(), want: payload(), closes: true}
			s := r.server(t, c)
			conn, err := net.DialTimeout("tcp", s.addr, peers.Patience)
			require.NoError(t, err)
			requireClosed(t, conn, testkit.Client(), c.send, c.want)
			require.NotContains(t, s.end().text, "error=")
		})
	}
	document.extra(javaCloses, java, "yes")
}
