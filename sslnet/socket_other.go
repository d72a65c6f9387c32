//go:build !unix

package sslnet

import "net"

// socket is implemented on Unix only.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) read() (*wireBuffer, int, error) { panic("sslnet: no socket") }
func (*socket) discard()                        {}
