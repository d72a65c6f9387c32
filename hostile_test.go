package sslfilter_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// A client rejects a server without secure renegotiation: an attacker may have prepended
// data to the connection (CVE-2009-3555). openssl.cnf cannot change this.
func TestHostileServerWithoutSecureRenegotiation(t *testing.T) {
	for name, option := range map[string]string{
		"plain": "", "UnsafeLegacyServerConnect": "Options = UnsafeLegacyServerConnect", "UnsafeLegacyRenegotiation": "Options = UnsafeLegacyRenegotiation",
	} {
		t.Run(name, func(t *testing.T) {
			cnf := testkit.TempFile(t, "openssl.cnf", []byte("openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n"+option+"\n"))
			if child, _ := inChild(t, "", "OPENSSL_CONF="+cnf); !child {
				return
			}
			p := testkit.NewPair(t, testkit.ServerOf("server-ec"), testkit.Client(testkit.TLS12))
			require.NoError(t, p.Client.Handshake())
			p.Server.Deliver(p.Client.Outgoing(nil))
			p.Client.Deliver(withoutRenegotiationInfo(t, p.Server.Outgoing(nil)))
			require.ErrorContains(t, p.Client.Err, "unsafe legacy renegotiation disabled")
		})
	}
}

// withoutRenegotiationInfo removes the extension from a ServerHello of TLS 1.2.
func withoutRenegotiationInfo(t *testing.T, flight []byte) []byte {
	t.Helper()
	const record, handshake = 5, 4
	at := bytes.Index(flight, []byte{0xff, 0x01, 0, 1, 0})
	require.Positive(t, at, "no renegotiation_info in the flight")
	cut := slices.Delete(slices.Clone(flight), at, at+5)
	shorter := func(at int) {
		binary.BigEndian.PutUint16(cut[at:], binary.BigEndian.Uint16(cut[at:])-5)
	}
	shorter(3)          // the record
	shorter(record + 2) // the message, whose length has three bytes
	session := int(cut[record+handshake+2+32])
	shorter(record + handshake + 2 + 32 + 1 + session + 2 + 1) // the extensions, after suite and compression
	return cut
}

// tlsRecord returns a record of TLS 1.2.
func tlsRecord(kind byte, body ...byte) []byte {
	return append([]byte{kind, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
}

// A peer that sends nonsense gets an alert immediately, costs almost nothing, and is then
// ignored.
func TestHostileNonsenseEndsAtOnce(t *testing.T) {
	const flood, patience = 1 << 20, 20_000 // bytes sent, and the most that is read of them: one record and a piece
	client := testkit.Filter(t, testkit.Client())
	require.NoError(t, client.Handshake())
	hello := client.Outgoing(nil)
	repeated := func(record []byte) []byte { return bytes.Repeat(record, flood/len(record)) }
	after := func(record []byte) []byte { return append(bytes.Clone(hello), repeated(record)...) }
	for name, wire := range map[string][]byte{
		"zeros":                            make([]byte, flood),
		"HTTP":                             repeated([]byte("GET / HTTP/1.1\r\n")),
		"a record beyond the largest":      append([]byte{22, 3, 3, 0xff, 0xff}, make([]byte, flood)...),
		"a message of 16 MiB":              append(tlsRecord(22, 1, 0xff, 0xff, 0xff), repeated(tlsRecord(22, make([]byte, 16384)...))...),
		"heartbeats":                       repeated(tlsRecord(24, 1, 0, 3, 1, 2, 3)),
		"warnings":                         repeated(tlsRecord(21, 1, 90)),
		"warnings after the hello":         after(tlsRecord(21, 1, 90)),
		"empty records":                    repeated(tlsRecord(22)),
		"empty records after the hello":    after(tlsRecord(22)),
		"ChangeCipherSpec":                 repeated(tlsRecord(20, 1)),
		"ChangeCipherSpec after the hello": after(tlsRecord(20, 1)),
		"data":                             repeated(tlsRecord(23, 1)),
		"data after the hello":             after(tlsRecord(23, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			for role, o := range map[string]sslfilter.Options{"server": testkit.Server(), "client": testkit.Client()} {
				f := testkit.Filter(t, o)
				require.NoError(t, f.Handshake())
				heard := 0
				var err error
				for piece := range slices.Chunk(wire, 500) {
					if _, err = f.Receive(nil, piece); err != nil {
						break
					}
					heard += len(piece)
				}
				require.Error(t, err, role)
				require.Less(t, heard, patience, role)
				require.Less(t, len(f.Outgoing(nil)), 4096, role)
				require.False(t, f.HandshakeDone(), role)
				_, again := f.Receive(nil, wire)
				require.Same(t, err, again, role)
				require.Empty(t, f.Outgoing(nil), role)
			}
		})
	}
}
