//go:build !unix

package sslnet

import "net"

// socket is for Unix alone.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) read() (*wireBuffer, int, error) { panic("sslnet: no socket") }
func (*socket) discard()                        {}
