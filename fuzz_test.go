package sslfilter_test

// Fuzz targets of the engine. The comment of each states its invariant. "make check-fuzz"
// runs all of them for some seconds, and "make fuzz" for a given time.

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// maxSaid bounds the output of a Filter that gets some KiB from a peer without the keys: a
// flight with certificates, and an alert.
const maxSaid = 16 << 10

// requireSound checks the rules for every Filter after any input: a failed filter keeps
// its error, and ignores further input and output; and a peer is valid only after a
// complete handshake.
func requireSound(t *testing.T, f *sslfilter.Filter) {
	t.Helper()
	if f.ClientCertValid() {
		require.True(t, f.HandshakeDone(), "valid before the proof")
	}
	require.LessOrEqual(t, len(f.Outgoing(nil)), maxSaid)
	err := f.Err()
	if err == nil {
		return
	}
	got, again := f.Receive(nil, []byte{typeHandshake, 3, 3, 0, 1, 0})
	require.Empty(t, got)
	require.True(t, err == again, "%v became %v", err, again)
	require.Empty(t, f.Outgoing(nil))
}

// heard is the result of input to a Filter.
type heard struct {
	plain string
	err   string
	done  bool
	valid bool
}

// listen passes wire to f in pieces.
func listen(f *sslfilter.Filter, wire []byte, cut testkit.Cut) heard {
	var h heard
	for _, piece := range cut(wire) {
		plain, err := f.Receive(nil, piece)
		h.plain += string(plain)
		if err != nil && h.err == "" {
			h.err = err.Error()
		}
	}
	h.done, h.valid = f.HandshakeDone(), f.ClientCertValid()
	return h
}

// leavesNothing fails if C objects remain after f, or an entry in the error queue of this
// thread. Objects of earlier tests may be freed in the meantime, so that there can be fewer than
// before.
func leavesNothing(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := sslfilter.LiveHandles()
	f()
	require.False(t, sslfilter.ErrorQueued(), "an error is left in the queue")
	require.LessOrEqual(t, sslfilter.LiveHandles(), before, "C objects are left")
}

// flights returns the flights of an honest handshake, in turns.
func flights(t testing.TB, server, client *sslfilter.Ctx) (said [][]byte) {
	t.Helper()
	s, c := testkit.FilterOf(t, server), testkit.FilterOf(t, client)
	defer s.Close()
	defer c.Close()
	require.NoError(t, c.Handshake())
	for from, to := c, s; ; from, to = to, from {
		wire := from.Outgoing(nil)
		if len(wire) == 0 {
			return said
		}
		said = append(said, wire)
		_, err := to.Receive(nil, wire)
		require.NoError(t, err)
	}
}

// Invariant: if a peer without the keys sends any bytes at any stage, there is no panic,
// and no C object is left. The result, including the text of the error, does not depend on
// how the bytes are divided. They give no plaintext, no complete handshake and no valid
// peer. Output is bounded, and a failed filter is frozen.
func FuzzWire(f *testing.F) {
	type world struct{ server, client *sslfilter.Ctx }
	var worlds []world
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		worlds = append(worlds, world{testkit.Ctx(f, keyedOptions(false, v)), testkit.Ctx(f, keyedOptions(true, v))})
	}
	for i, w := range worlds {
		said := flights(f, w.server, w.client)
		said = append(said, []byte("GET / HTTP/1.1\r\n\r\n"), tlsRecord(typeAlert, 2, 40), tlsRecord(typeAlert, 1, 0), tlsRecord(typeCCS, 1),
			tlsRecord(typeHandshake, message(0)...), tlsRecord(typeHandshake, message(1)...), tlsRecord(typeHeartbeat, 1, 0, 9, 1))
		for stage := range uint8(6) {
			for _, bytes := range said {
				f.Add(uint8(i), stage, uint64(stage), bytes)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which, stage uint8, seed uint64, wire []byte) {
		w := worlds[int(which)%len(worlds)]
		if len(wire) > 1<<16 {
			return
		}
		play := func(cut testkit.Cut) (h heard) {
			leavesNothing(t, func() {
				server, client := testkit.FilterOf(t, w.server), testkit.FilterOf(t, w.client)
				defer server.Close()
				defer client.Close()
				victim, done := server, false
				p := testkit.Join(server, client)
				switch stage % 6 {
				case 0: // a server before its first input
				case 1: // a client that waits for the answer to its ClientHello
					victim = client
					require.NoError(t, client.Handshake())
				case 2: // a server that waits for the client's second flight
					require.NoError(t, client.Handshake())
					server.Receive(nil, client.Outgoing(nil))
				case 3: // a client after the handshake
					victim, done = client, true
				case 4: // a server after the handshake
					done = true
				case 5: // a server that has sent close_notify
					done = true
				}
				if done {
					require.NoError(t, p.Handshake())
					require.True(t, server.HandshakeDone())
				}
				if stage%6 == 5 {
					require.NoError(t, server.CloseWrite())
				}
				victim.Outgoing(nil)
				h = listen(victim, wire, cut)
				require.Equal(t, done, h.done, "the handshake")
				require.Empty(t, h.plain)
				require.NotEqual(t, io.EOF.Error(), h.err, "a close_notify that was not sent")
				if !done {
					require.False(t, h.valid)
				}
				requireSound(t, victim)
			})
			return h
		}
		whole := play(testkit.Whole)
		landmark(whole.err)
		require.Equal(t, whole, play(testkit.Random(seed)))
	})
}

// script reads numbers from the fuzzer's input. After its end they are 0.
type script struct{ data []byte }

func (s *script) byte() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *script) int() int { return int(s.byte())<<8 | int(s.byte()) }

func (s *script) bytes(n int) []byte {
	n = min(n, len(s.data))
	b := s.data[:n]
	s.data = s.data[n:]
	return b
}

// edit changes pieces according to a script, and may hold some of them back.
type edit struct {
	script
	held [][]byte // to be sent later
}

func (e *edit) apply(piece []byte) [][]byte {
	piece = slices.Clone(piece)
	switch e.byte() % 12 {
	case 1: // drop
		return nil
	case 2: // repeat
		return [][]byte{piece, piece}
	case 3: // hold
		e.held = append(e.held, piece)
		return nil
	case 4: // in the wrong order
		held := e.held
		e.held = nil
		return append([][]byte{piece}, held...)
	case 5: // in the right order, but late
		held := e.held
		e.held = nil
		return append(held, piece)
	case 6: // split
		at := e.int() % (len(piece) + 1)
		return [][]byte{piece[:at], piece[at:]}
	case 7: // flip
		if len(piece) > 0 {
			piece[e.int()%len(piece)] ^= e.byte()
		}
	case 8: // inject before it
		return [][]byte{e.bytes(int(e.byte())), piece}
	case 9: // inject inside
		at := e.int() % (len(piece) + 1)
		return [][]byte{slices.Insert(piece, at, e.bytes(int(e.byte()))...)}
	case 10: // cut out
		at := e.int() % (len(piece) + 1)
		return [][]byte{slices.Delete(piece, at, min(len(piece), at+int(e.byte())))}
	case 11: // replace it
		return [][]byte{e.bytes(e.int() % 1024)}
	}
	return [][]byte{piece}
}

// Invariant: a third party between two honest ends drops, repeats, delays, splits, flips
// and injects bytes. Each end receives a prefix of what the other end sent, and io.EOF only
// after all of it. If one end has completed the handshake last, the other has completed it
// too, and both have the same keys; no peer is valid before that. If the third party only
// delays and splits, everything arrives.
func FuzzBetween(f *testing.F) {
	var servers, clients []*sslfilter.Ctx
	for _, v := range []sslfilter.Version{sslfilter.VersionTLS12, sslfilter.VersionTLS13} {
		servers = append(servers, testkit.Ctx(f, keyedOptions(false, v)))
		clients = append(clients, testkit.Ctx(f, keyedOptions(true, v)))
	}
	for v := range uint8(2) {
		f.Add(v, []byte{})
		f.Add(v, []byte{6, 0, 9, 6, 1, 0, 6, 0, 1, 6, 2, 0}) // split
		f.Add(v, []byte{0, 0, 0, 1})                         // drop
		f.Add(v, []byte{6, 0, 6, 6, 6, 6, 0, 0, 6, 12, 18, 6, 0})
		f.Add(v, []byte{0, 2, 0, 2, 0, 0, 2})                         // repeat
		f.Add(v, []byte{0, 0, 3, 4, 0, 0, 0, 3, 5})                   // reorder
		f.Add(v, []byte{7, 0, 30, 1, 0, 7, 0, 50, 128})               // flip
		f.Add(v, []byte{0, 8, 7, 21, 3, 3, 0, 2, 1, 0, 0, 0})         // an injected close_notify
		f.Add(v, []byte{8, 6, 20, 3, 3, 0, 1, 1, 0, 8, 5, 22, 3, 3})  // ChangeCipherSpec
		f.Add(v, []byte{0, 0, 9, 0, 5, 3, 1, 2, 3, 10, 0, 5, 1, 0})   // inside
		f.Add(v, []byte{0, 11, 0, 7, 21, 3, 3, 0, 2, 2, 40, 0, 0, 0}) // an alert instead
		for i := range byte(9) {
			f.Add(v, append(bytes.Repeat([]byte{0}, int(i)), 7, 0, 5, 1)) // each record is damaged once
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		leavesNothing(t, func() {
			v := int(which) % 2
			server, client := testkit.FilterOf(t, servers[v]), testkit.FilterOf(t, clients[v])
			defer server.Close()
			defer client.Close()
			up, down := &edit{script: script{data}}, &edit{}
			down.data, up.data = data[len(data)/2:], data[:len(data)/2]
			p := testkit.Join(server, client)
			honest := !slices.ContainsFunc(data, func(b byte) bool { return b%12 != 0 && b%12 != 6 }) // as operations, without arguments
			p.Cut = testkit.ByRecord
			p.Alter = nil
			e := up
			cut := func(wire []byte) (pieces [][]byte) {
				for _, record := range testkit.ByRecord(wire) {
					pieces = append(pieces, e.apply(record)...)
				}
				return pieces
			}
			p.Cut = cut
			p.Alter = func(fromClient bool, wire []byte) []byte { // tells cut from which side the bytes are
				e = down
				if fromClient {
					e = up
				}
				return wire
			}
			toServer, toClient := bytes.Repeat([]byte("to the server "), 2500), bytes.Repeat([]byte("to the client "), 2500)
			require.NoError(t, client.Handshake())
			require.NoError(t, client.Send(toServer))
			p.Transfer()
			server.Send(toClient)
			p.Transfer()
			client.CloseWrite()
			server.CloseWrite()
			p.Transfer()
			for _, end := range []struct {
				*testkit.Side
				sent []byte
			}{{&p.Client, toClient}, {&p.Server, toServer}} {
				require.True(t, bytes.HasPrefix(end.sent, end.Got), "not the bytes that were sent")
				if end.EOF() {
					require.Len(t, end.Got, len(end.sent), "truncated, and reported as complete")
				}
			}
			first, last := client, server // in TLS 1.3 the server completes it last
			if v == 0 {
				first, last = server, client
			}
			if last.HandshakeDone() {
				require.True(t, first.HandshakeDone(), "complete on one side only")
			}
			if client.Err() == nil && server.Err() == nil && last.HandshakeDone() {
				a, err := client.ExportKeyingMaterial("EXPORTER-fuzz", nil, 32)
				require.NoError(t, err)
				b, err := server.ExportKeyingMaterial("EXPORTER-fuzz", nil, 32)
				require.NoError(t, err)
				require.Equal(t, a, b)
			}
			if honest {
				require.True(t, p.Client.EOF() && p.Server.EOF(), "%v, %v", p.Client.Err, p.Server.Err)
			}
			landmark(fmt.Sprint(p.Client.Err, "/", p.Server.Err))
			requireSound(t, client)
			requireSound(t, server)
		})
	})
}
