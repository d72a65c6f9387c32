//go:build cgo

package sslfilter

import (
	"io/fs"
	"maps"
	"time"
)

// LiveHandles counts C objects that were made and not freed.
func LiveHandles() int64 { return liveHandles.Load() }

// ErrorQueued reports whether the error queue of this thread holds anything.
func ErrorQueued() bool { return errorQueued() }

// ForgetCRLs empties the process's cache of CRL files.
func ForgetCRLs() {
	forget(&serialFiles, (*crlSerials).close)
	forget(&listFiles, (*crlLists).close)
}

func forget[T any](k *crlCache[T], free func(T)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.files {
		if c.err == nil {
			free(c.crl)
		}
	}
	k.files = nil
}

// CRLCached reports whether the cache holds the version of file that info
// describes. racy is true if the file was changed so recently that it would be
// read again.
func CRLCached(file string, info fs.FileInfo) (cached, racy bool) {
	c := serialFiles.get(file, info)
	return c != nil, c != nil && c.racy
}

// KeepsSecrets reports whether c has a passphrase or a content in Go memory, such as a private
// key.
func KeepsSecrets(c *Ctx) bool {
	o := &c.shared.opts
	keeps := o.KeyPassphrase != nil || o.Identities != nil
	for _, s := range o.fileOptions() {
		keeps = keeps || s.inMem()
	}
	for _, s := range c.shared.identities {
		keeps = keeps || s.key.inMem() || s.chain.inMem() || s.passphrase != nil
	}
	return keeps
}

// RacyCRL is the age below which a file is read again.
const RacyCRL time.Duration = racyCRL

// OpenSSLNumber is OPENSSL_VERSION_NUMBER at run time.
func OpenSSLNumber() uint64 { return opensslNumber() }

// Bounds that are not public.
const (
	MaxPEMFile   = maxPEMFile
	MaxALPN      = maxALPN
	MaxLogged    = maxLoggedOnce
	MaxLibraries = maxLibraries
	MaxCANames   = maxCANames
	MaxOwnChain  = maxOwnChain
	MaxCAFiles   = maxCAFiles
)

// Judge verifies a chain outside of the handshake, with the options of f. The
// certificates are in DER form, the leaf first. valid is false if a side that
// requires a valid certificate would reject the chain.
func Judge(f *Filter, chain [][]byte) (ids []CertID, valid bool, err error) {
	v, err := f.ssl.judge(f.ctx.lib, chain)
	if err != nil {
		return nil, false, err
	}
	defer v.close()
	records, _ := v.verdict().records()
	return certIDs(records), v.verdict().acceptable(), nil
}

// AgeTicketKeys makes random keys older.
func AgeTicketKeys(k *TicketKeys, by time.Duration) {
	if h, err := k.handle(); err == nil {
		h.age(by)
	}
}

// CountTicketKeys returns the number of keys, or -1 if something is left of the keys that
// were removed.
func CountTicketKeys(k *TicketKeys) int {
	h, err := k.handle()
	if err != nil {
		return -1
	}
	return h.count()
}

// CachedCerts returns the number of parsed certificates of clients that a context keeps.
func CachedCerts(c *Ctx) int { return c.shared.cachedCerts() }

// Newer has the version of OpenSSL that introduced a name, for the names that are
// errors with earlier ones.
func Newer() map[string]string {
	all := make(map[string]string)
	for _, names := range newer {
		maps.Copy(all, names)
	}
	for _, flag := range confFlags {
		if flag.needs != "" {
			all[flag.name] = flag.needs
		}
	}
	for _, kind := range newerKeys {
		all[kind] = "3.5"
	}
	return all
}
