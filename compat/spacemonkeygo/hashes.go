package openssl

// MD4Hash is a running MD4 digest.
// With OpenSSL 3 it comes from the legacy provider, which only MD4 uses.
type MD4Hash struct{ hash }

// NewMD4Hash starts a digest.
func NewMD4Hash() (*MD4Hash, error) { return NewMD4HashWithEngine(nil) }

// NewMD4HashWithEngine starts a digest that the engine e computes; nil is
// OpenSSL's own implementation.
func NewMD4HashWithEngine(e *Engine) (*MD4Hash, error) {
	s := new(MD4Hash)
	return start(s, &s.hash, EVP_MD4, e)
}

// Sum returns the digest of all data since the last Sum or Reset, and starts a new one.
func (s *MD4Hash) Sum() (result [16]byte, err error) { return result, s.sum(result[:]) }

// MD4 returns the digest of data.
func MD4(data []byte) (result [16]byte, err error) { return result, digest(EVP_MD4, data, result[:]) }

// MD5Hash is a running MD5 digest.
type MD5Hash struct{ hash }

// NewMD5Hash starts a digest.
func NewMD5Hash() (*MD5Hash, error) { return NewMD5HashWithEngine(nil) }

// NewMD5HashWithEngine starts a digest that the engine e computes; nil is
// OpenSSL's own implementation.
func NewMD5HashWithEngine(e *Engine) (*MD5Hash, error) {
	s := new(MD5Hash)
	return start(s, &s.hash, EVP_MD5, e)
}

// Sum returns the digest of all data since the last Sum or Reset, and starts a new one.
func (s *MD5Hash) Sum() (result [16]byte, err error) { return result, s.sum(result[:]) }

// MD5 returns the digest of data.
func MD5(data []byte) (result [16]byte, err error) { return result, digest(EVP_MD5, data, result[:]) }

// SHA1Hash is a running SHA1 digest.
type SHA1Hash struct{ hash }

// NewSHA1Hash starts a digest.
func NewSHA1Hash() (*SHA1Hash, error) { return NewSHA1HashWithEngine(nil) }

// NewSHA1HashWithEngine starts a digest that the engine e computes; nil is
// OpenSSL's own implementation.
func NewSHA1HashWithEngine(e *Engine) (*SHA1Hash, error) {
	s := new(SHA1Hash)
	return start(s, &s.hash, EVP_SHA1, e)
}

// Sum returns the digest of all data since the last Sum or Reset, and starts a new one.
func (s *SHA1Hash) Sum() (result [20]byte, err error) { return result, s.sum(result[:]) }

// SHA1 returns the digest of data.
func SHA1(data []byte) (result [20]byte, err error) { return result, digest(EVP_SHA1, data, result[:]) }

// SHA256Hash is a running SHA256 digest.
type SHA256Hash struct{ hash }

// NewSHA256Hash starts a digest.
func NewSHA256Hash() (*SHA256Hash, error) { return NewSHA256HashWithEngine(nil) }

// NewSHA256HashWithEngine starts a digest that the engine e computes; nil is
// OpenSSL's own implementation.
func NewSHA256HashWithEngine(e *Engine) (*SHA256Hash, error) {
	s := new(SHA256Hash)
	return start(s, &s.hash, EVP_SHA256, e)
}

// Sum returns the digest of all data since the last Sum or Reset, and starts a new one.
func (s *SHA256Hash) Sum() (result [32]byte, err error) { return result, s.sum(result[:]) }

// SHA256 returns the digest of data.
func SHA256(data []byte) (result [32]byte, err error) {
	return result, digest(EVP_SHA256, data, result[:])
}
