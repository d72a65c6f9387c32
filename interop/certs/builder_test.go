package certs_test

import (
	"bytes"
	"crypto/sha1"
	"slices"
	"sync"

	"github.com/seed-014b8713/sslfilter/internal/derpki"
)

// The keys that all rows share.
var (
	rootKey  = derpki.P256("root")
	interKey = derpki.P256("intermediate")
	leafKey  = derpki.P256("leaf")
	otherKey = derpki.P256("other")

	keysOnce sync.Once
	rsaKeys  map[int]*derpki.Key
)

// rsaKey returns a function that makes the key once.
func rsaKey(bits int) *derpki.Key {
	keysOnce.Do(func() {
		rsaKeys = make(map[int]*derpki.Key)
		for _, n := range []int{1024, 2048} {
			rsaKeys[n] = derpki.RSA(n)
		}
	})
	return rsaKeys[bits]
}

// Extensions by their number below 2.5.29.
const (
	skid, keyUsage, san, basic, crlNumber, reason, idp, delta, certIssuer, nameConstraints = 14, 15, 17, 19, 20, 21, 28, 27, 29, 30
	policies, akid, policyConstraints, eku, freshest, inhibitAny                           = 32, 35, 36, 37, 46, 54
)

func ext(critical bool, id int, value []byte) []byte {
	return derpki.Ext(critical, value, 2, 5, 29, id)
}

func isCA(pathLen int) []byte {
	value := derpki.TLV(derpki.TagBoolean, []byte{0xff})
	if pathLen >= 0 {
		value = append(value, derpki.Int(byte(pathLen))...)
	}
	return ext(true, basic, derpki.Seq(value))
}

func notCA() []byte { return ext(true, basic, derpki.Seq()) }

// Bits of the key usage.
const (
	digitalSignature, nonRepudiation, keyEncipherment, dataEncipherment = 0x80, 0x40, 0x20, 0x10
	keyAgreement, certSign, crlSign                                     = 0x08, 0x04, 0x02
)

func usage(bits byte) []byte {
	unused := byte(0)
	for b := bits; b != 0 && b&1 == 0; b >>= 1 {
		unused++
	}
	return ext(true, keyUsage, derpki.TLV(derpki.TagBits, []byte{unused, bits}))
}

// Purposes of the extended key usage, below 1.3.6.1.5.5.7.3.
const serverAuth, clientAuth, codeSigning, emailProtection, timeStamping, ocspSigning = 1, 2, 3, 4, 8, 9

func purposes(critical bool, ids ...int) []byte {
	var list []byte
	for _, id := range ids {
		list = append(list, derpki.OID(1, 3, 6, 1, 5, 5, 7, 3, id)...)
	}
	return ext(critical, eku, derpki.Seq(list))
}

func keyID(k *derpki.Key) []byte {
	sum := sha1.Sum(k.SPKI)
	return sum[:]
}

func subjectID(id []byte) []byte { return ext(false, skid, derpki.TLV(derpki.TagOctets, id)) }

func authorityID(id []byte) []byte { return ext(false, akid, derpki.Seq(derpki.TLV(0x80, id))) }

// General names.
func dns(s string) []byte        { return derpki.TLV(0x82, []byte(s)) }
func email(s string) []byte      { return derpki.TLV(0x81, []byte(s)) }
func uri(s string) []byte        { return derpki.TLV(0x86, []byte(s)) }
func ip(b ...byte) []byte        { return derpki.TLV(0x87, b) }
func dirName(name []byte) []byte { return derpki.TLV(0xa4, name) }

func altNames(names ...[]byte) []byte {
	return ext(false, san, derpki.Seq(names...))
}

// with replaces the extension of the same kind by e, or adds e after the others.
func with(exts [][]byte, e []byte) [][]byte {
	return append(without(exts, int(idOf(e))), e)
}

func without(exts [][]byte, id int) [][]byte {
	return slices.DeleteFunc(slices.Clone(exts), func(e []byte) bool { return int(idOf(e)) == id })
}

// idOf returns the number of an extension below 2.5.29, or 0.
func idOf(e []byte) byte {
	at := bytes.Index(e, []byte{6, 3, 0x55, 0x1d})
	if at < 0 || at > 5 {
		return 0
	}
	return e[at+4]
}

// chain is a root, an intermediate and a leaf that are valid unless a row changes
// them.
type chain struct {
	row
	root, inter, leaf derpki.Cert
}

func newChain(name string) *chain {
	r := row{name: name, key: leafKey, level: 2}
	ca := func(subject, issuer string, key, signer *derpki.Key, serial byte) derpki.Cert {
		return derpki.Cert{
			Serial: derpki.Int(serial), Subject: r.cn(subject), Issuer: r.cn(issuer), Key: key, Signer: signer,
			Exts: [][]byte{isCA(-1), usage(certSign | crlSign), subjectID(keyID(key)), authorityID(keyID(signer))},
		}
	}
	return &chain{
		row:   r,
		root:  ca("root", "root", rootKey, rootKey, 1),
		inter: ca("intermediate", "root", interKey, rootKey, 2),
		leaf: derpki.Cert{
			Serial: derpki.Int(3), Subject: r.cn("leaf"), Issuer: r.cn("intermediate"), Key: leafKey, Signer: interKey,
			Exts: [][]byte{
				usage(digitalSignature), purposes(false, clientAuth, serverAuth), altNames(dns(hostname)),
				subjectID(keyID(leafKey)), authorityID(keyID(interKey)),
			},
		},
	}
}

// at returns one of the three certificates, by its name.
func (c *chain) at(place string) *derpki.Cert {
	return map[string]*derpki.Cert{"root": &c.root, "intermediate": &c.inter, "leaf": &c.leaf}[place]
}

var places = []string{"root", "intermediate", "leaf"}

// unreadable says that one of the three certificates cannot be parsed.
func (c *chain) unreadable(place string) {
	if place == "intermediate" {
		c.differs, c.want = "TLS rejects a list with a certificate that it cannot parse, and the command skips that certificate", answer{unusable: true}
	}
}

// trailing says that there are bytes after one of the three certificates.
func (c *chain) trailing() {
	c.differs, c.want = "the command ignores bytes after the DER; we do not, nor does TLS", answer{unusable: true}
}

// rekey gives one of the three certificates another key, which also signs the
// certificate below it.
func (c *chain) rekey(place string, key *derpki.Key) {
	cert := c.at(place)
	cert.Key = key
	cert.Exts = with(cert.Exts, subjectID(keyID(key)))
	switch place {
	case "root":
		c.root.Signer, c.inter.Signer = key, key
		c.root.Exts = with(c.root.Exts, authorityID(keyID(key)))
		c.inter.Exts = with(c.inter.Exts, authorityID(keyID(key)))
	case "intermediate":
		c.leaf.Signer = key
		c.leaf.Exts = with(c.leaf.Exts, authorityID(keyID(key)))
	case "leaf":
		c.key = key
	}
}

// build makes the certificates that the row has not set itself.
func (c *chain) build() row {
	if c.sent == nil {
		c.sent = [][]byte{c.leaf.DER(), c.inter.DER()}
	}
	if c.roots == nil {
		c.roots = [][]byte{c.root.DER()}
	}
	return c.row
}

// table collects rows.
type table []row

func (t *table) add(name string, change func(*chain)) {
	c := newChain(name)
	if change != nil {
		change(c)
	}
	*t = append(*t, c.build())
}

// ownCertificate returns the certificate and the key of our server.
func ownCertificate() [][]byte {
	c := newChain("")
	return [][]byte{derpki.PEM("CERTIFICATE", c.leaf.DER()), derpki.PEM("PRIVATE KEY", derpki.PKCS8(leafKey))}
}
