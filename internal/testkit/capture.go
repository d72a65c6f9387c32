package testkit

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter/internal/peers"
)

// Capture is a file in the format of libpcap with one TCP connection. It is made from the
// bytes that pass a proxy, which needs no privilege.
type Capture struct {
	mu   sync.Mutex
	file bytes.Buffer
	seq  [2]uint32 // of the client and of the server
}

const (
	rawIP          = 101 // LINKTYPE_RAW
	maxSegment     = 1400
	syn, ack, push = 2, 16, 8
)

// NewCapture returns an empty capture.
func NewCapture() *Capture {
	c := new(Capture)
	for _, v := range []any{uint32(0xa1b2c3d4), uint16(2), uint16(4), uint32(0), uint32(0), uint32(65535), uint32(rawIP)} {
		binary.Write(&c.file, binary.NativeEndian, v)
	}
	c.packet(0, syn, nil)
	c.packet(1, syn|ack, nil)
	c.packet(0, ack, nil)
	return c
}

// packet adds a packet of the client (0) or of the server (1).
func (c *Capture) packet(from int, flags byte, data []byte) {
	ports := [2]uint16{50000, 443}
	p := make([]byte, 40, 40+len(data))
	p[0], p[8], p[9] = 0x45, 64, 6 // IPv4, its TTL, TCP
	binary.BigEndian.PutUint16(p[2:], uint16(40+len(data)))
	copy(p[12:], []byte{192, 0, 2, byte(1 + from)})
	copy(p[16:], []byte{192, 0, 2, byte(2 - from)})
	binary.BigEndian.PutUint16(p[20:], ports[from])
	binary.BigEndian.PutUint16(p[22:], ports[1-from])
	binary.BigEndian.PutUint32(p[24:], c.seq[from])
	binary.BigEndian.PutUint32(p[28:], c.seq[1-from])
	p[32], p[33] = 5<<4, flags
	binary.BigEndian.PutUint16(p[34:], 65535)
	p = append(p, data...)
	for _, v := range []uint32{0, 0, uint32(len(p)), uint32(len(p))} {
		binary.Write(&c.file, binary.NativeEndian, v)
	}
	c.file.Write(p)
	c.seq[from] += uint32(len(data))
	if flags&syn != 0 {
		c.seq[from]++
	}
}

// copy forwards what one side sends.
func (c *Capture) copy(to, from net.Conn, side int) {
	buf := make([]byte, maxSegment)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			c.mu.Lock()
			c.packet(side, ack|push, buf[:n])
			c.mu.Unlock()
			to.Write(buf[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

// Proxy returns the address of a proxy to addr, which captures its connection.
func (c *Capture) Proxy(t testing.TB, addr string) string {
	return Serve(t, Listen(t), func(conn net.Conn) {
		server, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer server.Close()
		done := make(chan struct{})
		go func() {
			c.copy(server, conn, 0)
			close(done)
		}()
		c.copy(conn, server, 1)
		<-done
	})
}

// Decrypt returns the plaintext that tshark finds with the keys in a file. If tshark is not
// installed, the test is skipped.
func (c *Capture) Decrypt(t testing.TB, keys string) string {
	t.Helper()
	return c.tshark(t, "-o", "tls.keylog_file:"+keys, "-q", "-z", "follow,tls,ascii,0")
}

// JA3 returns the fingerprint that tshark gives to the ClientHello. If tshark is not
// installed, the test is skipped.
func (c *Capture) JA3(t testing.TB) string {
	t.Helper()
	return strings.TrimSpace(c.tshark(t, "-Y", "tls.handshake.type == 1", "-T", "fields", "-e", "tls.handshake.ja3"))
}

func (c *Capture) tshark(t testing.TB, args ...string) string {
	t.Helper()
	c.mu.Lock()
	pcap := TempFile(t, "pcap", c.file.Bytes())
	c.mu.Unlock()
	cmd := exec.Command(peers.Find(t, "tshark", "tshark"), append([]string{"-n", "-r", pcap}, args...)...)
	cmd.Env = append(peers.ForeignEnv(), "HOME="+t.TempDir())
	cmd.Stderr = io.Discard
	out, err := cmd.Output()
	require.NoError(t, err)
	return string(out)
}
