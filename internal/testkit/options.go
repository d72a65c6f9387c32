package testkit

import "github.com/seed-014b8713/sslfilter"

// Change changes options. All functions here skip a nil Change.
type Change = func(*sslfilter.Options)

// With returns a copy of o with changes.
func With(o sslfilter.Options, changes ...Change) sslfilter.Options {
	for _, change := range changes {
		if change != nil {
			change(&o)
		}
	}
	return o
}

// Server returns options of a server with the RSA certificate for localhost,
// server.test and 127.0.0.1.
func Server(changes ...Change) sslfilter.Options { return ServerOf("server", changes...) }

// ServerOf is Server with another certificate of the test PKI, such as
// "server-ec" or "server-expired".
func ServerOf(name string, changes ...Change) sslfilter.Options {
	o := sslfilter.Options{Crt: PKI(name + ".crt"), Key: PKI(name + ".key")}
	if name == "server-inter" {
		o.Chain = PKI("chain.pem")
	}
	return With(o, changes...)
}

// Asking returns options of a Server that asks for a client certificate of the
// test PKI, and accepts every client.
func Asking(changes ...Change) sslfilter.Options {
	o := Server()
	o.ClientCert, o.CACrt = true, PKI("root.crt")
	return With(o, changes...)
}

// Requiring returns options of a Server that rejects a client without a valid
// certificate of the test PKI.
func Requiring(changes ...Change) sslfilter.Options {
	o := Asking(changes...)
	o.ClientCert, o.RequireValidClientCert = false, true
	return o
}

// Client returns options of a client that trusts the test PKI and verifies the
// name localhost.
func Client(changes ...Change) sslfilter.Options {
	return With(sslfilter.Options{Client: true, CACrt: PKI("root.crt"), ServerName: "localhost"}, changes...)
}

// Showing returns options of a Client with a certificate of the test PKI. An
// empty key is client.key, which belongs to most certificates; with an empty crt
// there is no certificate.
func Showing(crt, key string, changes ...Change) sslfilter.Options {
	o := Client()
	if crt != "" {
		o.Crt, o.Key = PKI(crt), PKI("client.key")
	}
	if key != "" {
		o.Key = PKI(key)
	}
	return With(o, changes...)
}

// TLS12 allows only TLS 1.2.
func TLS12(o *sslfilter.Options) { o.TLS12 = true }

// TLS13 allows only TLS 1.3.
func TLS13(o *sslfilter.Options) { o.MinVersion = sslfilter.VersionTLS13 }

// UpTo sets the highest version.
func UpTo(v sslfilter.Version) Change {
	return func(o *sslfilter.Options) { o.MaxVersion = v }
}

// Only allows one version.
func Only(v sslfilter.Version) Change {
	return func(o *sslfilter.Options) { o.MinVersion, o.MaxVersion = v, v }
}

// ServerName sets the name that a client sends and verifies.
func ServerName(name string) Change {
	return func(o *sslfilter.Options) { o.ServerName = name }
}

// Cipher sets the cipher list.
func Cipher(list string) Change {
	return func(o *sslfilter.Options) { o.Cipher = list }
}
