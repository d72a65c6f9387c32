// Package live_test joins this library with the TLS implementations that people
// run, over TCP on the loopback and in both directions, and writes what came of
// it into docs/interop.md.
//
// A peer is a file of its own. What happens between it and us stands once, in
// scene_test.go: every peer goes through all of it, and says in its quirks what
// it cannot do.
package live_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-014b8713/sslfilter"
)

// peer is an implementation of TLS that nobody here wrote.
type peer struct {
	name   string
	debian string // the package that it comes from
	// version is what it says of itself. It skips the test if it is missing.
	version func(t testing.TB) string
	// client visits our server at call.addr and runs to its end. A nil one
	// means that the peer has none.
	client func(t testing.TB, c call) told
	// server waits for our client.
	server func(t testing.TB, c call) service

	short      bool   // one of those that -short keeps
	http       bool   // speaks HTTP, with the data as bodies
	clientALPN string // the protocol that is agreed on
	serverALPN string
	quirks     quirks
}

// quirks are the ways in which a peer is not like the others.
type quirks struct {
	clientSilent bool // does not say what was negotiated
	clientCuts   bool // ends without close_notify
	serverCuts   bool
	// clientLeaves and serverLeaves are for who verifies behind the handshake and
	// sends no alert: how our end sees it go.
	clientLeaves, serverLeaves []error
	noSNI                      bool // as a client it sends no server name
	waits                      bool // as a client it ends when the server has
	deaf                       bool // only the end of the TCP connection is one for it
	lenient                    bool // refuses nobody whose certificate is bad
	polite                     bool // as a server it refuses in HTTP, with status 400
	noCRL                      bool // as a server it has no revocation list
	// says is all that it can say, if it cannot be told what.
	says []byte
	// asked makes what its server is sent of a payload, and answers what that
	// sends back.
	asked, answers func([]byte) []byte
}

// call is what a peer is asked to do.
type call struct {
	version  sslfilter.Version // and no other
	addr     string            // of our server
	crt, key string            // what it shows; empty for a client is nothing
	ca       string            // whom it trusts
	ask      bool              // a server asks for a certificate, and refuses who has no valid one
	closes   bool              // it closes when it has all of want and has sent, and waits for nothing
	send     []byte            // what it has to send: a client first, a server when it has all of want
	want     []byte            // what it must get
}

// told is what a peer says of a connection.
type told struct {
	done    bool   // the handshake, all the data in both directions, and the end
	version string // in any notation
	cipher  string // in any notation
	cert    string // something of our certificate that has its name
	text    string // everything
}

// service is a peer that waits for our client.
type service struct {
	addr string
	// end waits for what the peer says when our client is gone.
	end func() told
}

// allPeers are all of them, in the order of the table.
func allPeers() (all []*peer) {
	all = append(all, opensslPeers()...)
	all = append(all, gnutlsPeer(), nssPeer(), curlPeer(), nginxPeer(), haproxyPeer(), stunnelPeer())
	all = append(all, scriptPeers()...)
	return append(all, goPeer(), originalPeer())
}

const payloadLines = 1600

// payload is 100 KB of lines that no program takes for a command, and that can
// be found among what else it prints.
func payload() []byte {
	var b bytes.Buffer
	for range payloadLines {
		fmt.Fprintf(&b, "d%016x%016x%016x%014x\n", rand.Uint64(), rand.Uint64(), rand.Uint64(), rand.Uint64()>>8)
	}
	return b.Bytes()
}

var payloadLine = regexp.MustCompile(`(?m)^d[0-9a-f]{62}$`)

// payloadIn are the lines of a payload that stand in what a program printed.
func payloadIn(out string) []byte {
	var b bytes.Buffer
	for _, line := range payloadLine.FindAllString(out, -1) {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// firstMatch is what the first group of pattern matches, in the first place.
func firstMatch(pattern, text string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

var plainCipher = strings.NewReplacer("TLS_", "", "WITH_", "", "-", "", "_", "", " ", "")

// sameCipher compares OpenSSL's name of a suite with what a peer calls it, which
// may be less.
func sameCipher(ours, theirs string) bool {
	a, b := plainCipher.Replace(ours), plainCipher.Replace(theirs)
	return b != "" && (strings.Contains(a, b) || strings.Contains(b, a))
}
