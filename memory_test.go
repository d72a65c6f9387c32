package sslfilter_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// inStruct returns a copy of data in an allocation that also contains a Go pointer, like an
// array in a struct of the caller. cgo would panic if it checked the allocation.
func inStruct(data []byte) []byte {
	s := &struct {
		text [1 << 15]byte
		next *int
	}{next: new(int)}
	return s.text[:copy(s.text[:], data):len(data)]
}

func TestMemoryBuffersInsideAStruct(t *testing.T) {
	mem := func(name string) []byte { return inStruct(testkit.PKIBytes(t, name)) }
	crl := testkit.TempFile(t, "crl.pem", testkit.PKIBytes(t, "crl.pem"))
	server := testkit.Filter(t, sslfilter.Options{
		CrtMem: mem("server.crt"), KeyMem: mem("server.key"), CACrtMem: [][]byte{mem("root.crt")}, DHCertMem: mem("dh2048.pem"), ClientCert: true, CACRL: crl,
	})

	client := testkit.Filter(t, sslfilter.Options{
		Client: true, ChainMem: mem("client-combined.pem"), CACrtMem: [][]byte{mem("root.crt")}, ServerName: "localhost",
		KeyPassphrase: func() ([]byte, error) { return inStruct([]byte("unused")), nil },
	})

	encrypted := sslfilter.Options{
		CrtMem: mem("server.crt"), KeyMem: mem("server-enc.key"), KeyPassphrase: func() ([]byte, error) { return inStruct([]byte("secret")), nil },
	}
	testkit.Filter(t, encrypted)
	p := testkit.Join(server, client)
	p.Alter = func(_ bool, wire []byte) []byte { return inStruct(wire) }
	require.NoError(t, p.Handshake())
	require.NoError(t, client.Send(inStruct([]byte("hello"))))
	p.Transfer()
	require.Equal(t, "hello", string(p.Server.Got))
	require.True(t, server.ClientCertValid())
	_, err := client.ExportKeyingMaterial("EXPORTER-test", inStruct([]byte("context")), 32)
	require.NoError(t, err)
}

// NewCtx rejects content whose length does not fit into C's int. OpenSSL reads a negative
// length as "up to the NUL byte".
func TestMemoryContentBeyondAnInt(t *testing.T) {
	huge, err := syscall.Mmap(-1, 0, 1<<31+1, syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON) // no page of it is used
	require.NoError(t, err)
	defer syscall.Munmap(huge)
	for option, change := range map[string]func(*sslfilter.Options){
		"CrtMem":      func(o *sslfilter.Options) { o.CrtMem = huge },
		"KeyMem":      func(o *sslfilter.Options) { o.KeyMem = huge },
		"ChainMem":    func(o *sslfilter.Options) { o.ChainMem = huge },
		"CACrtMem[1]": func(o *sslfilter.Options) { o.CACrtMem = [][]byte{testkit.PKIBytes(t, "root.crt"), huge} },
		"DHCertMem":   func(o *sslfilter.Options) { o.DHCertMem = huge },
	} {
		_, err := sslfilter.NewCtx(testkit.Server(change))
		refused := testkit.As[*sslfilter.OptionError](t, err)
		require.Equal(t, option, refused.Option)
		require.Contains(t, refused.Error(), "more than")
	}
}

// dst and wire may overlap. A record that began in an earlier delivery may give more
// plaintext than the current one has bytes before the next record.
func TestMemoryDecryptInPlace(t *testing.T) {
	p := testkit.Connect(t, testkit.Server(), testkit.Client())
	sent := testkit.Bytes(1<<20, 5)
	require.NoError(t, p.Client.Send(sent))
	var got []byte
	buf := make([]byte, 20000)
	for wire := p.Client.Outgoing(nil); len(wire) > 0; {
		n := copy(buf, wire)
		wire = wire[n:]
		plain, err := p.Server.Receive(buf[:0], buf[:n])
		require.NoError(t, err)
		got = append(got, plain...)
	}
	requireSame(t, sent, got)
}
