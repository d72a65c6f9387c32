// Package live_test tests this library against widely used TLS implementations, over
// TCP on the loopback interface and in both directions, and writes the results into
// docs/interop.md.
//
// Each peer has a file of its own. The scenes are in scene_test.go. Every peer runs
// all of them, and its quirks list what it cannot do.
package live_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-014b8713/sslfilter"
)

// peer is another implementation of TLS.
type peer struct {
	name   string
	debian string // the package that it comes from
	// version returns the version of the peer. It skips the test if the peer is missing.
	version func(t testing.TB) string
	// client connects to our server at call.addr and runs to its end. It is nil if the
	// peer has no client.
	client func(t testing.TB, c call) outcome
	// server starts a server for our client. It is nil if the peer has no server.
	server func(t testing.TB, c call) service

	short      bool   // one of the peers that -short keeps
	http       bool   // speaks HTTP, with the data as bodies
	clientALPN string // the protocol that is negotiated
	serverALPN string
	quirks     quirks
	// lacks says what the peer does not have: the words after "has no", by direction
	// ("client" or "server"), ability and, if only one version lacks it, version.
	lacks map[string]string
}

// quirks are the ways in which a peer differs from the others.
type quirks struct {
	clientSilent bool // does not report the negotiated version and cipher
	clientCuts   bool // ends without close_notify
	serverCuts   bool
	// clientLeaves and serverLeaves are for peers that verify after the handshake and
	// send no alert: the errors with which our end sees the connection end.
	clientLeaves, serverLeaves []error
	noSNI                      bool // as a client it sends no server name
	waitsForEnd                bool // as a client it ends after the server has ended
	ignoresNotify              bool // it treats only the end of the TCP connection as the end
	acceptsInvalid             bool // it accepts peers with an invalid certificate
	answersInHTTP              bool // as a server it rejects clients in HTTP, with status 400
	noCRL                      bool // as a server it has no revocation list
	plain                      bool // it has no column in the table of abilities
	staplesSHA1                bool // as a server it signs what it staples, with SHA-1
	asksResponder              bool // as a server it gets what it staples from a responder
	// asksOnCommand is what our client has to send to a server that shall ask for a new
	// handshake.
	asksOnCommand string
	// fixed is the data that the peer sends, if the test cannot choose it.
	fixed []byte
	// asked turns a payload into the data that is sent to the peer's server, and answers
	// turns it into the data that the server returns.
	asked, answers func([]byte) []byte
}

// call says what a peer has to do.
type call struct {
	version  sslfilter.Version // the only one
	addr     string            // of our server
	crt, key string            // of the peer; a client without a certificate has ""
	ca       string            // the CA that it trusts
	ask      bool              // the server requires a valid client certificate
	closes   bool              // it closes as soon as it has received want and sent everything
	send     []byte            // data to send: a client sends it first, a server after it has received want
	want     []byte            // data to receive

	// The abilities of abilities_test.go need more. The zero values are those of the
	// other scenes.
	name   string // the server name that a client sends and verifies; "" means localhost
	auth   string // the type of key that a client accepts from a server: "RSA", "ECDSA" or "" for both
	crl    string // the revocation list of a server that asks; "" means none
	status bool   // a client requests an OCSP response, and judges it if it can
	staple string // the file with the OCSP response that a server staples
	again  bool   // the peer asks for a new handshake, in TLS 1.2
	chain  string // the issuer of crt, if the server needs it
	visits int    // connections that a client makes or a server accepts, with one cache of sessions; 0 means one
}

// times returns the number of connections.
func (c call) times() int { return max(c.visits, 1) }

// host returns the name that a client sends and verifies.
func (c call) host() string { return cmp.Or(c.name, "localhost") }

// outcome is the report of a peer about a connection.
type outcome struct {
	done    bool   // the handshake, all data in both directions and the end have succeeded, in all connections
	version string // in any notation
	cipher  string // in any notation
	cert    string // a text that contains the name in our certificate
	status  string // a text that contains what the peer says about our OCSP response
	resumed string // "yes" or "no": the last connection has resumed a session; "" if the peer does not say it
	text    string // all output
}

func yesNo(b bool) string { return map[bool]string{true: "yes", false: "no"}[b] }

// service is a peer that waits for our client.
type service struct {
	addr string
	// end waits for the report of the peer after our client has ended.
	end func() outcome
}

// allPeers returns all peers, in the order of the table.
func allPeers() (all []*peer) {
	all = append(all, opensslPeers()...)
	all = append(all, gnutlsPeer(), nssPeer(), curlPeer(), nginxPeer(), haproxyPeer(), stunnelPeer())
	all = append(all, scriptPeers()...)
	return append(all, goPeer(), originalPeer())
}

const (
	payloadLines = 1600
	payloadSize  = payloadLines * 64
)

// payload returns 100 KB of lines that no program treats as a command, and that can
// be found among its other output.
func payload() []byte {
	var b bytes.Buffer
	for range payloadLines {
		fmt.Fprintf(&b, "d%016x%016x%016x%014x\n", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()>>8)
	}
	return b.Bytes()
}

var payloadLine = regexp.MustCompile(`(?m)^d[0-9a-f]{62}$`)

// payloadIn returns the lines of a payload that are in the output of a program.
func payloadIn(out string) []byte {
	var b bytes.Buffer
	for _, line := range payloadLine.FindAllString(out, -1) {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// firstMatch returns the text of the first group in the first match of pattern.
func firstMatch(pattern, text string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

var plainCipher = strings.NewReplacer("TLS_", "", "WITH_", "", "-", "", "_", "", " ", "")

// sameCipher compares OpenSSL's name of a suite with the name that a peer uses, which
// may be shorter.
func sameCipher(ours, theirs string) bool {
	a, b := plainCipher.Replace(ours), plainCipher.Replace(theirs)
	return b != "" && (strings.Contains(a, b) || strings.Contains(b, a))
}
