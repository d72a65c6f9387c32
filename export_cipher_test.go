//go:build cgo

package sslfilter

// SetSalts replaces the random salts of Ciphers until the returned function is called.
func SetSalts(salt func(b []byte)) (restore func()) {
	newSalt = func(b []byte) error { salt(b); return nil }
	return func() { newSalt = randomBytes }
}
