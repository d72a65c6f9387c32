//go:build cgo

package sslfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NameMap chooses a context by the server name of a ClientHello. It is immutable
// and safe for concurrent use: for other certificates make a new one. The zero
// value has no contexts.
type NameMap struct {
	exact     map[string]*Ctx // by the name in lowercase
	wildcards map[string]*Ctx // by the name without "*", which begins with a dot
	def       *Ctx
}

// NewNameMap makes a NameMap of the contexts of servers. The names are the DNS
// names in the subjectAltName of their certificates; the common name does not
// count (RFC 9525). If a context has several identities, only the names that all
// of their certificates have count. If several contexts have the same name, the first of more is
// chosen, and def last. def may be nil; otherwise it also serves every other
// name, and clients that send none.
//
// It returns a *UsageError for a context that is closed or a client's, and for
// one of more whose certificate has no DNS name, because it would never be
// chosen. The NameMap does not close the contexts, and they must not be closed
// while it is in use; a context does not need to be closed at all.
//
// Calls X509_get_ext_d2i(3).
func NewNameMap(def *Ctx, more ...*Ctx) (*NameMap, error) {
	m := &NameMap{exact: make(map[string]*Ctx), wildcards: make(map[string]*Ctx), def: def}
	for i, ctx := range more {
		if err := m.add(ctx, fmt.Sprintf("context %d of more", i+1), true); err != nil {
			return nil, err
		}
	}
	if def != nil {
		if err := m.add(def, "def", false); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *NameMap) add(ctx *Ctx, what string, named bool) error {
	const op = "NewNameMap"
	switch {
	case ctx == nil:
		return &UsageError{op, what + " is nil"}
	case ctx.Client():
		return &UsageError{op, what + " is the context of a client"}
	case !ctx.acquire():
		return &UsageError{op, what + " is closed"}
	}
	names := ctx.shared.names()
	ctx.shared.release()
	for _, name := range names {
		in := m.exact
		if tail, ok := strings.CutPrefix(name, "*."); ok {
			in, name = m.wildcards, "."+tail
		}
		if _, err := netip.ParseAddr(name); err == nil || strings.Contains(name, "*") {
			continue // a ClientHello has no addresses, and "*" counts only as the first label
		}
		named = false
		if in[name] == nil {
			in[name] = ctx
		}
	}
	if named {
		return &UsageError{op, "the certificate of " + what + " has no DNS name"}
	}
	return nil
}

// names returns the names in lowercase that the certificates of all identities
// have.
func (s *sharedCtx) names() (names []string) {
	for i := range s.identities {
		own := s.ownNames(i)
		for n := range own {
			own[n] = strings.ToLower(own[n])
		}
		if i == 0 {
			names = own
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(own, name) })
	}
	return names
}

// Choose returns the context for the server name: one whose certificate has
// exactly this name, or else one that has it with "*" as the first label, or else
// def. If there is none, the error is a *ServerNameError.
func (m *NameMap) Choose(hello *ClientHello) (*Ctx, error) {
	if ctx := m.byName(strings.ToLower(hello.ServerName)); ctx != nil {
		return ctx, nil
	}
	if m.def == nil {
		return nil, &ServerNameError{ServerName: hello.ServerName}
	}
	return m.def, nil
}

// byName returns the context whose certificate has the name, or nil.
func (m *NameMap) byName(name string) *Ctx {
	name = strings.TrimSuffix(name, ".")
	if ctx := m.exact[name]; ctx != nil {
		return ctx
	}
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		return m.wildcards[name[dot:]]
	}
	return nil
}
