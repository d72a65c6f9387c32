//go:build cgo

package sslfilter

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"
)

// applyCACRL reads the CRLs of CACRL and CACRLMem. Only their serial numbers are
// compared.
func (s *sharedCtx) applyCACRL() error {
	switch crl := s.opts.fileOption("CACRL"); {
	case crl.inMem():
		in, err := crl.read()
		if err == nil {
			s.memSerials, err = parseSerials(in.data)
		}
		if err != nil {
			return in.wrap(err)
		}
	case crl.given():
		serials, err := loadSerials(crl.file)
		if err != nil {
			return crl.input().wrap(unwrapPath(err))
		}
		if s.opts.ReadCRLOnce {
			s.readSerials = serials
		}
	}
	return nil
}

// applyCRLCheck reads the CRLs that OpenSSL checks.
func (s *sharedCtx) applyCRLCheck() error {
	o := &s.opts
	if o.CRLCheck == CRLCheckOff {
		return nil
	}
	inputs, err := o.fileOption("CRL").contents()
	if err != nil {
		return err
	}
	for _, in := range inputs {
		list, err := parseLists(in.data)
		if err != nil {
			return in.wrap(err)
		}
		s.memLists = append(s.memLists, list)
	}
	if _, err := s.currentLists(); err != nil {
		return err
	}
	return s.checkLists(o.CRLCheck == CRLCheckChain)
}

// currentLists returns the lists for a handshake that begins now. It reads a file
// again if the file has changed, except with ReadCRLOnce. The error names the file
// that cannot be used.
func (s *sharedCtx) currentLists() (*crlLists, error) {
	have := s.crls.Load()
	if have != nil && s.opts.ReadCRLOnce {
		return have.list, nil
	}
	next := &crlSet{files: make([]*cachedCRL[*crlLists], len(s.opts.CRLFiles))}
	known := have != nil
	lists := s.memLists[:len(s.memLists):len(s.memLists)]
	for i, file := range s.opts.CRLFiles {
		var last *cachedCRL[*crlLists]
		if have != nil {
			last = have.files[i]
		}
		c, err := listFiles.load(file, last)
		if err != nil {
			return nil, &OptionError{Option: "CRLFiles", File: file, Err: unwrapPath(err)}
		}
		known = known && c.crl == last.crl
		next.files[i] = c
		lists = append(lists, c.crl)
	}
	if known {
		next.list, next.own = have.list, have.own
	} else {
		list, own, err := s.lib.joinLists(lists)
		if err != nil {
			return nil, &OptionError{Option: "CRLFiles", Err: err}
		}
		next.list, next.own = list, own
	}
	s.crls.Store(next)
	return next.list, nil
}

// takeLists gives the connection the current lists when its handshake begins.
// If they cannot be used, no peer is valid.
func (f *Filter) takeLists() {
	if f.ctx.opts.CRLCheck == CRLCheckOff {
		return
	}
	f.lists, f.listsErr = f.ctx.currentLists()
	if f.listsErr != nil {
		f.debug("CRLs cannot be used, so that no peer is valid", "error", f.listsErr)
	}
	f.ssl.setLists(f.lists)
}

// CRL is a CRL in a file of a context, as OpenSSL parses it.
type CRL struct {
	Option string // "CACRL" or "CRLFiles"
	File   string
	// Issuer is the issuer's name in the form of RFC 2253, as in Names. It is
	// empty if OpenSSL cannot print it.
	Issuer string
	// ThisUpdate is the date of the CRL, and NextUpdate the date of the next
	// one. They are zero if the CRL has none, or if OpenSSL cannot read it.
	ThisUpdate, NextUpdate time.Time
	Serials                int // the number of revoked serials
}

// CRLs describes the CRLs in the files of CACRL and CRLFiles. It reads the files as
// they are now, with ReadCRLOnce too. The error is an *OptionError if one of them
// can no longer be used, and ErrClosed after Close.
//
// Calls d2i_X509_CRL(3).
func (c *Ctx) CRLs() (all []CRL, err error) {
	if !c.acquire() {
		return nil, ErrClosed
	}
	defer c.shared.release()
	o := &c.shared.opts
	add := func(option, file string) error {
		pem, err := readCRL(file)
		if err == nil {
			var list []CRL
			list, err = describeCRLs(option, file, pem)
			all = append(all, list...)
		}
		if err != nil {
			return &OptionError{Option: option, File: file, Err: unwrapPath(err)}
		}
		return nil
	}
	if c.shared.memSerials == nil && o.CACRL != "" {
		err = add("CACRL", o.CACRL)
	}
	if o.CRLCheck != CRLCheckOff {
		for i := 0; err == nil && i < len(o.CRLFiles); i++ {
			err = add("CRLFiles", o.CRLFiles[i])
		}
	}
	if err != nil {
		return nil, err
	}
	return all, nil
}

func readCRL(file string) ([]byte, error) {
	f, _, err := openCRL(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f)
}

// asksSerials reports whether CACRL or CACRLMem is given.
func (s *sharedCtx) asksSerials() bool { return s.memSerials != nil || s.opts.CACRL != "" }

// serials returns the serials of CACRLMem or of CACRL. It reads the file again
// if the file has changed, except with ReadCRLOnce.
func (s *sharedCtx) serials() (*crlSerials, error) {
	switch {
	case s.memSerials != nil:
		return s.memSerials, nil
	case s.readSerials != nil:
		return s.readSerials, nil
	}
	return loadSerials(s.opts.CACRL)
}

// crlSet is the content of a context's files when they were last checked. It is
// immutable: a change makes a new one.
type crlSet struct {
	list  *crlLists // of all files and of CRLMem
	own   bool      // list was made for this set, and does not belong to the cache or to CRLMem
	files []*cachedCRL[*crlLists]
}

// maxCRLFiles bounds Options.CRLFiles: every handshake checks all of them.
const maxCRLFiles = 256

// closeLists frees the lists and serials that belong to this context alone. It
// is called when the last filter is gone.
func (s *sharedCtx) closeLists() {
	if set := s.crls.Load(); set != nil && set.own {
		set.list.close()
	}
	for _, list := range s.memLists {
		list.close()
	}
	if s.memSerials != nil {
		s.memSerials.close()
	}
}

const (
	// maxCachedCRLs bounds the number of files that are kept parsed, for each
	// of the two forms: sorted serials and whole CRLs.
	maxCachedCRLs = 32
	// racyCRL is the age below which the modification time does not prove that
	// a file is unchanged: it may have been written twice within one tick of
	// the file system's clock.
	racyCRL = 2 * time.Second
)

// The caches are shared by the process, since New makes a context for each
// connection. A file may be in both.
var (
	serialFiles = crlCache[*crlSerials]{parse: parseSerials} // CACRL
	listFiles   = crlCache[*crlLists]{parse: parseLists}     // CRLFiles
)

// crlCache keeps parsed CRL files in the form T.
type crlCache[T any] struct {
	parse func(pem []byte) (T, error)

	mu      sync.Mutex
	files   map[string]*cachedCRL[T]
	reading map[string]*crlReader
	clock   uint64
}

// cachedCRL is a parsed file and the data that identifies it. It is immutable,
// except used.
type cachedCRL[T any] struct {
	info fs.FileInfo
	sum  [sha256.Size]byte
	read time.Time // when reading started
	racy bool      // the file was younger than racyCRL when it was read
	crl  T         // nil if err is set
	err  error     // the parse error, which stays until the file changes
	used uint64
}

// isOf reports whether c was parsed from the file that info describes, judged
// by inode, size and modification time.
func (c *cachedCRL[T]) isOf(info fs.FileInfo) bool {
	return os.SameFile(c.info, info) && c.info.Size() == info.Size() && c.info.ModTime().Equal(info.ModTime())
}

// crlReader lets only one goroutine at a time read a file. The others would
// need the same memory and time again, and parsing a large CRL takes hundreds
// of megabytes.
type crlReader struct {
	sync.Mutex
	users int
}

func (k *crlCache[T]) lockFile(file string) (unlock func()) {
	k.mu.Lock()
	r := k.reading[file]
	if r == nil {
		r = new(crlReader)
		if k.reading == nil {
			k.reading = make(map[string]*crlReader)
		}
		k.reading[file] = r
	}
	r.users++
	k.mu.Unlock()
	r.Lock()
	return func() {
		r.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if r.users--; r.users == 0 {
			delete(k.reading, file)
		}
	}
}

// load returns the parsed CRLs of file. It takes them from the cache if the
// file is unchanged: by inode, size and modification time, and also by content
// if that time is too recent to be reliable. The result is never older than the
// call. have is what the caller got last time, or nil; the cache may have
// dropped it.
func (k *crlCache[T]) load(file string, have *cachedCRL[T]) (*cachedCRL[T], error) {
	asked := time.Now()
	f, info, err := openCRL(file)
	if err != nil {
		return nil, err
	}
	f.Close()
	if have != nil && !have.racy && have.isOf(info) {
		return have, have.err
	}
	if c := k.get(file, info); c != nil && !c.racy {
		return c, c.err
	}
	defer k.lockFile(file)()
	if f, info, err = openCRL(file); err != nil { // the file may have been replaced
		return nil, err
	}
	defer f.Close()
	c := k.get(file, info)
	if c != nil && (!c.racy || !c.read.Before(asked)) {
		return c, c.err
	}
	read := time.Now()
	data, err := readAll(f)
	if err != nil {
		return nil, err
	}
	fresh := &cachedCRL[T]{info: info, sum: sha256.Sum256(data), read: read, racy: read.Sub(info.ModTime()) < racyCRL}
	if c == nil {
		c = have
	}
	if c != nil && c.sum == fresh.sum {
		fresh.crl, fresh.err = c.crl, c.err
	} else if fresh.crl, fresh.err = k.parse(data); fresh.err != nil { // once more: OpenSSL does not always report a lack of memory
		fresh.crl, fresh.err = k.parse(data)
	}
	if errors.Is(fresh.err, errNoMemory) { // the file is not to blame
		return nil, fresh.err
	}
	k.keep(file, fresh)
	return fresh, fresh.err
}

// openCRL opens a regular file. Other kinds of files cannot be read again or
// have no end, and opening a pipe without a writer would block.
func openCRL(file string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = &fs.PathError{Op: "read", Path: file, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func (k *crlCache[T]) get(file string, info fs.FileInfo) *cachedCRL[T] {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.files[file]
	if c == nil || !c.isOf(info) {
		return nil
	}
	k.clock++
	c.used = k.clock
	return c
}

func (k *crlCache[T]) keep(file string, c *cachedCRL[T]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.files == nil {
		k.files = make(map[string]*cachedCRL[T])
	}
	k.clock++
	c.used = k.clock
	k.files[file] = c
	for len(k.files) > maxCachedCRLs {
		oldest := file
		for name, other := range k.files {
			if other.used < k.files[oldest].used {
				oldest = name
			}
		}
		delete(k.files, oldest)
	}
}

// loadSerials returns the serials of the CRLs in file, as it is now.
func loadSerials(file string) (*crlSerials, error) {
	c, err := serialFiles.load(file, nil)
	if err != nil {
		return nil, err
	}
	return c.crl, nil
}
