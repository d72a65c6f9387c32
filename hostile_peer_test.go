package sslfilter_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/internal/cpeer"
	"github.com/seed-014b8713/sslfilter/internal/testkit"
)

// Content types of records (RFC 8446 section 5.1).
const (
	typeCCS       = 20
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
	typeHeartbeat = 24
)

// sealer encrypts and decrypts the records of one direction: AES-128-GCM with SHA-256, in
// TLS 1.2 or 1.3.
type sealer struct {
	aead   cipher.AEAD
	secret []byte // of TLS 1.3
	iv     []byte
	seq    uint64
}

func newSealer13(secret []byte) *sealer {
	s := &sealer{secret: secret, iv: expandLabel(secret, "iv", 12)}
	s.aead = gcm(expandLabel(secret, "key", 16))
	return s
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// expandLabel is HKDF-Expand-Label of RFC 8446 section 7.1 without a context.
func expandLabel(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return out
}

// prf12 is the PRF of RFC 5246 section 5.
func prf12(secret []byte, label string, seed []byte, n int) (out []byte) {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	for a := mac(seed); len(out) < n; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:n]
}

// rekey changes the key as a KeyUpdate does.
func (s *sealer) rekey() { *s = *newSealer13(expandLabel(s.secret, "traffic upd", 32)) }

func (s *sealer) nonce() []byte {
	if s.secret == nil {
		return binary.BigEndian.AppendUint64(slices.Clone(s.iv), s.seq)
	}
	nonce := slices.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	return nonce
}

// seal encrypts one record.
func (s *sealer) seal(kind byte, body []byte) []byte {
	defer func() { s.seq++ }()
	if s.secret == nil {
		header := append(binary.BigEndian.AppendUint64(nil, s.seq), kind, 3, 3, byte(len(body)>>8), byte(len(body)))
		explicit := binary.BigEndian.AppendUint64(nil, s.seq)
		return tlsRecord(kind, s.aead.Seal(explicit, s.nonce(), body, header)...)
	}
	n := len(body) + 1 + 16
	inner := append(slices.Clone(body), kind)
	return tlsRecord(typeData, s.aead.Seal(nil, s.nonce(), inner, []byte{typeData, 3, 3, byte(n >> 8), byte(n)})...)
}

// open decrypts one record. A record in plain text is an error.
func (s *sealer) open(record []byte) (kind byte, body []byte, err error) {
	defer func() { s.seq++ }()
	if s.secret == nil {
		n := len(record) - 5 - 8 - 16
		header := append(binary.BigEndian.AppendUint64(nil, s.seq), record[0], 3, 3, byte(n>>8), byte(n))
		body, err = s.aead.Open(nil, append(slices.Clone(s.iv), record[5:13]...), record[13:], header)
		return record[0], body, err
	}
	body, err = s.aead.Open(nil, s.nonce(), record[5:], record[:5])
	body = bytes.TrimRight(body, "\x00")
	if err != nil || len(body) == 0 {
		return 0, nil, err
	}
	return body[len(body)-1], body[:len(body)-1], nil
}

// keyLog collects the secrets that crypto/tls logs.
type keyLog struct {
	mu   sync.Mutex
	keys map[string][]byte // secrets by label
}

func (l *keyLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fields := strings.Fields(string(line))
	secret, err := hex.DecodeString(fields[2])
	if l.keys == nil {
		l.keys = make(map[string][]byte)
	}
	l.keys[fields[0]] = secret
	return len(line), err
}

func (l *keyLog) secret(label string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys[label]
}

// tlsEnd is what a Filter and plain OpenSSL have in common.
type tlsEnd interface {
	Handshake() error
	Receive(dst, wire []byte) ([]byte, error)
	Send(plain []byte) error
	Outgoing(dst []byte) []byte
	Err() error
}

// keyed is a peer of a Filter that has the keys of the connection, and makes records with
// any content. crypto/tls does the handshake.
type keyed struct {
	plain    *cpeer.End // used instead of f, if not nil
	f        *sslfilter.Filter
	config   *tls.Config // of crypto/tls; nil is keyedConfig
	client   bool        // of f
	out      *sealer
	in       *sealer
	log      keyLog
	random   [2][]byte           // of the client and the server
	hello    []byte              // the client's first flight
	ended    bool                // close_notify was sent
	sent     string              // all data
	last     [2][]byte           // record of each
	finished [2][]byte           // verify_data of each, in TLS 1.2
	feed     func(record []byte) // passes a record of the handshake to f; nil is Receive(nil, record)
	said     []byte              // the last output of f in the handshake
}

// keyedOptions returns options for f, with a suite that sealer supports.
func keyedOptions(client bool, version sslfilter.Version) sslfilter.Options {
	o := sslfilter.Options{Crt: testkit.PKI("server-ec.crt"), Key: testkit.PKI("server-ec.key"), CACrt: testkit.PKI("root.crt"), ClientCert: true}
	if client {
		o = testkit.Showing("client-ec.crt", "client-ec.key")
	}
	o.MinVersion, o.MaxVersion, o.Cipher = version, version, "ECDHE-ECDSA-AES128-GCM-SHA256"
	if version == sslfilter.VersionTLS13 {
		o.CipherSuites = "TLS_AES_128_GCM_SHA256"
	}
	return o
}

// keyedConfigs are the configurations of keyed peers: of a client and of a server.
var keyedConfigs struct {
	sync.Mutex
	client, server *tls.Config
}

// keyedConfig returns the configuration of the peer of a client or of a server. It is
// made once, for many connections.
func keyedConfig(t testing.TB, client bool) *tls.Config {
	t.Helper()
	all := &keyedConfigs
	all.Lock()
	defer all.Unlock()
	if all.client == nil {
		all.client = testkit.GoClient(t, func(c *tls.Config) {
			c.Certificates = []tls.Certificate{testkit.KeyPair(t, "client-ec.crt", "client-ec.key")}
		})
		all.server = testkit.GoServer(t, func(c *tls.Config) {
			c.Certificates = []tls.Certificate{testkit.KeyPair(t, "server-ec.crt", "server-ec.key")}
			c.ClientAuth, c.SessionTicketsDisabled = tls.RequireAnyClientCert, true
		})
	}
	if client {
		return all.server
	}
	return all.client
}

// alterRecord changes a record that crypto/tls sends in the handshake. Its result is sent
// instead.
type alterRecord func(kind byte, body []byte) [][]byte

// connectKeyed does a handshake of f with crypto/tls, and returns a peer with the keys.
// alter may be nil; otherwise the handshake may fail.
func connectKeyed(t testing.TB, f *sslfilter.Filter, client bool, alter alterRecord) *keyed {
	t.Helper()
	k := &keyed{f: f, client: client}
	k.connect(t, alter)
	return k
}

// connect is connectKeyed for a peer that alter uses.
func (k *keyed) connect(t testing.TB, alter alterRecord) {
	t.Helper()
	var f tlsEnd = k.f
	if k.plain != nil {
		f = k.plain
	}
	client := k.client
	config := k.config
	if config == nil {
		config = keyedConfig(t, client)
	}
	config = config.Clone()
	config.KeyLogWriter = &k.log
	wire := &turns{hungry: make(chan struct{}), fed: make(chan struct{})}
	peer := tls.Client(wire, config)
	if client {
		peer = tls.Server(wire, config)
	}
	over := make(chan error, 1)
	go func() {
		over <- peer.Handshake()
		close(wire.hungry)
	}()
	require.NoError(t, f.Handshake())
	var open, seal *sealer
	for {
		<-wire.hungry // or the handshake is over
		for _, record := range testkit.ByRecord(wire.out) {
			for _, r := range k.altered(record, alter, &open, &seal) {
				if k.feed != nil {
					k.feed(r)
				} else {
					f.Receive(nil, r)
				}
			}
		}
		wire.out = nil
		said := f.Outgoing(nil)
		if len(said) > 0 {
			k.said = said
		}
		k.notice(said, client)
		wire.in = append(wire.in, said...)
		select {
		case err := <-over:
			if alter == nil {
				require.NoError(t, err)
				require.NoError(t, f.Err())
				k.application()
			}
			return
		case wire.fed <- struct{}{}: // without input, this is the end
		}
	}
}

// turns is the connection of a peer that runs in a goroutine of its own. The peer and the
// goroutine that feeds it take turns, so that it is known when both ends wait.
type turns struct {
	testkit.PipeConn // for the methods that do nothing
	in, out          []byte
	hungry, fed      chan struct{}
}

func (c *turns) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		c.hungry <- struct{}{}
		<-c.fed
	}
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *turns) Write(p []byte) (int, error) {
	c.out = append(c.out, p...)
	return len(p), nil
}

// altered returns the records to send instead of a record of crypto/tls.
func (k *keyed) altered(record []byte, alter alterRecord, open, seal **sealer) (wire [][]byte) {
	k.notice(record, !k.client)
	if alter == nil || len(record) < 5 {
		return [][]byte{record}
	}
	switch secret := k.log.secret(k.label("HANDSHAKE_TRAFFIC_SECRET", !k.client)); {
	case record[0] == typeData && secret != nil:
		if *open == nil {
			*open, *seal = newSealer13(secret), newSealer13(secret)
		}
		if kind, inner, err := (*open).open(record); err == nil {
			for _, b := range alter(kind, inner) {
				wire = append(wire, (*seal).seal(kind, b))
			}
			return wire
		}
	case record[0] == typeHandshake:
		for _, b := range alter(typeHandshake, record[5:]) {
			wire = append(wire, tlsRecord(typeHandshake, b...))
		}
		return wire
	}
	return [][]byte{record}
}

func (k *keyed) label(what string, client bool) string {
	if client {
		return "CLIENT_" + what
	}
	return "SERVER_" + what
}

// notice keeps the random bytes of the hellos, the first flight and the last record.
func (k *keyed) notice(wire []byte, fromClient bool) {
	i := 1
	if fromClient {
		i = 0
	}
	for _, record := range testkit.ByRecord(wire) {
		if len(record) > 0 {
			k.last[i] = slices.Clone(record)
		}
	}
	if k.random[i] == nil && len(wire) >= 43 && wire[0] == typeHandshake && wire[5] == byte(1+i) {
		k.random[i] = slices.Clone(wire[11:43])
		if fromClient {
			k.hello = slices.Clone(wire)
		}
	}
}

// application makes the keys for the time after the handshake.
func (k *keyed) application() {
	if secret := k.log.secret(k.label("TRAFFIC_SECRET_0", !k.client)); secret != nil {
		k.out, k.in = newSealer13(secret), newSealer13(k.log.secret(k.label("TRAFFIC_SECRET_0", k.client)))
		return
	}
	client, server := k.sealers12()
	for i, s := range []*sealer{client, server} {
		if _, finished, err := s.open(k.last[i]); err == nil {
			k.finished[i] = finished[4:]
		}
	}
	k.out, k.in = server, client
	if !k.client {
		k.out, k.in = client, server
	}
}

// sealers12 returns the sealers of TLS 1.2. The first record of each is a Finished.
func (k *keyed) sealers12() (client, server *sealer) {
	master := k.log.secret("CLIENT_RANDOM")
	keys := prf12(master, "key expansion", append(slices.Clone(k.random[1]), k.random[0]...), 2*16+2*4)
	return &sealer{aead: gcm(keys[:16]), iv: keys[32:36]}, &sealer{aead: gcm(keys[16:32]), iv: keys[36:40]}
}

// keyUpdating returns a KeyUpdate (RFC 8446 section 4.6.3).
func keyUpdating(request byte) []byte { return []byte{24, 0, 0, 1, request} }

// message returns a handshake message.
func message(kind byte, body ...byte) []byte {
	return append([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// send makes one record of each part, and changes the key after a KeyUpdate.
func (k *keyed) send(kind byte, parts ...[]byte) (wire []byte) {
	for _, part := range parts {
		wire = append(wire, k.out.seal(kind, part)...)
		if kind == typeData {
			k.sent += string(part)
		}
		k.ended = k.ended || kind == typeAlert && len(part) == 2 && part[1] == 0
		if kind == typeHandshake && k.out.secret != nil && len(part) == 5 && part[0] == 24 {
			k.out.rekey()
		}
	}
	return wire
}
