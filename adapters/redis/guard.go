package sslredis

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// go-redis allocates as many bytes as a reply says that it has, and calls itself for each
// level of a nested reply. So the lengths are checked before go-redis sees them.
const (
	// maxBulk bounds one string of a reply, in bytes.
	maxBulk = 1 << 20
	// maxElements bounds the elements of one list of a reply. A Cluster lists its slots, and
	// every Redis its commands.
	maxElements = 1 << 15
	// maxDepth bounds the levels of a nested reply.
	maxDepth = 16
	// maxLists bounds the lists that are received between two requests, at all levels. The
	// commands of Redis 7.0 are 3,511 lists. A Cluster has a list for each range of slots and
	// for each of its nodes, and go-redis compares each node with all others.
	maxLists = 1 << 14
	// maxLine bounds a line of a reply, such as an error, in bytes.
	maxLine = 16 << 10
	// maxReply bounds everything that is received between two requests, in bytes.
	maxReply = 8 << 20
)

// errReply is the error about a reply that exceeds a bound or cannot be parsed.
var errReply = errors.New("sslredis: the reply of Redis exceeds a bound")

// guard is a connection to Redis whose replies are bounded. Like the connections of
// go-redis, it is used by one goroutine at a time.
type guard struct {
	net.Conn
	received int // since the last Write, in bytes
	lists    int // since the last Write
	skip     int // bytes of a string that are still to come
	line     int // bytes of the present line
	header   [24]byte
	open     []int // elements that are still to come of each list
	failed   error
}

// guardedSocket is a guard of a socket. go-redis looks whether a socket has ended before
// it uses it again.
type guardedSocket struct {
	*guard
	syscall.Conn
}

func (g *guard) Write(b []byte) (int, error) {
	g.received, g.lists = 0, 0
	return g.Conn.Write(b)
}

func (g *guard) Read(b []byte) (int, error) {
	if g.failed != nil {
		return 0, g.failed
	}
	n, err := g.Conn.Read(b)
	if wrong := g.check(b[:n]); wrong != nil {
		g.failed = wrong
		g.Conn.Close()
		return 0, wrong
	}
	return n, err
}

// check follows the replies (RESP 2 and 3).
func (g *guard) check(b []byte) error {
	if g.received += len(b); g.received > maxReply {
		return errReply
	}
	for len(b) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(b))
			g.skip -= n
			b = b[n:]
			continue
		}
		c := b[0]
		b = b[1:]
		if g.line < len(g.header) {
			g.header[g.line] = c
		}
		if g.line++; g.line > maxLine {
			return errReply
		}
		if c == '\n' {
			line := g.header[:min(g.line, len(g.header))]
			g.line = 0
			if err := g.endLine(line); err != nil {
				return err
			}
		}
	}
	return nil
}

// endLine is called for each line with its first bytes.
func (g *guard) endLine(line []byte) error {
	for len(g.open) > 0 && g.open[len(g.open)-1] == 0 {
		g.open = g.open[:len(g.open)-1]
	}
	if last := len(g.open) - 1; last >= 0 {
		g.open[last]--
	}
	each := 1 // elements of a list for each that it counts
	switch line[0] {
	case '|': // an attribute of RESP 3, for each of which go-redis calls itself
		return fmt.Errorf("%w: an attribute", errReply)
	case '$', '=', '!':
		limit := maxBulk
		if line[0] == '!' {
			limit = maxLine
		}
		n, err := length(line, limit)
		if n >= 0 {
			g.skip = n + len("\r\n")
		}
		return err
	case '%':
		each = 2
	case '*', '~', '>':
	default:
		return nil
	}
	if g.lists++; g.lists > maxLists {
		return fmt.Errorf("%w: too many lists", errReply)
	}
	n, err := length(line, maxElements)
	if err != nil || n <= 0 {
		return err
	}
	if g.open = append(g.open, n*each); len(g.open) > maxDepth {
		return errReply
	}
	return nil
}

// length returns the number in a line, or -1 for a value that is null.
func length(line []byte, limit int) (int, error) {
	if len(line) < 4 || string(line[len(line)-2:]) != "\r\n" { // also a number that is cut
		return 0, errReply
	}
	n, err := strconv.Atoi(string(line[1 : len(line)-2]))
	switch {
	case err != nil || n < -1:
		return 0, errReply
	case n > limit:
		return 0, fmt.Errorf("%w: a length of %d", errReply, n)
	}
	return n, nil
}
