//go:build cgo

package openssl

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-014b8713/sslfilter"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// Conn is a TLS connection. Its methods are safe for concurrent use. The handshake
// runs in the first Handshake, Read or Write.
type Conn struct {
	*SSL

	ctx   *Ctx
	below net.Conn
	sni   TLSExtServernameCallback

	session session // of a client

	mu          sync.Mutex
	tls         *sslnet.Conn // nil until the handshake begins
	read, write time.Time    // deadlines that were set before
	closed      bool

	judged  sync.Once
	open    atomic.Bool // the handshake is done and the peer is accepted
	refused atomic.Bool // the peer is refused
	result  atomic.Int64
	err     error // why the peer is refused
}

// ConnectionState describes a connection after its handshake.
type ConnectionState struct {
	Certificate           *Certificate
	CertificateError      error
	CertificateChain      []*Certificate
	CertificateChainError error
	SessionReused         bool
}

var (
	errNoCtx             = errors.New("openssl: the context is nil")
	errNoPeerCertificate = errors.New("openssl: the peer has sent no certificate")
)

// Client returns the client's end of a TLS connection over conn.
//
// WARNING: Nothing verifies the name of the server; call VerifyHostname after the
// handshake, or use Dial. Without VerifyPeer in ctx nothing verifies its certificate
// either.
func Client(conn net.Conn, ctx *Ctx) (*Conn, error) { return checked(newConn(conn, ctx, true)) }

// Server returns the server's end of a TLS connection over conn.
func Server(conn net.Conn, ctx *Ctx) (*Conn, error) { return checked(newConn(conn, ctx, false)) }

func newConn(conn net.Conn, ctx *Ctx, client bool) (*Conn, error) {
	switch {
	case ctx == nil:
		return nil, errNoCtx
	case conn == nil:
		return nil, errors.New("openssl: the underlying connection is nil")
	}
	c := &Conn{SSL: newSSL(ctx, client), ctx: ctx, below: conn}
	if !client {
		ctx.mu.Lock()
		c.sni = ctx.sni
		ctx.mu.Unlock()
	}
	return c, nil
}

// checked returns an error if the settings cannot work, so that the program learns it
// before the handshake.
func checked(c *Conn, err error) (*Conn, error) {
	if err == nil && c.sni == nil {
		_, err = c.engine()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// start makes the TLS connection with the settings that were made so far.
func (c *Conn) start() (*sslnet.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, net.ErrClosed
	case c.tls != nil:
		return c.tls, nil
	}
	tls, err := c.makeTLS()
	if err != nil {
		return nil, err
	}
	if !c.read.IsZero() {
		tls.SetReadDeadline(c.read)
	}
	if !c.write.IsZero() {
		tls.SetWriteDeadline(c.write)
	}
	c.tls = tls
	return tls, nil
}

func (c *Conn) makeTLS() (*sslnet.Conn, error) {
	if c.sni != nil || !c.client && c.tickets().store != nil {
		tls := sslnet.Server(c.below, nil)
		return tls, tls.SetChoose(c.chooser(c.sni))
	}
	engine, err := c.engine()
	if err != nil {
		return nil, err
	}
	if !c.client {
		return sslnet.Server(c.below, engine), nil
	}
	tls, name := sslnet.Client(c.below, engine), c.GetServername()
	if name == "" {
		// The engine needs a name to verify. This one is not sent, since it is an
		// address, and policy.apply ignores that the certificate is for another name.
		name = "0.0.0.0"
	}
	return tls, errors.Join(tls.SetServerName(name), tls.SetSessions(&c.session))
}

// SetTlsExtHostName sets the server name that a client sends (SNI). An IP address is
// not sent. It does not make the client verify that name. It must be called before
// the handshake.
func (c *Conn) SetTlsExtHostName(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.client:
		return errors.New("openssl: SetTlsExtHostName: this is a server")
	case c.tls != nil:
		return errors.New("openssl: SetTlsExtHostName: the handshake has begun")
	}
	c.SSL.mu.Lock()
	defer c.SSL.mu.Unlock()
	c.SSL.name = name
	return nil
}

// Handshake does the handshake if it is not done, and verifies the peer.
func (c *Conn) Handshake() error {
	_, err := c.ready(context.Background())
	return err
}

// ready returns the TLS connection after its handshake, if its peer is accepted.
func (c *Conn) ready(ctx context.Context) (*sslnet.Conn, error) {
	if c.open.Load() {
		return c.tls, nil // does not change any more
	}
	if c.refused.Load() {
		return nil, c.err
	}
	tls, err := c.start()
	if err != nil {
		return nil, err
	}
	if err := tls.HandshakeContext(ctx); err != nil {
		var v *sslfilter.VerifyError
		if errors.As(err, &v) {
			c.result.Store(int64(v.Code))
		}
		return nil, err
	}
	c.judged.Do(func() {
		c.err = errors.New("openssl: the verify callback did not return")
		defer func() { c.refused.Store(c.err != nil) }()
		c.err = c.judge(tls)
		c.open.Store(c.err == nil)
	})
	if c.err != nil {
		return nil, c.err
	}
	return tls, nil
}

// judge calls the verify callback. If it refuses the peer, the connection ends.
func (c *Conn) judge(tls *sslnet.Conn) error {
	c.SSL.mu.Lock()
	if !c.client && c.SSL.name == "" {
		c.SSL.name = tls.ServerName()
	}
	used := c.SSL.used
	c.SSL.mu.Unlock()
	result, ok, err := judge(tls, used.verify)
	c.result.Store(int64(result))
	switch {
	case err != nil:
	case ok, used.mode&VerifyPeer == 0:
		return nil
	default:
		err = errors.New("openssl: the verify callback refuses the peer: " + sslfilter.VerifyCode(result).String())
	}
	tls.Close()
	return err
}

// Read reads plaintext. It returns io.EOF after the peer's close_notify, and also if
// the connection ends between two records. If it ends inside a record, the error is
// io.ErrUnexpectedEOF.
//
// WARNING: Anyone on the network can therefore end the data early. The program can
// detect this only if the data itself says where it ends.
func (c *Conn) Read(b []byte) (n int, err error) {
	tls, err := c.ready(context.Background())
	if err != nil {
		return 0, err
	}
	return tls.Read(b)
}

// Write sends b.
func (c *Conn) Write(b []byte) (written int, err error) {
	tls, err := c.ready(context.Background())
	if err != nil {
		return 0, err
	}
	return tls.Write(b)
}

// Close sends close_notify and closes the underlying connection. A second call does
// nothing.
func (c *Conn) Close() error {
	c.mu.Lock()
	tls, closed := c.tls, c.closed
	c.closed = true
	c.mu.Unlock()
	switch {
	case closed:
		return nil
	case tls == nil:
		return c.below.Close()
	}
	err := tls.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil // after a refused peer
	}
	return err
}

// GetCtx returns the context that the connection was made with.
func (c *Conn) GetCtx() *Ctx { return c.ctx }

// UnderlyingConn returns the connection below TLS.
func (c *Conn) UnderlyingConn() net.Conn { return c.below }

// LocalAddr returns the local address of the underlying connection.
func (c *Conn) LocalAddr() net.Addr { return c.below.LocalAddr() }

// RemoteAddr returns the remote address of the underlying connection.
func (c *Conn) RemoteAddr() net.Addr { return c.below.RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the time at which Read fails with a timeout.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tls != nil {
		return c.tls.SetReadDeadline(t)
	}
	c.read = t
	return nil
}

// SetWriteDeadline sets the time at which Write fails with a timeout.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tls != nil {
		return c.tls.SetWriteDeadline(t)
	}
	c.write = t
	return nil
}

// begun returns the TLS connection, or nil if the handshake has not begun.
func (c *Conn) begun() *sslnet.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tls
}

// CurrentCipher returns OpenSSL's name of the cipher suite.
func (c *Conn) CurrentCipher() (string, error) {
	if tls := c.begun(); tls != nil {
		if name := tls.State().Cipher; name != "" {
			return name, nil
		}
	}
	return "", errors.New("openssl: no cipher is negotiated")
}

// SessionReused reports whether the handshake has resumed an earlier session.
func (c *Conn) SessionReused() bool {
	tls := c.begun()
	return tls != nil && tls.State().Resumed
}

// VerifyResult returns the result of the verification of the peer, or Ok if it has
// sent no certificate. If a callback has accepted errors, it is the last of them.
func (c *Conn) VerifyResult() VerifyResult { return VerifyResult(c.result.Load()) }

// sent returns the certificates that the peer has sent, its own first.
func (c *Conn) sent() ([]*Certificate, error) {
	tls := c.begun()
	if tls == nil {
		return nil, errNoPeerCertificate
	}
	peer := tls.Peer()
	if peer == nil || len(peer.Sent) == 0 {
		return nil, errNoPeerCertificate
	}
	list := make([]*Certificate, len(peer.Sent))
	for i, der := range peer.Sent {
		var err error
		if list[i], err = certificateFromDER(der); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// PeerCertificate returns the certificate of the peer.
func (c *Conn) PeerCertificate() (*Certificate, error) {
	list, err := c.sent()
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// PeerCertificateChain returns the certificates that the peer has sent. On a client they
// include the server's own certificate; on a server they do not include the client's own.
func (c *Conn) PeerCertificateChain() (rv []*Certificate, err error) {
	list, err := c.sent()
	if err != nil || c.client {
		return list, err
	}
	return list[1:], nil
}

// ConnectionState describes the connection.
func (c *Conn) ConnectionState() (rv ConnectionState) {
	rv.Certificate, rv.CertificateError = c.PeerCertificate()
	rv.CertificateChain, rv.CertificateChainError = c.PeerCertificateChain()
	rv.SessionReused = c.SessionReused()
	return rv
}

// VerifyHostname returns nil if the certificate of the peer is for host, which is a
// name or an address; see Certificate.VerifyHostname. It does not verify the
// certificate.
func (c *Conn) VerifyHostname(host string) error {
	cert, err := c.PeerCertificate()
	if err != nil {
		return err
	}
	return cert.VerifyHostname(host)
}
