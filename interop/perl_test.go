//go:build unix

package interop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/child"
	"github.com/seed-014b8713/sslfilter/internal/peers"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

var crlFile = testkit.PKI("crl.pem")

// endpoint is the Perl script that runs the original.
const endpoint = "testdata/endpoint.pl"

// clientCerts are the certificates that a client can send, and the expected verdicts
// of the server.
var clientCerts = []struct {
	name          string // a file of the PKI; empty means no certificate
	exists, valid bool
	notOnCRL      bool
}{
	{name: "client", exists: true, valid: true, notOnCRL: true},
	{name: "client-revoked", exists: true, valid: true, notOnCRL: false}, // valid except for the list
	{name: "client-expired", exists: true, valid: false, notOnCRL: true},
	{name: "client-unknown", exists: true, valid: false, notOnCRL: true},
	{name: ""},
}

// TestPerl joins the original and this library over TCP in both directions and
// compares what the two servers, and the two clients, saw of the same peer.
func TestPerl(t *testing.T) {
	peers.FindFor(t, endpoint, "libpoe-filter-ssl-perl", "perl")
	for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
		for _, cert := range clientCerts {
			for _, chunk := range []int{1, 7, 1000, 0} {
				t.Run(fmt.Sprintf("%s/%s/chunk %d", version, cert.name, chunk), func(t *testing.T) {
					t.Parallel()
					perlServer, ourClient := againstPerlServer(t, version, cert.name, chunk)
					ourServer, perlClient := againstPerlClient(t, version, cert.name, chunk)

					require.Equal(t, version, ourServer.Version)
					require.Equal(t, cert.exists, ourServer.Exists)
					require.Equal(t, cert.valid, ourServer.Valid)
					require.Equal(t, cert.notOnCRL, ourServer.NotOnCRL)
					if cert.name == "" {
						perlServer.NotOnCRL = false // true: the original does not block a client without a certificate
					}
					require.Equal(t, perlServer, ourServer, "what the servers saw")
					require.True(t, ourClient.Valid)
					require.Equal(t, perlClient, ourClient, "what the clients saw")
				})
			}
		}
	}
}

// outcome is the result of one side.
type outcome struct {
	Done     bool     `json:"done"`
	Cipher   string   `json:"cipher"`
	Version  string   `json:"version"`
	Exists   bool     `json:"exists"`
	Valid    bool     `json:"valid"`
	IDs      []certID `json:"ids"`
	NotOnCRL bool     `json:"not_on_crl"`
	Bytes    int      `json:"bytes"`
	SHA256   string   `json:"sha256"`
	Errors   []string `json:"errors"`
}

type certID struct {
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	Serial  string `json:"serial"`
	Err     int    `json:"err"`
}

// piece is one message: n times a byte.
type piece struct {
	n    int
	char byte
}

func (p piece) MarshalJSON() ([]byte, error) { return json.Marshal([2]int{p.n, int(p.char)}) }

// The sizes avoid the known cases in which the original loses data: no record is
// "0", and no put makes 32769 bytes.
var (
	serverSays = []piece{{1, 's'}, {5000, 'e'}, {16384, 'r'}, {16385, 'v'}}
	clientSays = []piece{{7, 'c'}, {16384, 'l'}, {12345, 'i'}, {1, 'e'}}
)

func total(say []piece) (n int) {
	for _, p := range say {
		n += p.n
	}
	return n
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func said(say []piece) []byte {
	var b []byte
	for _, p := range say {
		b = append(b, bytes.Repeat([]byte{p.char}, p.n)...)
	}
	return b
}

// perlSpec is the argument of endpoint.pl.
type perlSpec struct {
	New     map[string]any `json:"new"`
	Say     []piece        `json:"say"`
	Chunk   int            `json:"chunk"`
	CRL     string         `json:"crl"`
	Timeout int            `json:"timeout"`
}

func newSpec(version string, chunk int, say []piece, options map[string]any) perlSpec {
	if version == "TLSv1.2" {
		options["tls1_2"] = 1
	}
	return perlSpec{New: options, Say: say, Chunk: chunk, CRL: crlFile, Timeout: int(testkit.Patience.Seconds())}
}

func againstPerlServer(t *testing.T, version, cert string, chunk int) (perl, ours outcome) {
	p := startPerl(t, newSpec(version, chunk, serverSays, map[string]any{
		"crt": testkit.PKI("server.crt"), "key": testkit.PKI("server.key"), "cacrt": testkit.PKI("root.crt"), "clientcert": 1,
	}), "--listen")
	port := p.event(t, "listen").Port
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), testkit.Patience)
	require.NoError(t, err)

	o := sslfilter.Options{Client: true, ServerName: "localhost", CACrt: testkit.PKI("root.crt"), TLS12: version == "TLSv1.2"}
	if cert != "" {
		o.Crt, o.Key = testkit.PKI(cert+".crt"), testkit.PKI(cert+".key")
	}
	ours = talk(t, conn, o, chunk, clientSays, total(serverSays))
	return p.end(t, said(clientSays)), ours
}

func againstPerlClient(t *testing.T, version, cert string, chunk int) (ours, perl outcome) {
	listener := testkit.Listen(t)
	require.NoError(t, listener.(*net.TCPListener).SetDeadline(time.Now().Add(testkit.Patience)))

	options := map[string]any{"client": 1, "cacrt": testkit.PKI("root.crt")}
	if cert != "" {
		options["crt"], options["key"] = testkit.PKI(cert+".crt"), testkit.PKI(cert+".key")
	}
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	p := startPerl(t, newSpec(version, chunk, clientSays, options), "--connect", port)
	conn, err := listener.Accept()
	require.NoError(t, err)

	ours = talk(t, conn, sslfilter.Options{
		Crt: testkit.PKI("server.crt"), Key: testkit.PKI("server.key"), CACrt: testkit.PKI("root.crt"), ClientCert: true, TLS12: version == "TLSv1.2",
	}, chunk, serverSays, total(clientSays))
	return ours, p.end(t, said(serverSays))
}

// talk does one connection of our side: the handshake, sending, and receiving until
// want bytes have arrived.
func talk(t *testing.T, conn net.Conn, o sslfilter.Options, chunk int, say []piece, want int) outcome {
	out := outcome{IDs: []certID{}, Errors: []string{}}
	o.ErrorHandler = func(_ *sslfilter.Filter, err error) { out.Errors = append(out.Errors, err.Error()) }
	w := newWire(t, conn, o)
	w.chunk = chunk
	w.pumpUntil("the handshake", w.HandshakeDone)
	for _, p := range say {
		require.NoError(t, w.Send(bytes.Repeat([]byte{p.char}, p.n)))
		w.flush()
	}
	w.pumpUntil("the peer's data", func() bool { return len(w.got) >= want })
	out.see(w.Filter)
	out.Bytes, out.SHA256 = len(w.got), sum(w.got)

	require.NoError(t, w.CloseWrite())
	w.flush()
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	require.Equal(t, io.EOF, w.drain())
	require.Len(t, w.got, want)
	require.Empty(t, out.Errors)
	require.ErrorIs(t, w.ReceiveEOF(), io.ErrUnexpectedEOF, "the original never sends close_notify")
	out.Errors = out.Errors[:0]
	return out
}

// see copies the verdicts.
func (o *outcome) see(f *sslfilter.Filter) {
	o.Done, o.Cipher, o.Version = f.HandshakeDone(), f.Cipher(), f.Version()
	o.Exists, o.Valid = f.ClientCertExists(), f.ClientCertValid()
	o.NotOnCRL = f.ClientCertNotOnCRL(crlFile)
	for _, id := range f.ClientCertIDs() {
		o.IDs = append(o.IDs, certID{id.Subject, id.Issuer, sslfilter.Hexdump(id.Serial), int(id.Err)})
	}
}

// perl is a process of endpoint.pl.
type perl struct {
	events *json.Decoder
	stderr *bytes.Buffer
	wait   func() error
}

type perlEvent struct {
	Ev     string
	Port   int
	Inputs int
	Text   string
	outcome
}

// startPerl starts the original in a session of its own, so that it finds no terminal
// on which to prompt for a passphrase.
func startPerl(t *testing.T, spec perlSpec, args ...string) *perl {
	argument, err := json.Marshal(spec)
	require.NoError(t, err)
	cmd := exec.Command("perl", append(append([]string{endpoint}, args...), string(argument))...)
	cmd.Env = peers.ForeignEnv()
	p := &perl{stderr: new(bytes.Buffer)}
	cmd.Stderr = p.stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start(cmd))
	p.events, p.wait = json.NewDecoder(stdout), sync.OnceValue(cmd.Wait)
	tooLong := time.AfterFunc(testkit.Patience, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		tooLong.Stop()
		cmd.Process.Kill()
		p.wait()
	})
	return p
}

// event waits for the next event, which must be of the given kind.
func (p *perl) event(t *testing.T, kind string) perlEvent {
	var e perlEvent
	if err := p.events.Decode(&e); err != nil {
		p.wait()
		require.NoError(t, err, "the original: %s", p.stderr)
	}
	require.Equal(t, kind, e.Ev, "%+v", e)
	return e
}

// end waits until the original has seen the end of the connection, and returns its
// result.
func (p *perl) end(t *testing.T, want []byte) outcome {
	e := p.event(t, "end")
	require.NoError(t, p.wait(), p.stderr)
	require.Empty(t, e.Errors)
	require.Equal(t, len(want), e.Bytes)
	require.Equal(t, sum(want), e.SHA256)
	return e.outcome
}
