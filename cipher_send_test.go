package sslfilter_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/derive"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// sendingKinds are the kinds of ciphers that FuzzCipherSendOutgoing drives, one in each run.
var sendingKinds = []struct {
	side, peer sslfilter.CipherOptions
}{
	{sslfilter.CipherOptions{Client: true, Key: staticKey}, sslfilter.CipherOptions{Key: staticKey}},
	{sslfilter.CipherOptions{Key: staticKey}, sslfilter.CipherOptions{Client: true, Key: staticKey}},
	{
		sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Key: staticKey, IV: make([]byte, 16)},
		sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-cbc", Key: staticKey, IV: make([]byte, 16)},
	},
	{
		sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-ctr", Iterations: 1, Passphrase: phrase("x")},
		sslfilter.CipherOptions{Format: sslfilter.CipherEnc, Cipher: "aes-256-ctr", Iterations: 1, Passphrase: phrase("x")},
	},
}

// playSending follows a script, and returns what the side has sent and which errors it has
// returned. together says whether it calls SendOutgoing, or Send and Outgoing.
func playSending(t *testing.T, kind int, data []byte, together bool) (transcript []byte) {
	t.Helper()
	salt := byte(0)
	defer sslfilter.SetSalts(func(b []byte) {
		salt++
		copy(b, bytes.Repeat([]byte{salt}, len(b)))
	})()
	k := sendingKinds[kind%len(sendingKinds)]
	side, peer := newCipher(t, k.side), newCipher(t, k.peer)
	defer side.Close()
	defer peer.Close()
	s := script{data}
	note := func(wire []byte, err error) {
		transcript = fmt.Appendf(transcript, "%x %v %v %v\n", wire, err, side.Err(), side.Flushed())
		peer.Receive(nil, wire)
	}
	for step := 0; len(s.data) > 0 && step < 40; step++ {
		op, n := s.byte(), int(s.byte())
		if op >= 0x80 {
			n <<= 10 // several records, and more than a piece
		}
		switch op % 16 {
		default: // what this test is about
			used, room := int(s.byte()), int(s.byte())<<(op%16)
			dst := append(make([]byte, 0, used+room), testkit.Bytes(used, 7)...)
			plain := testkit.Bytes(n, uint64(step))
			if op%16 == 1 && n <= room { // in the memory after dst
				plain = append(dst[used:], plain...)
			}
			var err error
			before := bytes.Clone(dst)
			if together {
				dst, err = side.SendOutgoing(dst, plain)
			} else if err = side.Send(plain); err == nil {
				dst = side.Outgoing(dst)
			}
			require.True(t, bytes.HasPrefix(dst, before))
			note(dst[used:], err)
		case 8:
			note(nil, side.Send(testkit.Bytes(n, uint64(step))))
		case 9:
			peer.Send(testkit.Bytes(n, uint64(step)))
			_, err := side.Receive(nil, peer.Outgoing(nil))
			note(nil, err)
		case 10:
			note(side.Outgoing(nil), nil)
		case 11:
			note(nil, side.CloseWrite())
		case 12:
			if n%4 == 0 {
				note(nil, side.ReceiveEOF())
			}
		case 13:
			peer.CloseWrite()
			_, err := side.Receive(nil, peer.Outgoing(nil))
			note(nil, err)
		case 14:
			_, err := side.Detach()
			note(nil, err)
		case 15:
			if n%8 == 0 {
				_, err := side.Receive(nil, s.bytes(n/8))
				note(nil, err)
			}
		}
	}
	note(side.Outgoing(nil), nil)
	return transcript
}

// SendOutgoing sends what Send and Outgoing would send, and fails as they would, in every
// state.
func FuzzCipherSendOutgoing(f *testing.F) {
	for kind := range sendingKinds {
		f.Add(kind, []byte{0, 5, 0, 0, 0, 3, 9, 200})
		f.Add(kind, []byte{8, 5, 2, 7, 1, 1, 9, 0, 0, 60, 0, 0, 2, 2, 2, 2, 11, 0, 3, 3, 3, 3})
		f.Add(kind, []byte{0x82, 40, 0, 0, 9, 3, 0x82, 255, 1, 255, 0x80, 17, 4, 4, 1, 9, 9, 9, 15, 64, 1, 2, 3, 4, 5, 6, 7, 8, 0, 5, 0, 0})
		f.Add(kind, []byte{9, 1, 0, 5, 0, 0, 12, 0, 0, 5, 0, 0, 10, 0})
		f.Add(kind, []byte{0, 1, 0, 0, 13, 0, 0, 2, 0, 0, 14, 0, 0, 2, 0, 0, 10, 0})
	}
	f.Fuzz(func(t *testing.T, kind int, data []byte) {
		if kind < 0 {
			return
		}
		want, got := playSending(t, kind, data, false), playSending(t, kind, data, true)
		require.Equal(t, string(want), string(got))
	})
}

// The bound of Send holds, and a call that exceeds it changes nothing.
func TestCipherSendOutgoing(t *testing.T) {
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	big := testkit.Bytes(sslfilter.MaxPlaintext, 1)
	wire, err := server.SendOutgoing([]byte("kept"), big)
	require.NoError(t, err)
	require.Equal(t, "kept", string(wire), "a server waits for the client's first record")
	wire, err = server.SendOutgoing(wire, []byte("x"))
	require.ErrorIs(t, err, sslfilter.ErrBufferFull)
	require.Equal(t, "kept", string(wire))

	wire, err = client.SendOutgoing(nil, append(big, 'x'))
	require.ErrorIs(t, err, sslfilter.ErrBufferFull)
	require.Empty(t, wire)
	wire, err = client.SendOutgoing(nil, big)
	require.NoError(t, err)
	up, err := server.Receive(nil, wire)
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, up))
	down, err := client.Receive(nil, server.Outgoing(nil))
	require.NoError(t, err)
	require.True(t, bytes.Equal(big, down))
	require.NoError(t, client.Close())
	_, err = client.SendOutgoing(nil, nil)
	require.ErrorIs(t, err, sslfilter.ErrClosed)
}

// SendOutgoing does not allocate.
func TestCipherSendOutgoingDoesNotAllocate(t *testing.T) {
	if instrumented {
		t.Skip("the instrumentation allocates")
	}
	client, server := sealedPair(t, sslfilter.CipherOptions{Key: staticKey})
	require.NoError(t, client.Send(nil))
	exchange(t, client, server, testkit.Whole)
	message, wire := make([]byte, 20_000), make([]byte, 0, 21_000)
	require.Zero(t, testing.AllocsPerRun(100, func() { wire, _ = client.SendOutgoing(wire[:0], message) }))
}

// waitsForItsTurn reports whether a goroutine waits for its turn to derive a key.
func waitsForItsTurn() bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		head, calls, _ := bytes.Cut(stack, []byte("\n"))
		if bytes.Contains(head, []byte("[select")) && bytes.HasPrefix(calls, []byte("github.com/seed-014b8713/sslfilter/internal/derive.Enter(")) {
			return true
		}
	}
	return false
}

// Cancel ends the wait of a Receive for its turn to derive a key.
func TestCipherCancel(t *testing.T) {
	client := newCipher(t, sslfilter.CipherOptions{Client: true, Passphrase: phrase("x"), Iterations: sslfilter.MinCipherIterations})
	first, err := client.SendOutgoing(nil, []byte("hello"))
	require.NoError(t, err)
	canceled := newCipher(t, sslfilter.CipherOptions{Passphrase: phrase("x")})
	canceled.Cancel()
	_, err = canceled.Receive(nil, first)
	require.Equal(t, sslfilter.ErrClosed, err, "even if it would not have to wait")
	for range derive.Slots() {
		require.True(t, derive.Enter(nil))
		defer derive.Leave()
	}
	for name, early := range map[string]bool{"before": true, "meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			server := newCipher(t, sslfilter.CipherOptions{Passphrase: phrase("x")})
			if early {
				server.Cancel()
			}
			ended := make(chan error, 1)
			go func() {
				_, err := server.Receive(nil, first)
				ended <- err
			}()
			if !early {
				require.Eventually(t, waitsForItsTurn, testkit.Patience, time.Millisecond)
				server.Cancel()
			}
			select {
			case err := <-ended:
				require.Equal(t, sslfilter.ErrClosed, err)
			case <-time.After(testkit.Patience):
				t.Fatal("Receive still waits")
			}
			require.Equal(t, sslfilter.ErrClosed, server.Err())
			_, err := server.Receive(nil, nil)
			require.Equal(t, sslfilter.ErrClosed, err)
			require.Equal(t, sslfilter.ErrClosed, server.ReceiveEOF())
			require.Empty(t, server.Outgoing(nil))
		})
	}
	_, err = newCipher(t, sslfilter.CipherOptions{Key: staticKey}).Receive(nil, nil)
	require.NoError(t, err)
	require.NotErrorIs(t, client.ReceiveEOF(), io.EOF)
}
