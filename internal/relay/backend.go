package relay

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/seed-014b8713/sslfilter/internal/relay/config"
	"github.com/seed-014b8713/sslfilter/sslnet"
)

// maxSessions bounds the TLS sessions with backends that a relay keeps.
const maxSessions = 256

// dial connects to a backend for the session. It begins TLS unless the protocol has
// to begin it with STARTTLS.
func (s *session) dial(ctx context.Context, e config.Endpoint) (duplex, error) {
	s.dest = e.String()
	conn, err := s.state.dial(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("backend %v: %w", e, err)
	}
	if !s.setBackend(conn) {
		conn.Close()
		return nil, errStopped
	}
	if s.state.conf.ProxyProtocol {
		deadline, _ := ctx.Deadline()
		conn.SetDeadline(deadline)
		if _, err := conn.Write(proxyHeader(s.raw.RemoteAddr(), s.raw.LocalAddr())); err != nil {
			conn.Close()
			return nil, fmt.Errorf("backend %v: %w", e, err)
		}
	}
	if e.Security != config.DirectTLS {
		return conn, nil
	}
	tls, err := s.state.secureBackend(ctx, conn, e)
	if err != nil {
		return nil, err
	}
	return tls, nil
}

// dial connects to a backend without TLS.
func (st *state) dial(ctx context.Context, e config.Endpoint) (duplex, error) {
	conn, err := new(net.Dialer).DialContext(ctx, e.Network, e.Address)
	if err != nil {
		return nil, err
	}
	return conn.(duplex), nil // TCP and unix connections are duplex
}

// secureBackend performs the TLS handshake with a backend. It closes conn if the
// handshake fails.
func (st *state) secureBackend(ctx context.Context, conn duplex, e config.Endpoint) (*sslnet.Conn, error) {
	tls := sslnet.Client(conn, st.client)
	if st.relay != nil { // otherwise the configuration is being checked
		tls.SetSessions(st.relay.tls)
	}
	if st.conf.Upstream.ServerName == "" && e.Host != "" { // backend-sni has no effect on the verification
		if err := tls.SetVerifiedName(e.Host); err != nil {
			conn.Close()
			return nil, fmt.Errorf("backend %v: %w", e, err)
		}
	}
	if err := tls.HandshakeContext(ctx); err != nil {
		tls.Close()
		return nil, fmt.Errorf("backend %v: TLS: %w", e, err)
	}
	return tls, nil
}

// proxyHeader returns the header of version 2 of the PROXY protocol (haproxy's
// doc/proxy-protocol.txt).
func proxyHeader(from, to net.Addr) []byte {
	header := []byte("\r\n\r\n\x00\r\nQUIT\n\x21")
	src, dst := addrPort(from), addrPort(to)
	switch {
	case !src.IsValid() || !dst.IsValid():
		return append(header, 0, 0, 0) // unknown
	case src.Addr().Is4() && dst.Addr().Is4():
		header = append(header, 0x11, 0, 12)
		header = append(header, src.Addr().AsSlice()...)
		header = append(header, dst.Addr().AsSlice()...)
	default:
		header = append(header, 0x21, 0, 36)
		a, b := src.Addr().As16(), dst.Addr().As16()
		header = append(append(header, a[:]...), b[:]...)
	}
	header = binary.BigEndian.AppendUint16(header, src.Port())
	return binary.BigEndian.AppendUint16(header, dst.Port())
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
