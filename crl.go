package sslfilter

/*
#include "cgo_helpers.h"
*/
import "C"

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// crlHandle owns the sorted serials of every CRL in a file.
type crlHandle struct {
	handle[*C.fssl_crl]
	entries int // revoked serials in all lists
}

func freeCRL(p *C.fssl_crl) { C.fssl_crl_free(p) }

func (h *crlHandle) close() { h.handle.close(freeCRL) }

// parseCRL reads every CRL of pem; there is at least one, and none is broken.
func parseCRL(pem []byte) (*crlHandle, error) {
	var errs C.fssl_errors
	var blocks C.int
	p := C.fssl_crl_parse(&blocks, bytesPtr(pem), C.size_t(len(pem)), &errs)
	if p == nil && blocks < 0 {
		return nil, outOfMemory("PEM_read_bio_X509_CRL", records(&errs))
	}
	if p == nil {
		in := input{data: pem}
		return nil, in.notPEM(pemCRL, newError("PEM_read_bio_X509_CRL", 0, records(&errs)))
	}
	h := &crlHandle{entries: int(p.n)}
	lists := int(p.lists)
	h.own(p, freeCRL)
	err := checkBlocks(pem, int(blocks))
	if err == nil && lists == 0 {
		in := input{data: pem}
		err = in.notPEM(pemCRL, errors.New("no CRL in it"))
	}
	if err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// listed gives the index of the first recorded certificate whose serial is on
// the list, or -1.
func (h *sslHandle) listed(crl *crlHandle) int {
	defer runtime.KeepAlive(h)
	defer runtime.KeepAlive(crl)
	return int(C.fssl_conn_on_crl(h.ptr, crl.ptr))
}

// setCRL is what the verify callback of an enforcing side tests; nil blocks
// everybody. The caller keeps crl alive as long as h.
func (h *sslHandle) setCRL(crl *crlHandle) {
	defer runtime.KeepAlive(h)
	if crl == nil {
		h.ptr.crl, h.ptr.crl_mode = nil, C.FSSL_CRL_BLOCK
		return
	}
	h.ptr.crl, h.ptr.crl_mode = crl.ptr, C.FSSL_CRL_CHECK
}

const (
	// maxCachedCRLs bounds the number of files that are kept parsed.
	maxCachedCRLs = 32
	// racyCRL is the age below which a file's time of change does not prove
	// that it is unchanged: it may have been written twice within one tick of
	// the file system's clock.
	racyCRL = 2 * time.Second
)

// cachedCRL is one parsed file and what it was parsed from.
type cachedCRL struct {
	info fs.FileInfo
	sum  [sha256.Size]byte
	read time.Time // when reading began
	racy bool
	crl  *crlHandle // nil where err is set
	err  error      // a file that is broken stays so until it changes
	used uint64
}

// crlCache keeps parsed files for the whole process, since the original's New
// makes a context for each connection.
var crlCache struct {
	sync.Mutex
	files   map[string]*cachedCRL
	reading map[string]*crlReader
	clock   uint64
}

// crlReader lets one goroutine at a time read a file. All others that ask
// meanwhile would need the same memory and time once more, and a large list
// takes hundreds of megabytes while it is parsed.
type crlReader struct {
	sync.Mutex
	users int
}

func lockFile(file string) (unlock func()) {
	crlCache.Lock()
	r := crlCache.reading[file]
	if r == nil {
		r = new(crlReader)
		if crlCache.reading == nil {
			crlCache.reading = make(map[string]*crlReader)
		}
		crlCache.reading[file] = r
	}
	r.users++
	crlCache.Unlock()
	r.Lock()
	return func() {
		r.Unlock()
		crlCache.Lock()
		defer crlCache.Unlock()
		if r.users--; r.users == 0 {
			delete(crlCache.reading, file)
		}
	}
}

// loadCRL parses the CRLs in file, or takes them from the cache if the file is
// the same: by inode, size and time of change, and by its content where that
// time is too recent to tell. The answer is never older than the question.
func loadCRL(file string) (*crlHandle, error) {
	asked := time.Now()
	f, info, err := openCRL(file)
	if err != nil {
		return nil, err
	}
	f.Close()
	if c := cachedFile(file, info); c != nil && !c.racy {
		return c.crl, c.err
	}
	defer lockFile(file)()
	if f, info, err = openCRL(file); err != nil { // it may be another by now
		return nil, err
	}
	defer f.Close()
	c := cachedFile(file, info)
	if c != nil && (!c.racy || !c.read.Before(asked)) {
		return c.crl, c.err
	}
	read := time.Now()
	data, err := readAll(f)
	if err != nil {
		return nil, err
	}
	fresh := &cachedCRL{info: info, sum: sha256.Sum256(data), read: read, racy: read.Sub(info.ModTime()) < racyCRL}
	if c != nil && c.sum == fresh.sum {
		fresh.crl, fresh.err = c.crl, c.err
	} else {
		if fresh.crl, fresh.err = parseCRL(data); fresh.err != nil { // OpenSSL does not always say that memory was short
			fresh.crl, fresh.err = parseCRL(data)
		}
	}
	if errors.Is(fresh.err, errNoMemory) { // that is not the file's fault
		return nil, fresh.err
	}
	keepFile(file, fresh)
	return fresh.crl, fresh.err
}

// openCRL opens a regular file. Anything else has no second reading, or none
// that ends, and a pipe without a writer would block.
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

func cachedFile(file string, info fs.FileInfo) *cachedCRL {
	crlCache.Lock()
	defer crlCache.Unlock()
	c := crlCache.files[file]
	if c == nil || !os.SameFile(c.info, info) || c.info.Size() != info.Size() || !c.info.ModTime().Equal(info.ModTime()) {
		return nil
	}
	crlCache.clock++
	c.used = crlCache.clock
	return c
}

func keepFile(file string, c *cachedCRL) {
	crlCache.Lock()
	defer crlCache.Unlock()
	if crlCache.files == nil {
		crlCache.files = make(map[string]*cachedCRL)
	}
	crlCache.clock++
	c.used = crlCache.clock
	crlCache.files[file] = c
	for len(crlCache.files) > maxCachedCRLs {
		oldest := file
		for name, other := range crlCache.files {
			if other.used < crlCache.files[oldest].used {
				oldest = name
			}
		}
		delete(crlCache.files, oldest)
	}
}

// CRLStatus is the outcome of a look into a CRL file.
type CRLStatus int

const (
	CRLNotAsked      CRLStatus = iota // no file was named
	CRLNotListed                      // no serial of the chain is on a list: the only outcome that does not block
	CRLListed                         // a serial of the chain is on a list
	CRLEmpty                          // the lists have no entry at all, which blocks, as in the original
	CRLUnusable                       // the file is missing or cannot be read or parsed, which blocks
	CRLNoCertificate                  // the peer showed no certificate, which is never "not on the CRL"
)

func (s CRLStatus) String() string {
	switch s {
	case CRLNotAsked:
		return "not asked"
	case CRLNotListed:
		return "not listed"
	case CRLListed:
		return "listed"
	case CRLEmpty:
		return "the CRL has no entries"
	case CRLUnusable:
		return "the CRL cannot be used"
	case CRLNoCertificate:
		return "no certificate"
	}
	return fmt.Sprintf("CRLStatus(%d)", int(s))
}

// CRLResult is a CRLStatus with its reason.
type CRLResult struct {
	Status  CRLStatus
	File    string
	Subject string // CRLListed: of the first listed certificate of the chain
	Serial  []byte // CRLListed: its serial, as in CertID
	Err     error  // CRLUnusable: why
}

// OK reports whether the certificate is not blocked: it is not listed, or no
// file was named.
func (r CRLResult) OK() bool { return r.Status == CRLNotListed || r.Status == CRLNotAsked }

func (r CRLResult) String() string {
	switch r.Status {
	case CRLListed:
		return fmt.Sprintf("%s: serial %s of %s is listed", r.File, Hexdump(r.Serial), r.Subject)
	case CRLUnusable:
		return fmt.Sprintf("%s: %v: %v", r.File, r.Status, r.Err)
	case CRLNotAsked:
		return r.Status.String()
	}
	return fmt.Sprintf("%s: %v", r.File, r.Status)
}
