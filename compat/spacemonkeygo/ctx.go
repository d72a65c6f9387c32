//go:build cgo

package openssl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/seed-014b8713/sslfilter"
)

// Ctx is what connections have in common: certificates, keys, CAs and options. It
// is safe for concurrent use. A change has an effect on the connections that are
// made afterwards.
type Ctx struct {
	mu       sync.Mutex
	settings *settings
	policy   policy
	verify   VerifyCallback
	asked    bool // SetVerify or SetVerifyMode was called
	sni      TLSExtServernameCallback
	store    *CertificateStore

	modes     Modes
	cacheMode SessionCacheModes
	cacheSize int
	timeout   time.Duration
}

// settings is what a Ctx has at one moment. It does not change; a change of the Ctx
// makes a new one.
type settings struct {
	version SSLVersion
	cert    *Certificate
	chain   []*Certificate
	key     PrivateKey
	cas     [][]byte
	ciphers string
	curve   EllipticCurve
	dh      *DH
	tickets *tickets

	mu   sync.Mutex
	made map[role]*sslfilter.Ctx
}

// role is what a context of the engine depends on in addition to the settings.
type role struct {
	client bool
	policy policy
}

// maxRoles bounds the contexts of the engine that settings keep. A connection with a
// further policy of its own has its own context.
const maxRoles = 16

// NewCtx returns a context with AnyVersion.
func NewCtx() (*Ctx, error) { return NewCtxWithVersion(AnyVersion) }

// NewCtxWithVersion returns a context for one version of TLS, or for AnyVersion.
func NewCtxWithVersion(version SSLVersion) (*Ctx, error) {
	switch version {
	case TLSv1, TLSv1_1, TLSv1_2, AnyVersion:
	case SSLv3:
		return nil, errors.New("openssl: SSL 3.0 is not supported")
	default:
		return nil, fmt.Errorf("openssl: unknown version %d", version)
	}
	return &Ctx{
		settings: &settings{version: version, tickets: newTickets(nil)}, policy: policy{depth: -1, options: defaultOptions},
		store: new(CertificateStore), cacheMode: SessionCacheServer, cacheSize: defaultCacheSize,
		timeout: defaultTimeout * time.Second,
	}, nil
}

// NewCtxFromFiles returns a context with the certificate, its chain and the key in
// two PEM files.
func NewCtxFromFiles(cert_file string, key_file string) (*Ctx, error) {
	c, err := NewCtx()
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(cert_file)
	if err != nil {
		return nil, err
	}
	blocks := slices.DeleteFunc(SplitPEM(pem), func(b []byte) bool { return !isCertificate(b) })
	if len(blocks) == 0 {
		return nil, fmt.Errorf("openssl: no certificate in %s", cert_file)
	}
	for i, block := range blocks {
		cert, err := LoadCertificateFromPEM(block)
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, cert_file)
		}
		use := c.AddChainCertificate
		if i == 0 {
			use = c.UseCertificate
		}
		if err := use(cert); err != nil {
			return nil, err
		}
	}
	if pem, err = os.ReadFile(key_file); err != nil {
		return nil, err
	}
	key, err := LoadPrivateKeyFromPEM(pem)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, key_file)
	}
	if err := c.UsePrivateKey(key); err != nil {
		return nil, err
	}
	s, p, _ := c.snapshot()
	_, err = s.engine(false, p)
	return c, err
}

// change replaces the settings by a copy that f has changed.
func (c *Ctx) change(f func(s *settings)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settings = c.settings.clone()
	f(c.settings)
}

func (s *settings) clone() *settings {
	return &settings{
		version: s.version, cert: s.cert, chain: s.chain, key: s.key, cas: s.cas, ciphers: s.ciphers, curve: s.curve, dh: s.dh,
		tickets: s.tickets,
	}
}

// snapshot returns what a new connection uses.
func (c *Ctx) snapshot() (*settings, policy, VerifyCallback) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cas := c.store.all(); len(cas) != len(c.settings.cas) {
		c.settings = c.settings.clone()
		c.settings.cas = cas
	}
	return c.settings, c.policy, c.verify
}

// engine returns the context of the engine for these settings.
func (s *settings) engine(client bool, p policy) (*sslfilter.Ctx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := role{client, p}
	if ctx := s.made[r]; ctx != nil {
		return ctx, nil
	}
	o, err := s.options(client, p)
	if err != nil {
		return nil, err
	}
	ctx, err := sslfilter.NewCtx(o)
	clear(o.KeyMem)
	if err != nil {
		return nil, err
	}
	if s.made == nil {
		s.made = make(map[role]*sslfilter.Ctx)
	}
	if len(s.made) < maxRoles {
		s.made[r] = ctx
	}
	return ctx, nil
}

func (s *settings) options(client bool, p policy) (o sslfilter.Options, err error) {
	o = sslfilter.Options{Client: client, Cipher: s.ciphers, AllowMissingCloseNotify: true}
	switch s.version {
	case TLSv1:
		o.MinVersion = sslfilter.VersionTLS10
	case TLSv1_1:
		o.MinVersion = sslfilter.VersionTLS11
	case TLSv1_2:
		o.MinVersion = sslfilter.VersionTLS12
	}
	o.MaxVersion = o.MinVersion
	if err := p.apply(&o); err != nil {
		return o, err
	}
	switch s.curve {
	case Prime256v1:
		o.Groups = "P-256"
	case Secp384r1:
		o.Groups = "P-384"
	case Secp521r1:
		o.Groups = "P-521"
	}
	if s.dh != nil && !client {
		o.DHCertMem = s.dh.pem
	}
	if len(s.cas) > 0 {
		o.CACrtMem = s.cas
	}
	if !client && o.NumTickets >= 0 {
		o.TicketKeys = s.tickets.keys
		o.ResumeClientCert = p.mode&VerifyPeer != 0
	}
	switch {
	case s.cert == nil && s.key == nil && client:
		return o, nil
	case s.cert == nil:
		return o, errors.New("openssl: the context has no certificate: call UseCertificate")
	case s.key == nil:
		return o, errors.New("openssl: the context has no private key: call UsePrivateKey")
	}
	for _, cert := range append([]*Certificate{s.cert}, s.chain...) {
		pem, err := cert.MarshalPEM()
		if err != nil {
			return o, err
		}
		o.CrtMem = append(o.CrtMem, pem...)
	}
	o.KeyMem, err = s.key.evpPKey().pkcs8()
	return o, err
}

// UseCertificate sets the certificate that is shown to peers.
func (c *Ctx) UseCertificate(cert *Certificate) error {
	if err := cert.made("use certificate"); err != nil {
		return err
	}
	c.change(func(s *settings) { s.cert = cert })
	return nil
}

// UsePrivateKey sets the key of the certificate. It returns an error if UseCertificate
// has been called with a certificate of another key.
func (c *Ctx) UsePrivateKey(key PrivateKey) error {
	if key == nil {
		return errors.New("openssl: the private key is nil")
	}
	c.mu.Lock()
	cert := c.settings.cert
	c.mu.Unlock()
	if cert != nil {
		if err := cert.matches(key); err != nil {
			return err
		}
	}
	c.change(func(s *settings) { s.key = key })
	return nil
}

// AddChainCertificate adds a certificate that is sent after that of UseCertificate.
func (c *Ctx) AddChainCertificate(cert *Certificate) error {
	if err := cert.made("add chain certificate"); err != nil {
		return err
	}
	c.change(func(s *settings) { s.chain = append(slices.Clip(s.chain), cert) })
	return nil
}

// LoadVerifyLocations trusts the CAs in a PEM file, or in the files of a directory
// that have the names of "openssl rehash", or both. Either can be empty. The files
// are read now. If they have no certificate, it returns an error.
func (c *Ctx) LoadVerifyLocations(ca_file string, ca_path string) error {
	if ca_file == "" && ca_path == "" {
		return errors.New("openssl: LoadVerifyLocations needs a file or a directory")
	}
	if ca_file != "" {
		if err := c.loadCAs(ca_file); err != nil {
			return err
		}
	}
	if ca_path == "" {
		return nil
	}
	entries, err := os.ReadDir(ca_path)
	if err != nil {
		return err
	}
	found := false
	for _, e := range entries {
		if !hashed.MatchString(e.Name()) {
			continue
		}
		if err := c.loadCAs(filepath.Join(ca_path, e.Name())); err != nil {
			return err
		}
		found = true
	}
	if !found {
		return fmt.Errorf("openssl: %s has no file with a name of \"openssl rehash\"", ca_path)
	}
	return nil
}

// hashed matches the names under which OpenSSL finds the certificates of a directory.
var hashed = regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)

func (c *Ctx) loadCAs(file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := c.store.LoadCertificatesFromPEM(pem); err != nil {
		return fmt.Errorf("%w: %s", err, file)
	}
	return nil
}

// GetCertificateStore returns the CAs that the context trusts. Certificates can be
// added to it at any time.
func (c *Ctx) GetCertificateStore() *CertificateStore { return c.store }

// SetCipherList sets the ciphers of TLS 1.2 and earlier, in the form of
// openssl-ciphers(1), "@SECLEVEL=n" included.
func (c *Ctx) SetCipherList(list string) error {
	ctx, err := sslfilter.NewCtx(sslfilter.Options{Client: true, InsecureSkipVerify: true, Cipher: list})
	if err != nil {
		return err
	}
	ctx.Close()
	c.change(func(s *settings) { s.ciphers = list })
	return nil
}

// SetEllipticCurve makes the curve the only group of the key exchange.
func (c *Ctx) SetEllipticCurve(curve EllipticCurve) error {
	if !slices.Contains([]EllipticCurve{Prime256v1, Secp384r1, Secp521r1}, curve) {
		return fmt.Errorf("openssl: curve %d is not supported", curve)
	}
	c.change(func(s *settings) { s.curve = curve })
	return nil
}

// SetDHParameters sets the group of the DHE ciphers of a server.
func (c *Ctx) SetDHParameters(dh *DH) error {
	c.change(func(s *settings) { s.dh = dh })
	return nil
}

// SetVerify sets how peers are verified. A server with VerifyPeer refuses a client
// whose certificate is not valid; with VerifyFailIfNoPeerCert it also refuses a
// client that shows none. If verify_cb is not nil, it decides instead.
func (c *Ctx) SetVerify(options VerifyOptions, verify_cb VerifyCallback) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.verify, c.policy.mode, c.policy.callback = true, verify_cb, options, verify_cb != nil
}

// SetVerifyMode is SetVerify, but keeps the callback.
func (c *Ctx) SetVerifyMode(options VerifyOptions) { c.SetVerify(options, c.GetVerifyCallback()) }

// SetVerifyCallback is SetVerify, but keeps the mode. If no mode was set, Dial still
// verifies, and the callback decides.
func (c *Ctx) SetVerifyCallback(verify_cb VerifyCallback) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verify, c.policy.callback = verify_cb, verify_cb != nil
}

// GetVerifyCallback returns the callback, or nil.
func (c *Ctx) GetVerifyCallback() VerifyCallback {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verify
}

// VerifyMode returns the mode.
func (c *Ctx) VerifyMode() VerifyOptions {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.mode
}

// SetVerifyDepth sets the number of intermediate certificates that a chain may have.
func (c *Ctx) SetVerifyDepth(depth int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy.depth = depth
}

// GetVerifyDepth returns the depth, or -1 if it was not set.
func (c *Ctx) GetVerifyDepth() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.depth
}

// SetTLSExtServernameCallback sets a function that is called with each connection of
// a server, when its ClientHello has arrived.
func (c *Ctx) SetTLSExtServernameCallback(sni_cb TLSExtServernameCallback) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sni = sni_cb
}

// SetOptions sets these bits, and returns all that are set.
func (c *Ctx) SetOptions(options Options) Options { return c.setOptions(options, 0) }

// ClearOptions clears these bits, and returns all that are set.
func (c *Ctx) ClearOptions(options Options) Options { return c.setOptions(0, options) }

// GetOptions returns the bits that are set.
func (c *Ctx) GetOptions() Options { return c.setOptions(0, 0) }

func (c *Ctx) setOptions(set, clear Options) Options {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy.options = c.policy.options&^clear | set
	return c.policy.options
}

// SetMode sets these bits, and returns all that are set. They have no effect.
func (c *Ctx) SetMode(modes Modes) Modes {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.modes |= modes
	return c.modes
}

// GetMode returns the bits of SetMode.
func (c *Ctx) GetMode() Modes { return c.SetMode(0) }

// SetSessionCacheMode sets the mode, and returns the earlier one. It has no effect: a
// server gives its clients tickets and keeps no sessions, and a client keeps only the
// one that GetSession returns.
func (c *Ctx) SetSessionCacheMode(modes SessionCacheModes) SessionCacheModes {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.cacheMode
	c.cacheMode = modes
	return old
}

// SessSetCacheSize sets the number of sessions to keep, and returns the earlier one.
// It has no effect; see SetSessionCacheMode.
func (c *Ctx) SessSetCacheSize(t int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.cacheSize
	c.cacheSize = t
	return old
}

// SessGetCacheSize returns the number of SessSetCacheSize.
func (c *Ctx) SessGetCacheSize() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cacheSize
}

// SetTimeout sets the lifetime of sessions, in whole seconds, and returns the earlier
// one. It has no effect: sessions have OpenSSL's default lifetime.
func (c *Ctx) SetTimeout(t time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.timeout
	c.timeout = t.Truncate(time.Second)
	return old
}

// GetTimeout returns the lifetime of SetTimeout.
func (c *Ctx) GetTimeout() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timeout
}

// SetSessionId checks the length of a session id context, at most 32 bytes. It has no
// effect: the engine binds sessions to the settings that determine which clients are accepted.
func (c *Ctx) SetSessionId(session_id []byte) error {
	if len(session_id) > 32 {
		return errors.New("openssl: the session id context has more than 32 bytes")
	}
	return nil
}
