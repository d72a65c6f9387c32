package sslfilter_test

// The peer of these fuzz targets has the keys, so that OpenSSL decrypts its records and
// reads messages that an honest peer would not send.

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// keyedWorld is a context with the configuration of its peer.
type keyedWorld struct {
	ctx    *sslfilter.Ctx
	client bool
}

// keyedWorlds returns a server and a client for TLS 1.2 and for TLS 1.3.
func keyedWorlds(t testing.TB) (list []keyedWorld) {
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		for _, client := range []bool{false, true} {
			w := keyedWorld{ctx: testkit.Ctx(t, keyedOptions(client, v)), client: client}
			list = append(list, w)
		}
	}
	return list
}

// Invariant: if a peer with the keys alters its own handshake messages, including its
// certificates, before they are encrypted, there is no panic, no C object is left, a
// failed filter is frozen, and the handshake completes only if nothing was altered.
func FuzzFlight(f *testing.F) {
	worlds := keyedWorlds(f)
	for i := range worlds {
		for op := range byte(12) {
			for at := range byte(6) {
				f.Add(uint8(i), append(slices.Repeat([]byte{0}, int(at)), op, 0, 7, 0xff, 0, 3, 1, 2, 3))
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		leavesNothing(t, func() {
			w := worlds[int(which)%len(worlds)]
			filter := testkit.FilterOf(t, w.ctx)
			defer filter.Close()
			e := &edit{script: script{data}}
			var want, got []byte // the messages of the peer, and those that were sent
			connectKeyed(t, filter, w.client, func(kind byte, body []byte) [][]byte {
				said := e.apply(body)
				said = slices.DeleteFunc(said, func(b []byte) bool { return len(b) == 0 })
				for i, b := range said {
					said[i] = b[:min(len(b), 16384)]
				}
				want = append(want, body...)
				got = slices.Concat(append([][]byte{got}, said...)...)
				return said
			})
			if filter.HandshakeDone() {
				require.True(t, bytes.HasPrefix(got, want), "complete, though altered")
			}
			landmark(fmt.Sprint(filter.Err()))
			requireSound(t, filter)
		})
	})
}

// keyedSession is a connection whose peer has the keys and follows a script.
type keyedSession struct {
	*keyed
	script
	got strings.Builder
	end error
}

// step makes the next records of the script.
func (k *keyedSession) step() []byte {
	op := k.byte()
	body := func() []byte { return k.bytes(int(k.byte())) }
	switch op % 12 {
	case 0:
		return k.send(typeData, body())
	case 1:
		return k.send(typeHandshake, body())
	case 2:
		return k.send(typeHandshake, message(k.byte(), body()...))
	case 3:
		return k.send(typeAlert, k.bytes(2))
	case 4:
		return k.send(typeCCS, body())
	case 5:
		return k.send(k.byte(), body())
	case 6:
		return k.send(typeHandshake, keyUpdating(k.byte()%3))
	case 7: // a NewSessionTicket of TLS 1.3
		age := k.bytes(8)
		return k.send(typeHandshake, message(4, slices.Concat(age, []byte{1, 7}, []byte{0, 8}, []byte("a ticket"), []byte{0, 0})...))
	case 8: // a HelloRequest, or the ClientHello of a renegotiation
		if k.client {
			return k.send(typeHandshake, message(0))
		}
		hello := slices.Clone(k.hello[5:])
		if len(k.data) > 0 {
			hello[k.int()%len(hello)] ^= k.byte()
		}
		return k.send(typeHandshake, hello)
	case 9: // a CertificateRequest after the handshake, in TLS 1.3
		return k.send(typeHandshake, message(13, append([]byte{1, 5}, body()...)...))
	case 10: // a ServerHello of a renegotiation
		return k.send(typeHandshake, k.serverHello())
	default: // in plain text
		return body()
	}
}

// serverHello returns the answer of an honest server to the ClientHello of a
// renegotiation, with the extension that binds it to the first handshake (RFC 5746).
func (k *keyedSession) serverHello() []byte {
	tied := slices.Concat(k.finished[0], k.finished[1])
	extensions := append([]byte{0xff, 1, 0, byte(1 + len(tied)), byte(len(tied))}, tied...)
	return message(2, slices.Concat([]byte{3, 3}, make([]byte, 32), []byte{0}, []byte{0xc0, 0x2b, 0}, []byte{0, byte(len(extensions))}, extensions)...)
}

// Invariant: if a peer with the keys sends anything after the handshake, during a
// renegotiation, or after its close_notify, there is no panic, and no C object is left. The
// plaintext is a prefix of the data that it sent, and io.EOF means close_notify. During a
// renegotiation no peer is valid. Output is bounded, and a failed filter is frozen.
func FuzzKeyed(f *testing.F) {
	worlds := keyedWorlds(f)
	for i := range worlds {
		for _, seed := range []string{
			"\x00\x05hello\x00\x00\x00\x05world", "\x00\x02hi\x03\x01\x00\x00\x02no", "\x06\x00\x00\x01a\x06\x01\x00\x01b", "\x06\x02",
			"\x07\x00\x00\x1c\x20\x00\x00\x00\x01\x07\x00\x00\x1c\x20\x00\x00\x00\x01", "\x08\x00\x00\x00\x00\x01a", "\x08\x0a\x02\x0b\x03\x00\x00\x00",
			"\x09\x03\x00\x00\x00", "\x03\x02\x28", "\x03\x01\x5a\x03\x01\x5a\x03\x01\x64", "\x04\x01\x01\x00\x01a", "\x05\x18\x04\x01\x00\x01\x07",
			"\x01\x03\x04\x00\x00\x01\x01\x00", "\x0b\x05\x15\x03\x03\x00\x02", "\x08\x0a\x02\x0c\x10\x03\x00\x1d\x20aaaaaaaaaaaaa\x02\x0e\x00\x02\x14\x0c123456789012",
			strings.Repeat("\x00\x00", 40), strings.Repeat("\x03\x01\x5a", 7), strings.Repeat("\x06\x01", 40), strings.Repeat("\x08", 20),
			"\x01\x04\x18\x00\x00\x01\x03\x01\x00\x0b\x01x", "\x08\x03\x01\x00\x0b\x01x", // close_notify inside a message, and more bytes after it
		} {
			f.Add(uint8(i), []byte(seed))
			f.Add(uint8(i+len(worlds)), []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		leavesNothing(t, func() {
			w := worlds[int(which)%len(worlds)]
			filter := testkit.FilterOf(t, w.ctx)
			defer filter.Close()
			k := &keyedSession{keyed: connectKeyed(t, filter, w.client, nil), script: script{data}}
			filter.Outgoing(nil)
			require.True(t, filter.ClientCertValid())
			closed := false
			together := int(which)/len(worlds)%2 == 1 // everything in one Receive
			var waiting []byte
			for steps := 0; len(k.data) > 0 && steps < 200; steps++ {
				wire := k.step()
				if waiting = append(waiting, wire...); together && len(k.data) > 0 && steps < 199 {
					continue
				}
				wire, waiting = waiting, nil
				plain, err := filter.Receive(nil, wire)
				k.got.Write(plain)
				require.LessOrEqual(t, len(filter.Outgoing(nil)), maxSaid)
				if err == io.EOF {
					closed = true
				}
				if err != nil && k.end == nil {
					k.end = err
				}
			}
			require.True(t, strings.HasPrefix(k.sent, k.got.String()), "%q of %q", k.got.String(), k.sent)
			if closed {
				require.True(t, k.ended, "io.EOF without a close_notify")
			}
			landmark(fmt.Sprint(k.end))
			requireSound(t, filter)
			filter.Send([]byte("more data")) // during a handshake, a write may read
			filter.Outgoing(nil)
			filter.CloseWrite()
			filter.Outgoing(nil)
			requireSound(t, filter)
		})
	})
}
