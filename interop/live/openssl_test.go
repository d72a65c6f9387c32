package live_test

import (
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// opensslPeers returns the openssl commands of all series that the library builds with.
func opensslPeers() (list []*peer) {
	for _, series := range []string{"1.1.1", "3.0", "3.5", "3.6", "4.0"} {
		find := func(t testing.TB) string { return peers.FindOpenSSL(t, series) }
		p := &peer{name: "OpenSSL " + series, short: series == "3.0", debian: "openssl, or `scripts/mkssl.sh`", clientALPN: "interop", serverALPN: "interop"}
		p.lacks = map[string]string{"client " + mustStaple: "check of the extension"}
		p.quirks.serverCuts = series == "1.1.1" // s_server sets SSL_SENT_SHUTDOWN and frees the connection
		p.version = func(t testing.TB) string {
			out, _ := run(t, find(t), "version")
			return strings.Fields(out)[1]
		}
		p.client = func(t testing.TB, c call) outcome { return opensslClient(t, find(t), c) }
		p.server = func(t testing.TB, c call) service { return opensslServer(t, find(t), c) }
		list = append(list, p)
	}
	return list
}

// run runs a program of the peer to its end.
func run(t testing.TB, path string, args ...string) (string, int) {
	t.Helper()
	p := peers.StartForeign(t, nil, path, args...)
	p.CloseInput()
	status := p.Wait()
	return p.Output(), status
}

// opensslVersion returns the flag for one protocol version.
func opensslVersion(v sslfilter.Version) string {
	return map[sslfilter.Version]string{sslfilter.VersionTLS12: "-tls1_2", sslfilter.VersionTLS13: "-tls1_3"}[v]
}

func opensslClient(t testing.TB, path string, c call) outcome {
	args := []string{"s_client", "-connect", c.addr, opensslVersion(c.version), "-CAfile", c.ca, "-verify_return_error",
		"-verify_hostname", c.host(), "-servername", c.host(), "-alpn", "interop"}
	if c.auth != "" {
		args = append(args, "-sigalgs", map[string]string{"RSA": "RSA-PSS+SHA256", "ECDSA": "ECDSA+SHA256"}[c.auth])
	}
	if c.status {
		args = append(args, "-status")
	} else {
		args = append(args, "-brief")
	}
	if c.crt != "" {
		args = append(args, "-cert", c.crt, "-key", c.key)
	}
	if c.visits == 0 {
		return opensslVisit(t, path, c, args)
	}
	session, times, result := filepath.Join(t.TempDir(), "session"), c.visits, outcome{}
	c.visits = 0
	for i := 0; i < times && (i == 0 || result.done); i++ {
		result = opensslVisit(t, path, c, append(args, "-sess_out", session))
		args = append(args[:len(args):len(args)], "-sess_in", session)
	}
	return result
}

func opensslVisit(t testing.TB, path string, c call, args []string) outcome {
	p := peers.StartForeign(t, nil, path, args...)
	if c.again {
		p.Say("R\n")
		p.Await("RENEGOTIATING")
	}
	return lineClient(p, c, nil, func(out string) outcome {
		return outcome{
			version: firstMatch(`Protocol version: (\S+)`, out), cipher: firstMatch(`Ciphersuite: (\S+)`, out), status: firstMatch(`Cert Status: (.*)`, out),
		}
	})
}

// lineClient talks through a client that sends its standard input, ends at the end of
// that input, and mixes the data that it receives with its own output. resume makes it
// connect again; n is the number of its connections until then.
func lineClient(p *peers.Program, c call, resume func(n int), read func(out string) outcome) outcome {
	for n := range c.times() {
		if n > 0 {
			resume(n)
		}
		p.Write(c.send)
		awaitPayload(p, (n+1)*len(c.want))
	}
	p.CloseInput()
	status := p.Wait()
	out := p.Output()
	result := read(out)
	result.done = status == 0 && string(payloadIn(out)) == strings.Repeat(string(c.want), c.times())
	result.text = payloadLine.ReplaceAllString(out, "")
	return result
}

func opensslServer(t testing.TB, path string, c call) service {
	args := []string{"s_server", "-accept", "127.0.0.1:0", "-naccept", fmt.Sprint(c.times()), opensslVersion(c.version), "-cert", c.crt, "-key", c.key,
		"-alpn", "interop"}
	if c.ask {
		args = append(args, "-CAfile", c.ca, "-Verify", "1", "-verify_return_error")
	}
	if c.crl != "" {
		args = append(args, "-CRL", c.crl, "-crl_check")
	}
	if c.staple != "" {
		args = append(args, "-status_file", c.staple)
	}
	p := peers.StartForeign(t, nil, path, args...)
	return lineServer(p, p.Await("ACCEPT "), c, func(out string) outcome {
		return outcome{
			version: opensslSessionVersion(out), cipher: firstMatch(`CIPHER is (\S+)`, out), cert: firstMatch(`subject=(.*)`, out),
			resumed: yesNo(strings.Contains(out, "\nReused session-id\n")),
		}
	})
}

// opensslSessionVersion is the version in the session (i2d_SSL_SESSION) that s_server prints.
func opensslSessionVersion(out string) string {
	block, _ := pem.Decode([]byte(out))
	for rest := []byte(out); block != nil && block.Type != "SSL SESSION PARAMETERS"; {
		block, rest = pem.Decode(rest)
	}
	var session struct{ Structure, Version int }
	if block == nil {
		return ""
	}
	if _, err := asn1.Unmarshal(block.Bytes, &session); err != nil {
		return err.Error()
	}
	return sslfilter.Version(session.Version).String()
}

// awaitPayload waits until a program has printed size bytes of payloads, in any pieces, or has ended.
func awaitPayload(p *peers.Program, size int) {
	p.AwaitOutput("the payload", func(out string, ended bool) bool {
		return ended || len(out) >= size && len(payloadIn(out)) >= size
	})
}

// lineServer talks through a server that works like the client of lineClient. It ends
// by itself.
func lineServer(p *peers.Program, addr string, c call, read func(out string) outcome) service {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for i := range c.times() {
			awaitPayload(p, (i+1)*len(c.want))
			if c.again {
				p.Write([]byte("R\n"))
				return
			}
			p.Write(c.send)
		}
	}()
	return service{addr: addr, end: func() outcome {
		<-gone
		p.Wait()
		out := p.Output()
		result := read(out)
		result.done = string(payloadIn(out)) == strings.Repeat(string(c.want), c.times())
		result.text = payloadLine.ReplaceAllString(out, "")
		return result
	}}
}
