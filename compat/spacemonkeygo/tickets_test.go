package openssl_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/spacemonkeygo/openssl"
)

// manager is a TicketKeyManager. Its keys have names that begin with their number.
type manager struct {
	mu      sync.Mutex
	size    int // of the cipher's key
	keys    []*openssl.TicketKey
	expired map[byte]bool
	looked  map[byte]bool // names that were looked up
}

func newManager(size int) *manager {
	return &manager{size: size, expired: make(map[byte]bool), looked: make(map[byte]bool)}
}

func (m *manager) New() *openssl.TicketKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := byte(len(m.keys) + 1)
	m.keys = append(m.keys, &openssl.TicketKey{
		Name: openssl.TicketName{n, 'k', 'e', 'y'}, CipherKey: bytes.Repeat([]byte{n}, m.size), HMACKey: bytes.Repeat([]byte{100 + n}, 32),
		IV: make([]byte, 16),
	})
	return m.keys[n-1]
}

func (m *manager) Current() *openssl.TicketKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.keys) == 0 {
		return nil
	}
	return m.keys[len(m.keys)-1]
}

func (m *manager) Lookup(name openssl.TicketName) *openssl.TicketKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looked[name[0]] = true
	for _, k := range m.keys {
		if k.Name == name {
			return k
		}
	}
	return nil
}

func (m *manager) Expired(name openssl.TicketName) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.expired[name[0]]
}

func (m *manager) ShouldRenew(name openssl.TicketName) bool { return m.Current().Name != name }

// cache keeps one session of crypto/tls.
type cache struct{ session *tls.ClientSessionState }

func (c *cache) Get(string) (*tls.ClientSessionState, bool)    { return c.session, c.session != nil }
func (c *cache) Put(_ string, session *tls.ClientSessionState) { c.session = session }

// Tickets are those of the manager's keys: two contexts with the same manager resume
// each other's sessions, after a rotation too, until the key has expired.
func TestTicketStore(t *testing.T) {
	id := issue(t, nil, "server", "", false)
	for _, c := range []struct {
		cipher, digest string
		size           int
	}{{"AES-256-CBC", "SHA256", 32}, {"AES-128-CBC", "SHA1", 16}} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			name := fmt.Sprintf("%s, %x", c.cipher, version)
			m := newManager(c.size)
			store := &openssl.TicketStore{
				CipherCtx: openssl.TicketCipherCtx{Cipher: must[*openssl.Cipher](t)(openssl.GetCipherByName(c.cipher))},
				DigestCtx: openssl.TicketDigestCtx{Digest: must[*openssl.Digest](t)(openssl.GetDigestByName(c.digest))},
				Keys:      m,
			}
			first, second := id.ctx(t), id.ctx(t)
			first.SetTicketStore(store)
			other := *store
			second.SetTicketStore(&other)
			sessions := new(cache)
			connect := func(ctx *openssl.Ctx, want bool, why string) {
				t.Helper()
				below, out := pipe(t)
				conn := must[*openssl.Conn](t)(openssl.Server(below, ctx))
				done := echo(conn)
				client := tls.Client(out, &tls.Config{
					InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: sessions, MinVersion: version, MaxVersion: version,
				})
				if err := answered(client); err != nil {
					t.Errorf("%s: %s: %v", name, why, err)
				}
				if got := client.ConnectionState().DidResume; got != want || conn.SessionReused() != want {
					t.Errorf("%s: %s: resumed is %v, and the server says %v", name, why, got, conn.SessionReused())
				}
				client.Close()
				<-done
			}
			connect(first, false, "the first connection")
			connect(second, true, "with the other context")
			m.New()
			connect(first, true, "after a rotation")
			connect(second, true, "with the new key")
			m.New()
			m.expired[2] = true
			connect(second, false, "the key has expired")
			if !m.looked[1] {
				t.Errorf("%s: no key was looked up: %v", name, m.looked)
			}
			connect(id.ctx(t), false, "a context without the store")
			first.SetTicketStore(nil)
			connect(first, false, "the store is taken away")
			connect(first, true, "with random keys")
			ok(t, first.SetCipherList("DEFAULT"))
			connect(first, true, "after a change of the context")
			first.SetOptions(openssl.NoTicket)
			connect(first, false, "without tickets")
		}
	}
}

// A manager without a key, or with one that is too short, refuses the client, and the
// error says why.
func TestTicketStoreErrors(t *testing.T) {
	short := newManager(15)
	for want, keys := range map[string]openssl.TicketKeyManager{
		"has no TicketKeyManager": nil, "at least 16 bytes": short, "has no key": nothing{short},
	} {
		ctx := issue(t, nil, "server", "", false).ctx(t)
		ctx.SetTicketStore(&openssl.TicketStore{Keys: keys})
		below, out := pipe(t)
		done := echo(must[*openssl.Conn](t)(openssl.Server(below, ctx)))
		if err := answered(tls.Client(out, &tls.Config{InsecureSkipVerify: true})); err == nil {
			t.Errorf("%s: the client is served", want)
		}
		if err := <-done; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

type nothing struct{ *manager }

func (nothing) New() *openssl.TicketKey     { return nil }
func (nothing) Current() *openssl.TicketKey { return nil }
