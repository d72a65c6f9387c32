//go:build cgo

package sslfilter

import (
	"fmt"
	"strings"

	"github.com/seed-014b8713/sslfilter/internal/servernames"
)

// NameMap chooses a context by the server name of a ClientHello. It is immutable
// and safe for concurrent use: to change certificates, make a new one. The zero
// value has no contexts.
type NameMap struct {
	exact     map[string]*Ctx // by the name as servernames.Fold returns it
	wildcards map[string]*Ctx // by the name without "*", which begins with a dot
	def       *Ctx
}

// NewNameMap makes a NameMap of the contexts of servers. The names are the DNS
// names in the subjectAltName of their certificates; the common name does not
// count (RFC 9525), and neither does a name that is not ASCII or that ends with a
// dot. If a context has several identities, a name counts if the certificates of
// all of them are valid for it.
//
// An exact name takes precedence over a wildcard, even if def has the exact name
// and a context in more has the wildcard. If several contexts have the same name,
// the first one in more is chosen, and def only if no context in more has the name.
// def also serves every other name, and clients without a server name. If def is
// nil, such clients are refused.
//
// NewNameMap returns a *UsageError if a context is closed or is a client's. It also
// does so if the certificates of a context in more have no such name, because that
// context would never be chosen. If OpenSSL runs out of memory, the error is an
// *Error. The NameMap does not close the contexts, and they must not be closed while
// it is in use; a context does not need to be closed at all.
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
	names, err := ctx.shared.names()
	several := len(ctx.shared.identities) > 1
	ctx.shared.release()
	if err != nil {
		return err
	}
	for _, name := range names {
		in := m.exact
		if tail, ok := strings.CutPrefix(name, "*."); ok {
			in, name = m.wildcards, "."+tail
		}
		named = false
		if in[name] == nil {
			in[name] = ctx
		}
	}
	switch {
	case named && several:
		return &UsageError{op, "there is no DNS name for which all certificates of " + what + " are valid"}
	case named:
		return &UsageError{op, "the certificate of " + what + " has no DNS name"}
	}
	return nil
}

// names returns the names for which the certificates of all identities are valid.
func (s *sharedCtx) names() ([]string, error) {
	own := make([][]string, len(s.identities))
	for i := range own {
		var err error
		if own[i], err = s.ownNames(i); err != nil {
			return nil, err
		}
	}
	return servernames.Common(own...), nil
}

// Choose returns the context for the server name: one whose certificate has
// exactly this name, or else one that has it with "*" as the first label, or else
// def. If def is nil, the error is a *ServerNameError.
func (m *NameMap) Choose(hello *ClientHello) (*Ctx, error) {
	if ctx := m.byName(servernames.Fold(strings.TrimSuffix(hello.ServerName, "."))); ctx != nil {
		return ctx, nil
	}
	if m.def == nil {
		return nil, &ServerNameError{ServerName: hello.ServerName}
	}
	return m.def, nil
}

// byName returns the context whose certificate has the name, or nil.
func (m *NameMap) byName(name string) *Ctx {
	if ctx := m.exact[name]; ctx != nil {
		return ctx
	}
	if dot := strings.IndexByte(name, '.'); dot > 0 {
		return m.wildcards[name[dot:]]
	}
	return nil
}
