//go:build cgo

package openssl

// #include "cgo_compat.h"
import "C"

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/seed-014b8713/sslfilter"
)

// SSLTLSExtErr is the result of a TLSExtServernameCallback.
type SSLTLSExtErr int

const (
	SSLTLSExtErrOK           SSLTLSExtErr = C.SSL_TLSEXT_ERR_OK
	SSLTLSExtErrAlertWarning SSLTLSExtErr = C.SSL_TLSEXT_ERR_ALERT_WARNING // as OK: no alert is sent
	SSLTLSEXTErrAlertFatal   SSLTLSExtErr = C.SSL_TLSEXT_ERR_ALERT_FATAL   // refuses the client
	SSLTLSEXTErrNoAck        SSLTLSExtErr = C.SSL_TLSEXT_ERR_NOACK         // as OK
)

// TLSExtServernameCallback is called when a ClientHello has arrived. It can call
// GetServername, SetSSLCtx and the Set functions of ssl.
type TLSExtServernameCallback func(ssl *SSL) SSLTLSExtErr

// SSL is the part of a connection that can be changed until its handshake begins, or
// on a server until the TLSExtServernameCallback returns.
type SSL struct {
	mu       sync.Mutex
	settings *settings
	policy   policy
	verify   VerifyCallback
	used     demand // of the handshake: later changes have no effect
	name     string // the server name: to be sent, or from the ClientHello
	client   bool
}

// demand says how a connection verifies its peer.
type demand struct {
	mode   VerifyOptions
	verify VerifyCallback
}

func newSSL(ctx *Ctx, client bool) *SSL {
	s := &SSL{client: client}
	s.settings, s.policy, s.verify = ctx.snapshot()
	return s
}

// engine returns the context of the engine for this connection. The peer is then judged
// by what is set now: with a callback, the context itself refuses nobody.
func (s *SSL) engine() (*sslfilter.Ctx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = demand{s.policy.mode, s.verify}
	return s.settings.engine(s.client, s.policy)
}

// GetServername returns the server name of the ClientHello (RFC 6066), or "".
func (s *SSL) GetServername() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

// tickets returns the ticket keys of the settings.
func (s *SSL) tickets() *tickets {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings.tickets
}

// SetSSLCtx makes the connection use the certificate, key, CAs, ciphers and versions
// of ctx. A connection that had no VerifyPeer gets the mode, depth and callback of ctx.
// With VerifyPeer in both, the peer must satisfy both: the modes are combined, the
// smaller depth counts, and both callbacks must accept each step; the connection's is
// called first. Without a callback, OpenSSL's own result decides.
func (s *SSL) SetSSLCtx(ctx *Ctx) {
	settings, p, verify := ctx.snapshot()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings = settings
	switch {
	case s.policy.mode&VerifyPeer == 0:
		s.verify = verify
		s.policy.depth = p.depth
	case p.mode&VerifyPeer != 0:
		s.verify = both(s.verify, verify)
		if p.depth >= 0 && (s.policy.depth < 0 || p.depth < s.policy.depth) {
			s.policy.depth = p.depth
		}
	}
	s.policy.mode |= p.mode
	s.policy.callback = s.verify != nil
}

// both returns a callback that accepts a step if a and b do. nil stands for OpenSSL's
// own result.
func both(a, b VerifyCallback) VerifyCallback {
	if a == nil && b == nil {
		return nil
	}
	return func(ok bool, store *CertificateStoreCtx) bool {
		return (a == nil && ok || a != nil && a(ok, store)) && (b == nil && ok || b != nil && b(ok, store))
	}
}

// SetVerify sets how the peer is verified; see Ctx.SetVerify.
func (s *SSL) SetVerify(options VerifyOptions, verify_cb VerifyCallback) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verify, s.policy.mode, s.policy.callback = verify_cb, options, verify_cb != nil
}

// SetVerifyMode is SetVerify with the callback that is set.
func (s *SSL) SetVerifyMode(options VerifyOptions) { s.SetVerify(options, s.GetVerifyCallback()) }

// SetVerifyCallback is SetVerify with the mode that is set.
func (s *SSL) SetVerifyCallback(verify_cb VerifyCallback) { s.SetVerify(s.VerifyMode(), verify_cb) }

// GetVerifyCallback returns the callback, or nil.
func (s *SSL) GetVerifyCallback() VerifyCallback {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verify
}

// VerifyMode returns the mode.
func (s *SSL) VerifyMode() VerifyOptions {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy.mode
}

// SetVerifyDepth sets the number of intermediate certificates that a chain may have.
func (s *SSL) SetVerifyDepth(depth int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy.depth = depth
}

// GetVerifyDepth returns the depth, or -1 if it was not set.
func (s *SSL) GetVerifyDepth() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy.depth
}

// SetOptions sets these bits, and returns all that are set.
func (s *SSL) SetOptions(options Options) Options { return s.setOptions(options, 0) }

// ClearOptions clears these bits, and returns all that are set.
func (s *SSL) ClearOptions(options Options) Options { return s.setOptions(0, options) }

// GetOptions returns the bits that are set.
func (s *SSL) GetOptions() Options { return s.setOptions(0, 0) }

func (s *SSL) setOptions(set, clear Options) Options {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy.options = s.policy.options&^clear | set
	return s.policy.options
}

// chooser returns the function that sslnet calls with the ClientHello.
func (s *SSL) chooser(sni TLSExtServernameCallback) func(context.Context, net.Conn, *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
	return func(_ context.Context, _ net.Conn, hello *sslfilter.ClientHello) (*sslfilter.Ctx, error) {
		s.mu.Lock()
		s.name = hello.ServerName
		s.mu.Unlock()
		if sni != nil {
			if result := sni(s); result == SSLTLSEXTErrAlertFatal {
				return nil, fmt.Errorf("openssl: the server name callback refuses %q", hello.ServerName)
			}
		}
		if err := s.tickets().refresh(hello); err != nil {
			return nil, err
		}
		return s.engine()
	}
}
