//go:build cgo

package openssl

import (
	"bytes"
	"errors"
	"sync"
)

// CertificateStore is a set of trusted certificates. It is safe for concurrent use.
type CertificateStore struct {
	mu    sync.Mutex
	certs [][]byte // PEM; only appended to
}

// NewCertificateStore returns an empty store.
func NewCertificateStore() (*CertificateStore, error) { return new(CertificateStore), nil }

// AddCertificate adds cert to the trusted certificates. A certificate that is in the
// store is not added again.
func (s *CertificateStore) AddCertificate(cert *Certificate) error {
	pem, err := cert.MarshalPEM()
	if err != nil {
		return err
	}
	s.add(pem)
	return nil
}

func (s *CertificateStore) add(pem []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.certs {
		if bytes.Equal(c, pem) {
			return
		}
	}
	s.certs = append(s.certs, pem)
}

// LoadCertificatesFromPEM adds all certificates in data, of which there must be at
// least one. If one of them cannot be read, none is added.
func (s *CertificateStore) LoadCertificatesFromPEM(data []byte) error {
	var list [][]byte
	for _, block := range SplitPEM(data) {
		if !isCertificate(block) {
			continue
		}
		cert, err := LoadCertificateFromPEM(block)
		if err != nil {
			return err
		}
		pem, err := cert.MarshalPEM()
		if err != nil {
			return err
		}
		list = append(list, pem)
	}
	if len(list) == 0 {
		return errors.New("openssl: no certificate in the PEM data")
	}
	for _, pem := range list {
		s.add(pem)
	}
	return nil
}

// isCertificate reports whether a block is one that OpenSSL reads as a trusted
// certificate.
func isCertificate(block []byte) bool {
	for _, label := range []string{"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"} {
		if bytes.HasPrefix(block, []byte("-----BEGIN "+label+"-----")) {
			return true
		}
	}
	return false
}

// all returns the certificates. The caller must not change the result.
func (s *CertificateStore) all() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.certs[:len(s.certs):len(s.certs)]
}
